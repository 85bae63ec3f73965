"""`waypost queue`: where mail waits and why, and what to do about it."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime

from sqlalchemy import select

from mail.errors import PermanentError
from mta import queue_control as control
from storage.sessions import EVERY_COMPANY
from storage.tables import Company
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance


def show(chosen: Namespace) -> int:
    """What waits, by destination, or each message to one destination."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now = parts.clock()
        async with parts.sessions.read(EVERY_COMPANY) as session:
            if chosen.destination:
                which = control.Which(destination=chosen.destination)
                rows = await control.waiting(session, which, limit=1000)
                table(
                    ("delivery", "recipient", "state", "next try (UTC)", "tries", "last said"),
                    [
                        (d.id, d.recipient, d.state, d.due_at, d.attempts, d.last_text or d.reason)
                        for d in rows
                    ],
                    f"Nothing waits for {chosen.destination}.",
                )
                return 0
            found = await control.standings(session)
        heads = (
            "destination",
            "new",
            "sending",
            "later",
            "held",
            "oldest",
            "next try",
            "last said",
        )
        rows_of = [
            (
                s.destination,
                s.waiting,
                s.sending,
                s.deferred,
                s.held,
                _age(now, s.oldest),
                _until(now, s.next_due),
                f"{s.last_code or ''} {s.last_text}".strip() or "-",
            )
            for s in found
        ]
        table(heads, rows_of, "The queue is empty.")
        return 0

    return run(chosen, work)


def act(chosen: Namespace) -> int:
    """Holds, releases, flushes or bounces what waits; says how much it was."""
    if not (chosen.destination or chosen.company or chosen.yes):
        raise PermanentError(
            f"This would {chosen.action} the whole queue. Name a --destination or a --company, "
            "or say --yes."
        )

    async def work(parts: Appliance, chosen: Namespace) -> int:
        if chosen.company:
            companies = [await company_named(parts.sessions, chosen.company)]
        else:
            async with parts.sessions.read(EVERY_COMPANY) as session:
                companies = list(await session.scalars(select(Company.id)))
        which = control.Which(destination=chosen.destination)
        now, reason = parts.clock(), "by command line"
        count = 0
        for company in companies:
            async with parts.sessions.begin(company) as session:
                if chosen.action == "hold":
                    count += await control.hold(session, which, reason=reason)
                elif chosen.action == "release":
                    count += await control.release(session, which, now=now)
                elif chosen.action == "flush":
                    count += await control.flush(session, which, now=now)
                else:
                    count += await control.bounce(session, which, reason=reason, now=now)
        done = {"hold": "held", "release": "released", "flush": "due now", "bounce": "given up"}
        print(f"{count} messages {done[chosen.action]}.")
        return 0

    return run(chosen, work)


def _age(now: datetime, then: datetime) -> str:
    return f"{_span((now - then).total_seconds())} old"


def _until(now: datetime, then: datetime | None) -> str:
    if then is None:
        return "-"
    seconds = (then - now).total_seconds()
    return "now" if seconds <= 0 else f"in {_span(seconds)}"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

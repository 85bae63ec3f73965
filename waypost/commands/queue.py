"""`waypost queue`: where mail waits and why, and what to do about it."""

from __future__ import annotations

import getpass
import json
import sys
from argparse import Namespace
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from config.values import parse_duration
from mail.errors import PermanentError
from mta import overrides, suspensions
from mta import queue_control as control
from mta.queue_control import Action
from mta.queue_explain import why_it_waits
from mta.queue_selection import Which
from mta.retry import State
from mta.shaping.files import shaping
from mta.shaping.site import site_of
from mta.shaping.store import resume_site, suspend_site
from storage.sessions import EVERY_COMPANY, Scope
from storage.tables import Attempt, Audit, Delivery, Message
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance

WIDTH = 80
LISTED = 1000
DONE = {
    Action.HOLD: "held",
    Action.RELEASE: "released",
    Action.FLUSH: "due now",
    Action.BOUNCE: "given up",
    Action.DROP: "given up without a report",
    Action.AGAIN: "due now",
}
DESTRUCTIVE = {Action.BOUNCE, Action.DROP}


def show_all(chosen: Namespace) -> int:
    """What waits by destination, or each delivery of a part."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now = parts.clock()
        scope, which = await _part(parts, chosen)
        async with parts.sessions.read(scope) as session:
            if chosen.messages or chosen.destination or chosen.campaign or chosen.sender:
                rows = await control.waiting(session, which, limit=chosen.limit)
                return _print_deliveries(rows, chosen, now)
            found = await control.standings(session, which)
            said = await control.last_replies(
                session, [one.destination for one in found[: chosen.limit]]
            )
        if chosen.json:
            print_json([_standing(one, *said.get(one.destination, (None, ""))) for one in found])
            return 0
        lines = [
            (
                one.destination[:24], one.waiting, one.sending, one.deferred, one.held,
                _age(now, one.oldest), _until(now, one.next_due), _said(said, one.destination),
            )
            for one in found[: chosen.limit]
        ]  # fmt: skip
        heads = ("destination", "new", "now", "later", "held", "oldest", "next", "said last")
        fitted(heads, lines, "The queue is empty.")
        total = sum(one.waiting + one.sending + one.deferred + one.held for one in found)
        if total >= control.CAP:
            print(f"Only the first {control.CAP:,} deliveries are counted; there are more.")
        elif len(found) > chosen.limit:
            print(f"{len(found) - chosen.limit} more destinations; see --limit.")
        return 0

    return run(chosen, work)


def _print_deliveries(rows: list[Delivery], chosen: Namespace, now: datetime) -> int:
    if chosen.json:
        print_json([_delivery(row) for row in rows])
        return 0
    lines = [
        (row.id, row.state, row.attempts, _until(now, row.due_at), row.recipient) for row in rows
    ]
    fitted(("delivery", "state", "tries", "next", "recipient"), lines, "Nothing waits there.")
    if len(rows) == chosen.limit:
        print(f"The oldest {chosen.limit}; there may be more. `waypost queue show ID` tells why.")
    return 0


def show(chosen: Namespace) -> int:
    """One delivery, its attempts, and why it waits."""
    key = delivery_key(chosen.delivery)

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.read(EVERY_COMPANY) as session:
            row = await session.get(Delivery, key)
            if row is None:
                raise PermanentError(f"There is no delivery {key}.")
            message = await session.get(Message, row.message_id)
            assert message is not None
            attempts = list(
                await session.scalars(
                    select(Attempt).where(Attempt.delivery_id == key).order_by(Attempt.id)
                )
            )
            stopped = await suspensions.in_force(session, now=parts.clock())
            moved = await overrides.in_force(session, now=parts.clock())
        why = why_it_waits(row, stopped, campaign=message.campaign, now=parts.clock())
        why += overrides.sentences(moved, row.destination, row.company_id)
        if chosen.json:
            print_json(
                {**_delivery(row), "why": why, "attempts_made": [_attempt(a) for a in attempts]}
            )
            return 0
        print(f"{row.recipient}, from {message.sender}: {message.subject}")
        print(f"  {row.state}, handed in {row.created_at:%Y-%m-%d %H:%M:%S} UTC, lane {row.lane}")
        for sentence in why:
            print(f"  {sentence}")
        lines = [(a.at, a.outcome, a.code, a.host, a.tls or "-", a.text) for a in attempts]
        fitted(("at (UTC)", "outcome", "code", "host", "TLS", "said"), lines, "No attempt yet.")
        return 0

    return run(chosen, work)


def act(chosen: Namespace) -> int:
    """Holds, releases, flushes or gives up what waits; says how much it was."""
    action = Action(chosen.action)
    if action is Action.BOUNCE and chosen.quiet:
        action = Action.DROP

    async def work(parts: Appliance, chosen: Namespace) -> int:
        scope, which = await _part(parts, chosen)
        whole = which.everything and scope is EVERY_COMPANY
        async with parts.sessions.read(scope) as session:
            ids = await control.affected(session, which, action)
        if chosen.dry_run:
            print(f"{len(ids)} messages would be {DONE[action]}.")
            return 0
        if (whole or action in DESTRUCTIVE) and not chosen.yes:
            if whole:
                raise PermanentError(
                    f"This would {chosen.action} the whole queue, {len(ids)} messages. Name a "
                    "--destination or a --company, or say --yes."
                )
            if not _confirmed(f"{len(ids)} messages will be {DONE[action]}. Go on?"):
                print("Nothing was changed.")
                return 1
        done: Counter[UUID] = Counter()
        reason = chosen.reason or "by command line"
        async for done in control.apply(
            parts.sessions, scope, action, ids, reason=reason, clock=parts.clock
        ):
            if sys.stderr.isatty():
                print(f"\r{done.total()} of {len(ids)}", end="", file=sys.stderr)
        if sys.stderr.isatty() and ids:
            print(file=sys.stderr)
        await _audit(parts, action, done, reason=reason, which=repr(which)[:500])
        if chosen.json:
            print_json({"action": str(action), "changed": done.total()})
        else:
            print(f"{done.total()} messages {DONE[action]}.")
        return 0

    return run(chosen, work)


def suspend(chosen: Namespace) -> int:
    """Nothing of a company, a campaign, a domain or a site goes for a while."""
    span = span_of(chosen)

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now = parts.clock()
        until = now + span
        company = await chosen_company(parts, chosen)
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            if chosen.what == "site":
                await suspend_site(session, chosen.name, until=until, reason=chosen.reason, now=now)
            else:
                await suspensions.suspend(
                    session, chosen.what, chosen.name, company=company, until=until,
                    reason=chosen.reason, by=who(), now=now,
                )  # fmt: skip
        what = f"{chosen.what} {chosen.name}".strip()
        print(f"Suspended until {until:%Y-%m-%d %H:%M:%S} UTC: {what}.")
        return 0

    return run(chosen, work)


def resume(chosen: Namespace) -> int:
    """Ends a suspension early; what it put off is due again."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now, company = parts.clock(), await chosen_company(parts, chosen)
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            if chosen.what == "site":
                await resume_site(session, chosen.name, now=now)
                print(f"Mail to {chosen.name} goes on.")
                return 0
            which = await suspensions.resume(
                session, chosen.what, chosen.name, company=company, now=now
            )
        async with parts.sessions.read(EVERY_COMPANY) as session:
            ids = await control.affected(session, which, Action.AGAIN)
        count = 0
        async for done in control.apply(
            parts.sessions, EVERY_COMPANY, Action.AGAIN, ids, reason="", clock=parts.clock
        ):
            count = done.total()
        print(f"It goes on; {count} messages that were put off are due now.")
        return 0

    return run(chosen, work)


def show_suspended(chosen: Namespace) -> int:
    """What is suspended, by whom and until when."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.read(EVERY_COMPANY) as session:
            rows = await suspensions.in_force(session, now=parts.clock())
        if chosen.json:
            names = ("what", "name", "of_company", "until", "reason", "by", "created_at")
            print_json([{name: getattr(row, name) for name in names} for row in rows])
            return 0
        lines = [(r.what, r.name or r.of_company, r.until, r.by, r.reason) for r in rows]
        fitted(("what", "name", "until (UTC)", "by", "why"), lines, "Nothing is suspended.")
        return 0

    return run(chosen, work)


async def _part(parts: Appliance, chosen: Namespace) -> tuple[Scope, Which]:
    """The part of the queue that the options name. Raises `PermanentError`."""
    company = await chosen_company(parts, chosen)
    before = None
    if chosen.older_than:
        try:
            span = parse_duration(chosen.older_than)
        except ValueError as error:
            raise PermanentError(f"--older-than {error}.") from None
        assert isinstance(span, timedelta)
        before = parts.clock() - span
    scope: Scope = company or EVERY_COMPANY
    ids = [delivery_key(text) for text in chosen.id] if chosen.id else None
    which = Which(
        destination=chosen.destination,
        site=await _destinations_of(parts, scope, chosen.site) if chosen.site else None,
        campaign=chosen.campaign,
        sender=chosen.sender,
        kind=chosen.kind,
        lane=chosen.lane,
        state=State(chosen.state) if chosen.state else None,
        before=before,
        ids=ids,
    )
    return scope, which


async def _destinations_of(parts: Appliance, scope: Scope, site: str) -> list[str]:
    """The destinations in the queue whose mail servers make them part of a site."""
    rules = shaping(parts.settings.shaping.rules)
    async with parts.sessions.read(scope) as session:
        names = [one.destination for one in await control.standings(session)]
    found = []
    for name in names:
        try:
            hosts = [one.exchange for one in await parts.resolver.mx(name) if one.exchange != "."]
        except Exception as error:
            print(f"waypost: {name} is left out: {error}", file=sys.stderr)
            continue
        if site_of(rules, name, hosts) == site.lower():
            found.append(name)
    return found


async def chosen_company(parts: Appliance, chosen: Namespace) -> UUID | None:
    """The one that `--company` names. Raises `PermanentError`."""
    return await company_named(parts.sessions, chosen.company) if chosen.company else None


async def _audit(
    parts: Appliance, action: Action, done: Counter[UUID], *, reason: str, which: str
) -> None:
    now = parts.clock()
    for company, count in done.items():
        detail = {"by": who(), "count": count, "reason": reason, "which": which}
        async with parts.sessions.begin(company) as session:
            session.add(Audit(user_id=None, at=now, action=f"queue {action}", detail=detail))


def span_of(chosen: Namespace) -> timedelta:
    """What `--for` says. Raises `PermanentError`."""
    try:
        span = parse_duration(chosen.span)
    except ValueError as error:
        raise PermanentError(f"--for {error}.") from None
    assert isinstance(span, timedelta)
    return span


def who() -> str:
    """Who runs this command, for the audit trail."""
    try:
        return f"command line ({getpass.getuser()})"
    except (OSError, KeyError):
        return "command line"


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise PermanentError(f"{question} Say --yes.")
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def delivery_key(text: str) -> UUID:
    """The id of a delivery. Raises `PermanentError`."""
    try:
        return UUID(text)
    except ValueError:
        raise PermanentError(f'"{text}" is not the id of a delivery.') from None


def print_json(value: Any) -> None:
    """For `--json`."""
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _standing(one: control.Standing, code: int | None, text: str) -> dict[str, Any]:
    names = ("destination", "waiting", "sending", "deferred", "held", "oldest", "next_due")
    return {name: getattr(one, name) for name in names} | {"last_code": code, "last_text": text}


def _delivery(row: Delivery) -> dict[str, Any]:
    names = (
        "id", "company_id", "message_id", "recipient", "destination", "lane", "state", "due_at",
        "expires_at", "attempts", "last_code", "last_text", "reason", "created_at",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names}


def _attempt(row: Attempt) -> dict[str, Any]:
    names = ("at", "host", "tls", "code", "text", "outcome", "seconds")
    return {name: getattr(row, name) for name in names}


def fitted(heads: tuple[str, ...], rows: list[tuple[Any, ...]], empty: str) -> None:
    """A table whose last column is cut so that lines fit."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    used = sum(
        max([len(head), *(len(row[place]) for row in cells)]) + 2
        for place, head in enumerate(heads[:-1])
    )
    room = max(WIDTH - used, len(heads[-1]), 12)
    table(heads, [(*row[:-1], _cut(row[-1], room)) for row in cells], empty)


def _cell(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, datetime):
        return cell.strftime("%Y-%m-%d %H:%M")
    return " ".join(str(cell).split())


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _said(said: dict[str, tuple[int | None, str]], destination: str) -> str:
    code, text = said.get(destination, (None, ""))
    return f"{code or ''} {text}".strip() or "-"


def _age(now: datetime, then: datetime) -> str:
    return _span((now - then).total_seconds())


def _until(now: datetime, then: datetime | None) -> str:
    if then is None:
        return "-"
    seconds = (then - now).total_seconds()
    return "now" if seconds <= 0 else _span(seconds)


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

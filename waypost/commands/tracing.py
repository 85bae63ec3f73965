"""`waypost queue trace`: tries one delivery now and shows what both sides say."""

from __future__ import annotations

import asyncio
import json
import time
from argparse import Namespace
from datetime import timedelta
from uuid import UUID

from config.values import parse_duration
from mail.errors import PermanentError
from mta import suspensions, traces
from mta.delivery import ATTEMPT_SECONDS
from mta.queue_explain import why_it_waits
from storage.sessions import EVERY_COMPANY
from storage.tables import Audit, Delivery, Message, Trace
from waypost.commands.queue import delivery_key, who
from waypost.commands.running import run
from waypost.wiring import Appliance

LOOK_SECONDS = 0.3
MOST_WAIT = timedelta(hours=1)
SIGNS = {"us": ">", "them": "<", "note": "*"}


def trace(chosen: Namespace) -> int:
    """Prints the lines as they come; 0 if there was an attempt, whatever it came to."""
    key, wait = delivery_key(chosen.delivery), _wait(chosen.wait)

    async def work(parts: Appliance, chosen: Namespace) -> int:
        asked = await _ask(parts, key, wait)
        if not chosen.json:
            print(f"Waiting for an attempt, {wait.total_seconds():.0f} seconds at the most.")
        row = await _follow(parts, asked, wait, quiet=chosen.json)
        if chosen.json:
            found = {"state": row.state, "outcome": row.outcome, "lines": row.lines}
            print(json.dumps(found, indent=2, ensure_ascii=False))
        elif row.state != traces.DONE:
            print("It has not ended: the process that sends it hangs, or is gone.")
        elif row.lines:
            print(f"It came to: {row.outcome}")
        else:
            print(f"Nothing was said: {row.outcome}.")
            for sentence in await _why(parts, key):
                print(f"  {sentence}")
            print("  Does `waypost serve` run? Its mail processes make the attempts.")
        return 0 if row.lines else 1

    return run(chosen, work)


def _wait(text: str) -> timedelta:
    try:
        span = parse_duration(text)
    except ValueError as error:
        raise PermanentError(f"--wait {error}.") from None
    assert isinstance(span, timedelta)
    if not timedelta(0) < span <= MOST_WAIT:
        raise PermanentError("--wait is an hour at the most.")
    return span


async def _ask(parts: Appliance, key: UUID, wait: timedelta) -> UUID:
    now = parts.clock()
    async with parts.sessions.begin(EVERY_COMPANY) as session:
        delivery = await session.get(Delivery, key)
        if delivery is None:
            raise PermanentError(f"There is no delivery {key}.")
        asked = await traces.ask(session, delivery, by=who(), until=now + wait, now=now)
        trace, company = asked.id, delivery.company_id
    async with parts.sessions.begin(company) as session:
        detail = {"by": who(), "delivery": str(key)}
        session.add(Audit(user_id=None, at=now, action="queue trace", detail=detail))
    return trace


async def _follow(parts: Appliance, key: UUID, wait: timedelta, *, quiet: bool) -> Trace:
    """Shows new lines until it ends, or nothing more is to be expected."""
    started, shown = time.monotonic(), 0
    while True:
        async with parts.sessions.read(EVERY_COMPANY) as session:
            row = await session.get(Trace, key)
        if row is None:
            raise PermanentError("The trace was removed.")
        for at, by, line in row.lines[shown:]:
            if not quiet:
                print(f"{at:8.3f} {SIGNS.get(by, '*')} {line}", flush=True)
        shown = len(row.lines)
        past = time.monotonic() - started
        if row.state == traces.DONE or past > wait.total_seconds() + ATTEMPT_SECONDS:
            return row
        if row.state == traces.ASKED and past > wait.total_seconds():
            async with parts.sessions.begin(EVERY_COMPANY) as session:
                await traces.withdraw(session, key, now=parts.clock())
            continue
        await asyncio.sleep(LOOK_SECONDS)


async def _why(parts: Appliance, key: UUID) -> list[str]:
    async with parts.sessions.read(EVERY_COMPANY) as session:
        delivery = await session.get(Delivery, key)
        if delivery is None:
            return []
        message = await session.get(Message, delivery.message_id)
        stopped = await suspensions.in_force(session, now=parts.clock())
    campaign = message.campaign if message is not None else ""
    return why_it_waits(delivery, stopped, campaign=campaign, now=parts.clock())

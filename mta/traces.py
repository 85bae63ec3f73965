"""One attempt, line by line, because somebody wants to see what is said.

Whoever asks writes a row and makes the delivery due; the process that takes it up speaks over a
connection of its own and writes down what both sides say while they say it. The message itself is
not written down. A trace never keeps mail from going: if it can't be written, mail goes without.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import PermanentError
from mta import queue_control
from mta.outcome import Outcome
from mta.queue_selection import Which
from mta.retry import WAITING, State
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Delivery, Trace

log = structlog.get_logger()

MAX_LINES = 500
MAX_LINE = 1000
"""What is kept of one conversation: lines, and characters of each."""

MAX_OPEN = 20
"""Traces that one company may wait for at a time."""

WRITE_SECONDS = 0.25
"""Between writings while both sides talk."""

LONGEST_SECONDS = 1000.0
"""Longer than any attempt takes."""

KEPT = timedelta(days=7)

ASKED, RUNNING, DONE = "asked", "running", "done"


async def ask(
    session: AsyncSession, delivery: Delivery, *, by: str, until: datetime, now: datetime
) -> Trace:
    """Traces the next attempt of a delivery if it begins by `until`, and makes it due now.

    What is planned for later is not sent earlier. A delivery that is traced already gets no second
    trace. Raises `PermanentError` if it is not waiting.
    """
    state = State(delivery.state)
    if state is State.HELD:
        raise PermanentError("It is held. Release it first: there is no attempt to be traced.")
    if state not in {*WAITING, State.SENDING}:
        raise PermanentError(f"It does not wait any more, it is {state}: there is no next attempt.")
    if state is State.QUEUED and delivery.due_at > until:
        planned = f"{delivery.due_at:%Y-%m-%d %H:%M:%S} UTC"
        raise PermanentError(f"It is planned for {planned}, and a trace does not send it earlier.")
    await queue_control.change(
        session, queue_control.Action.FLUSH, Which(ids=[delivery.id]), reason="", now=now
    )
    open_ones = select(Trace).where(Trace.state.in_([ASKED, RUNNING]), Trace.until > now)
    found = await session.scalar(open_ones.where(Trace.delivery_id == delivery.id))
    if found is not None:
        return found
    of_company = open_ones.where(Trace.company_id == delivery.company_id).subquery()
    if (await session.scalar(select(func.count()).select_from(of_company)) or 0) >= MAX_OPEN:
        raise PermanentError(f"{MAX_OPEN} traces wait already; let them end first.")
    made = Trace(
        company_id=delivery.company_id,
        delivery_id=delivery.id,
        state=ASKED,
        by=by[:100],
        asked_at=now,
        until=until,
        lines=[],
        outcome="",
        finished_at=None,
    )
    session.add(made)
    await session.flush()
    return made


async def withdraw(session: AsyncSession, trace: UUID, *, now: datetime) -> bool:
    """Nobody waits for it any more; False if it has begun."""
    done = await session.execute(
        update(Trace)
        .where(Trace.id == trace, Trace.state == ASKED)
        .values(state=DONE, outcome="nobody tried in time", finished_at=now)
        .execution_options(synchronize_session=False)
    )
    return bool(getattr(done, "rowcount", 0))


async def newest(session: AsyncSession, delivery: UUID) -> Trace | None:
    """The last trace of a delivery."""
    return await session.scalar(
        select(Trace).where(Trace.delivery_id == delivery).order_by(Trace.id.desc()).limit(1)
    )


def is_awaited(trace: Trace, *, now: datetime) -> bool:
    """Whether more is to be expected of it."""
    if trace.state == RUNNING:
        return now < trace.until + timedelta(seconds=LONGEST_SECONDS)
    return trace.state == ASKED and now < trace.until


async def forget_old(session: AsyncSession, *, now: datetime) -> None:
    """Removes traces that were asked for longer ago than they are kept."""
    await session.execute(delete(Trace).where(Trace.asked_at < now - KEPT))


class Record:
    """What is said in one attempt. Call it with who speaks ("us", "them", "note") and the line."""

    def __init__(self, sessions: Sessions, trace: UUID) -> None:
        self.lines: list[list[Any]] = []
        self._sessions = sessions
        self._trace = trace
        self._started = time.monotonic()
        self("note", "the attempt begins")
        self._writing = asyncio.create_task(self._keep_writing())

    def __call__(self, who: str, line: str) -> None:
        """Takes down one line, up to the limits."""
        if len(self.lines) > MAX_LINES:
            return
        if len(self.lines) == MAX_LINES:
            who, line = "note", "what follows is too long to be written down"
        said = "".join(c if c.isprintable() else "?" for c in line[:MAX_LINE])
        self.lines.append([round(time.monotonic() - self._started, 3), who, said])

    async def end(self, outcome: Outcome, *, now: datetime) -> None:
        """Writes the last lines and what it came to."""
        self._writing.cancel()
        await asyncio.wait({self._writing})
        came_to = f"{outcome.state}: {outcome.code or ''} {outcome.said or outcome.reason}"
        ended = {"state": DONE, "outcome": " ".join(came_to.split())[:500], "finished_at": now}
        await self._write(ended)

    async def _keep_writing(self) -> None:
        written = 0
        while time.monotonic() - self._started < LONGEST_SECONDS:
            await asyncio.sleep(WRITE_SECONDS)
            if len(self.lines) > written:
                written = len(self.lines)
                await self._write({})

    async def _write(self, more: dict[str, Any]) -> None:
        try:
            async with self._sessions.begin(EVERY_COMPANY) as session:
                await session.execute(
                    update(Trace)
                    .where(Trace.id == self._trace)
                    .values(lines=list(self.lines), **more)
                    .execution_options(synchronize_session=False)
                )
        except (OSError, DBAPIError) as error:
            log.warning("trace.not_written", trace=str(self._trace), cause=str(error)[:200])


class Traces:
    """Which deliveries somebody wants to see, from memory, and their records."""

    def __init__(self, sessions: Sessions, clock: Callable[[], datetime]) -> None:
        self._sessions = sessions
        self._clock = clock
        self._asked: dict[UUID, UUID] = {}

    async def look(self, session: AsyncSession) -> None:
        """Reads what is asked for; in the transaction that claims, it misses nothing."""
        rows = await session.execute(
            select(Trace.delivery_id, Trace.id)
            .where(Trace.state == ASKED, Trace.until > self._clock())
            .limit(1000)
        )
        self._asked = {row.delivery_id: row.id for row in rows}

    async def begin(self, delivery: UUID) -> Record | None:
        """A record for an attempt that begins now, if somebody wants it."""
        trace = self._asked.pop(delivery, None)
        if trace is None:
            return None
        try:
            async with self._sessions.begin(EVERY_COMPANY) as session:
                done = await session.execute(
                    update(Trace)
                    .where(Trace.id == trace, Trace.state == ASKED)
                    .values(state=RUNNING)
                    .execution_options(synchronize_session=False)
                )
        except (OSError, DBAPIError) as error:
            log.warning("trace.not_begun", trace=str(trace), cause=str(error)[:200])
            return None
        return Record(self._sessions, trace) if getattr(done, "rowcount", 0) else None

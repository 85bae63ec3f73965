"""Keeps enrolments moving: the clock that does due steps, and the station that hears what happened.

Each step is one transaction of its own, so that a bad one stops nobody else: an enrolment that
can't go on asks a person, with the reason, and stays visible until somebody decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bus.stations import Station
from config.settings import Settings
from mail.errors import TemporaryError, WaypostError
from sequencer import machine
from sequencer.decisions import pause, pause_sequence, resume, resume_sequence, skip, stop
from sequencer.effects import LostError, apply, state_of
from sequencer.effects import what_criteria_see as seen_by
from sequencer.enrolments import PlanError, case_of, enrol, install
from sequencer.explain import explain
from sequencer.hearing import KINDS, hear
from sequencer.machine import Status
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Enrolment, Event, Sequence

__all__ = [
    "PlanError",
    "Ticker",
    "enrol",
    "explain",
    "install",
    "pause",
    "pause_sequence",
    "resume",
    "resume_sequence",
    "skip",
    "stations",
    "stop",
    "tick",
]

log = structlog.get_logger()

LIMIT = 500
"""Steps that are done before the clock is looked at again."""


async def tick(sessions: Sessions, *, now: datetime, limit: int = LIMIT, speed: float = 1.0) -> int:
    """Does the due steps of all companies, at most `limit`; says how many were done.

    Any number of processes may do this at once: each step is done by one of them.
    """
    done = 0
    failed: set[UUID] = set()
    while done < limit:
        due = await _due(sessions, now, min(limit - done, 200) + len(failed))
        due = [(company, enrolment) for company, enrolment in due if enrolment not in failed]
        if not due:
            break
        for company, enrolment in due:
            if await _step(sessions, company, enrolment, now, speed):
                done += 1
            else:
                failed.add(enrolment)
    return done


async def _due(sessions: Sessions, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    query = (
        select(Enrolment.company_id, Enrolment.id)
        .join(Sequence, Sequence.id == Enrolment.sequence_id)
        .where(
            Enrolment.state.in_((Status.ACTIVE, Status.WAITING, Status.PAUSED)),
            Enrolment.due_at <= now,
            Sequence.state == "running",
        )
        .order_by(Enrolment.due_at)
        .limit(limit)
    )
    async with sessions.read(EVERY_COMPANY) as session:
        return [(row.company_id, row.id) for row in (await session.execute(query)).all()]


async def _step(
    sessions: Sessions, company: UUID, enrolment: UUID, now: datetime, speed: float
) -> bool:
    """One step of one enrolment; false if it was not ours to do."""
    version = 0
    try:
        async with sessions.begin(company) as session:
            row = await session.get_one(Enrolment, enrolment)
            version = row.version
            case = await case_of(session, row, now, speed)
            sequence = await session.get_one(Sequence, row.sequence_id)
            if sequence.state != "running":
                return False
            outcome = machine.advance(case.plan, state_of(row), seen_by(case), now=now, speed=speed)
            if outcome is None:
                return False
            await apply(session, case, outcome)
        return True
    except LostError:
        return False
    except (OSError, OperationalError):
        raise  # The store is away; that is nobody's fault, and the next tick sees the same.
    except TemporaryError as error:
        log.warning("step.deferred", enrolment_id=str(enrolment), cause=error.cause)
        return False
    except Exception as error:
        log.error("step.failed", enrolment_id=str(enrolment), cause=repr(error)[:300])
        mistake = f"the step failed by a mistake ({type(error).__name__})"
        reason = error.public if isinstance(error, WaypostError) else mistake
        return await _stuck(sessions, company, enrolment, version, reason, now)


async def _stuck(
    sessions: Sessions, company: UUID, enrolment: UUID, version: int, reason: str, now: datetime
) -> bool:
    """Has a person decide about an enrolment that can't go on."""
    try:
        async with sessions.begin(company) as session:
            row = await session.get_one(Enrolment, enrolment)
            if row.version != version:
                return False
            case = await case_of(session, row, now, 1.0, readable=False)
            await apply(session, case, machine.ask(state_of(row), reason, now=now))
        return True
    except LostError:
        return False


class Ticker:
    """Looks for due steps again and again; one runs in each engine process."""

    def __init__(
        self, sessions: Sessions, *, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._wait = settings.engine.tick.total_seconds()
        self._speed = settings.engine.speed

    async def run(self) -> None:
        """Works until it is cancelled; a store that is away is waited for."""
        while True:
            try:
                now = self._clock()
                done = await tick(self._sessions, now=now, limit=LIMIT, speed=self._speed)
            except (OSError, OperationalError) as error:
                log.warning("ticker.store_lost", cause=str(error)[:200])
                done = 0
            await asyncio.sleep(0 if done == LIMIT else self._wait)


def stations(clock: Callable[[], datetime], settings: Settings | None = None) -> list[Station]:
    """The one reader of the stream that moves enrolments; settings say how fast waits pass."""
    speed = settings.engine.speed if settings else 1.0

    async def handle(session: AsyncSession, event: Event) -> None:
        await hear(session, event, now=clock(), speed=speed)

    return [Station("sequencer", KINDS, handle)]

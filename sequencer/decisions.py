"""What people decide about running sequences: pause, resume, skip, stop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from sequencer import machine
from sequencer.effects import Case, apply, state_of
from sequencer.enrolments import case_of
from sequencer.machine import Outcome, Status
from storage.tables import Enrolment, Sequence


async def _change(
    session: AsyncSession,
    enrolment: UUID,
    now: datetime,
    decide: Callable[[Case, machine.State], Outcome],
) -> bool:
    """A person's decision about one enrolment; false if it changes nothing."""
    query = select(Enrolment).where(Enrolment.id == enrolment).with_for_update()
    row = (await session.scalars(query.execution_options(populate_existing=True))).first()
    if row is None:
        return False
    session.expunge(row)
    case = await case_of(session, row, now, 1.0, readable=False)
    before = state_of(row)
    outcome = decide(case, before)
    if outcome.state == before:
        return False
    await apply(session, case, outcome)
    return True


async def pause(
    session: AsyncSession,
    enrolment: UUID,
    *,
    reason: str,
    until: datetime | None = None,
    now: datetime,
) -> bool:
    """Pauses one person's sequence, until then or until it is resumed."""
    return await _change(
        session, enrolment, now, lambda _, s: machine.pause(s, reason, until=until, now=now)
    )


async def resume(session: AsyncSession, enrolment: UUID, *, now: datetime) -> bool:
    """Goes on where it was; also for one that asks."""
    return await _change(
        session, enrolment, now, lambda c, s: Outcome(machine.resume(c.plan, s, now=now))
    )


async def skip(
    session: AsyncSession, enrolment: UUID, *, reason: str, now: datetime, speed: float = 1.0
) -> bool:
    """Leaves out the next step."""
    return await _change(
        session, enrolment, now, lambda c, s: machine.skip(c.plan, s, reason, now=now, speed=speed)
    )


async def stop(session: AsyncSession, enrolment: UUID, *, reason: str, now: datetime) -> bool:
    """Ends one person's sequence."""
    return await _change(session, enrolment, now, lambda _, s: machine.end(s, reason, now=now))


async def pause_sequence(session: AsyncSession, sequence: UUID) -> bool:
    """Stops the clock of a whole sequence; nothing of it is sent until it runs again."""
    return await _switch(session, sequence, "running", "paused")


async def resume_sequence(session: AsyncSession, sequence: UUID, *, now: datetime) -> bool:
    """Lets it run again. What became due meanwhile is due now, and so not too late."""
    if not await _switch(session, sequence, "paused", "running"):
        return False
    await session.execute(
        update(Enrolment)
        .where(
            Enrolment.sequence_id == sequence,
            Enrolment.state.in_((Status.ACTIVE, Status.WAITING)),
            Enrolment.due_at < now,
        )
        .values(due_at=now, version=Enrolment.version + 1)
        .execution_options(synchronize_session=False)
    )
    return True


async def _switch(session: AsyncSession, sequence: UUID, before: str, after: str) -> bool:
    moved = await session.execute(
        update(Sequence)
        .where(Sequence.id == sequence, Sequence.state == before)
        .values(state=after)
        .execution_options(synchronize_session=False)
    )
    return bool(getattr(moved, "rowcount", 0))

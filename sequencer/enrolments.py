"""Sequences and who is in them: new versions, and people who come in."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mail.errors import PermanentError
from mail.ids import uuid7
from mta.recipients import may_be_mailed
from sequencer import machine
from sequencer.effects import Case, columns_of
from sequencer.plan import Plan, Problem, read_plan
from storage.sessions import insert_new
from storage.tables import Contact, Enrolment, Sequence, SequenceVersion

log = structlog.get_logger()


class PlanError(PermanentError):
    """A sequence that can't be installed; `problems` say where and how to mend it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Plans:
    """Plans of versions, which never change, as far as they were used lately."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[UUID, Plan] = OrderedDict()

    async def of(self, session: AsyncSession, version: UUID) -> Plan:
        plan = self._kept.pop(version, None)
        if plan is None:
            row = await session.get_one(SequenceVersion, version)
            found = read_plan(row.source, f"version {row.number}")
            if not isinstance(found, Plan):
                raise PlanError(found)
            plan = found
        self._kept[version] = plan
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return plan


plans = Plans(256)
"""Of this process; versions are frozen, so they are never out of date."""


async def install(
    session: AsyncSession, source: str, *, path: str, now: datetime
) -> SequenceVersion:
    """Adds a sequence or a new version of it; the same text again gives the version that is there.

    People who are in it stay on their version. Raises `PlanError`.
    """
    plan = read_plan(source, path)
    if not isinstance(plan, Plan):
        raise PlanError(plan)
    row = {
        "id": uuid7(),
        "name": plan.name,
        "state": "running",
        "latest": 0,
        "created_at": now,
    }
    await insert_new(session, Sequence, [row], unless=["company_id", "name"])
    sequence = (await session.scalars(_named(plan.name).with_for_update())).one()
    digest = hashlib.sha256(source.encode()).hexdigest()
    latest = select(SequenceVersion).where(
        SequenceVersion.sequence_id == sequence.id, SequenceVersion.number == sequence.latest
    )
    version = (await session.scalars(latest)).first()
    if version is not None and version.digest == digest:
        return version
    version = SequenceVersion(
        id=uuid7(),
        sequence_id=sequence.id,
        number=sequence.latest + 1,
        source=source,
        plan=plan.outline(),
        digest=digest,
        created_at=now,
    )
    session.add(version)
    sequence.latest += 1
    await session.flush()
    return version


def _named(name: str) -> Any:
    return select(Sequence).where(Sequence.name == name)


async def enrol(
    session: AsyncSession,
    sequence: Sequence | str,
    contact: Contact | UUID,
    *,
    entry_key: str = "",
    owner: UUID | None = None,
    now: datetime,
    speed: float = 1.0,
) -> Enrolment | None:
    """Puts somebody before the first step of the latest version.

    None, with the reason in the log, if they are in it (or were, and it takes nobody twice), or may
    not be written to. Each `entry_key` lets the same person in once. Raises `PermanentError` for a
    sequence or contact that does not exist.
    """
    target: Sequence | None
    if isinstance(sequence, Sequence):
        target = sequence
    else:
        target = (await session.scalars(_named(sequence))).first()
    if target is None:
        raise PermanentError(f'There is no sequence "{sequence}". Add it first.')
    person = contact if isinstance(contact, Contact) else await session.get(Contact, contact)
    if person is None:
        raise PermanentError("There is no such contact.")
    version = (
        await session.scalars(
            select(SequenceVersion).where(
                SequenceVersion.sequence_id == target.id,
                SequenceVersion.number == target.latest,
            )
        )
    ).one()
    plan = await plans.of(session, version.id)
    why_not = await may_be_mailed(session, person)
    if not why_not and not entry_key:
        entry_key, why_not = await _entry_key(session, target, person, plan)
    if why_not:
        log.info("enrolment.refused", sequence=target.name, reason=why_not)
        return None
    state = machine.begin(plan, now=now, speed=speed)
    row = {
        "id": uuid7(),
        "sequence_id": target.id,
        "version_id": version.id,
        "contact_id": person.id,
        "entry_key": entry_key,
        "owner_id": owner,
        "started_at": now,
        **columns_of(state, {}, now),
    }
    unique = ["sequence_id", "contact_id", "entry_key"]
    if not await insert_new(session, Enrolment, [row], unless=unique):
        log.info("enrolment.refused", sequence=target.name, reason="is in it")
        return None
    enrolment = (await session.scalars(select(Enrolment).where(Enrolment.id == row["id"]))).one()
    await publish(
        session,
        Kind.ENROLLED,
        contact=person.id,
        enrolment=enrolment.id,
        occurred_at=now,
        sequence=target.name,
        step=state.step,
    )
    return enrolment


async def _entry_key(
    session: AsyncSession, sequence: Sequence, contact: Contact, plan: Plan
) -> tuple[str, str]:
    """The key under which somebody comes in, or why they do not."""
    before = select(Enrolment.state).where(
        Enrolment.sequence_id == sequence.id, Enrolment.contact_id == contact.id
    )
    states = list(await session.scalars(before))
    if any(state != "ended" for state in states):
        return "", "is in it"
    if states and not plan.entry.again:
        return "", "was in it, and it takes nobody twice"
    return (f"again {len(states)}" if states else ""), ""


async def case_of(
    session: AsyncSession, row: Enrolment, now: datetime, speed: float, *, readable: bool = True
) -> Case:
    """An enrolment with what its next step may need.

    Raises `PlanError` if this version's language can't be read any more, unless a plan that does
    nothing will do (`readable` is false): to ask, pause or end somebody.
    """
    contact = await session.get_one(Contact, row.contact_id)
    try:
        plan = await plans.of(session, row.version_id)
    except PlanError:
        if readable:
            raise
        sequence = await session.get_one(Sequence, row.sequence_id)
        empty = f"sequence: {sequence.name}\nsteps: [{{id: x, end: true}}]"
        found = read_plan(empty)
        if not isinstance(found, Plan):
            raise
        plan = found
    return Case(row, contact, plan, speed, now)

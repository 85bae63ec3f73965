"""What happened to people, and what it means for their sequences: the station's work."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Agent, Kind
from rules.to_python import holds
from sequencer import machine
from sequencer.effects import ASKED, Case, apply, state_of, values_of
from sequencer.effects import what_criteria_see as seen_by
from sequencer.enrolments import PlanError, case_of, enrol, plans
from sequencer.machine import Happened, Outcome, Status
from storage.tables import Contact, Enrolment, Event, Sequence, SequenceVersion, StepRun

log = structlog.get_logger()

KINDS = frozenset(
    {
        Kind.REPLY_READ,
        Kind.DELIVERY_DELIVERED,
        Kind.DELIVERY_BOUNCED,
        Kind.DELIVERY_SKIPPED,
        Kind.BOUNCE_RECEIVED,
        Kind.COMPLAINT_RECEIVED,
        Kind.UNSUBSCRIBED,
        Kind.CLICKED,
        Kind.TASK_DONE,
        Kind.LEAD_CONSENTED,
    }
)

MAX_SEEN = 50
"""Events that an enrolment remembers; the stream repeats only the last ones."""

AWAY = timedelta(days=7)
"""Pause for somebody who is away and does not say until when."""


async def hear(session: AsyncSession, event: Event, *, now: datetime, speed: float = 1.0) -> None:
    """What one event means for the enrolments of its contact."""
    if event.kind == Kind.LEAD_CONSENTED:
        await _let_in(session, event, now, speed)
        return
    if event.kind == Kind.DELIVERY_SKIPPED:
        await _note_skipped(session, event)
        return
    what = _happened(event)
    if what is None:
        return
    for row in await _concerned(session, event, what):
        seen = list(row.memory.get("seen") or [])
        if str(event.id) in seen:
            continue
        row.memory = {**row.memory, "seen": [*seen, str(event.id)][-MAX_SEEN:]}
        session.expunge(row)  # From here on only `apply` writes it.
        try:
            case = await case_of(session, row, now, speed)
        except PlanError as error:
            log.error("plan.unreadable", enrolment_id=str(row.id), cause=error.public[:300])
            case = await case_of(session, row, now, speed, readable=False)
        state = state_of(row)
        outcome = _outcome(case, event, what)
        await apply(session, case, outcome or Outcome(state))


def _happened(event: Event) -> Happened | None:
    payload = event.payload
    match event.kind:
        case Kind.REPLY_READ:
            return Happened.REPLY
        case Kind.UNSUBSCRIBED:
            return Happened.UNSUBSCRIBE
        case Kind.COMPLAINT_RECEIVED:
            return Happened.COMPLAINT
        case Kind.BOUNCE_RECEIVED | Kind.DELIVERY_BOUNCED:
            return Happened.BOUNCE if payload.get("hard") else None
        case Kind.CLICKED:
            return Happened.CLICK if event.agent == Agent.HUMAN else None
        case Kind.TASK_DONE:
            return Happened.TASK
        case Kind.DELIVERY_DELIVERED:
            return Happened.DELIVERED
    return None


_OWN = (Happened.CLICK, Happened.TASK, Happened.DELIVERED)
"""What concerns the enrolment that it came from; everything else concerns the person."""


async def _concerned(session: AsyncSession, event: Event, what: Happened) -> list[Enrolment]:
    query = select(Enrolment).where(Enrolment.state != Status.ENDED)
    if what in _OWN or event.contact_id is None:
        if event.enrolment_id is None:
            return []
        query = query.where(Enrolment.id == event.enrolment_id)
    else:
        query = query.where(Enrolment.contact_id == event.contact_id)
    query = query.order_by(Enrolment.id).with_for_update()
    return list(await session.scalars(query.execution_options(populate_existing=True)))


def _outcome(case: Case, event: Event, what: Happened) -> Outcome | None:
    """What the event does, after noting what criteria will ask for."""
    row, now, speed, payload = case.enrolment, case.now, case.speed, event.payload
    state = state_of(row)
    memory = dict(row.memory)
    if what is Happened.REPLY and not _by_machine(event):
        memory["replies"] = int(memory.get("replies") or 0) + 1
        memory["last_human_event"] = event.occurred_at.isoformat()
        memory["reply"] = {
            "intent": str(payload.get("top") or ""),
            "certainty": payload.get("certainty"),
            "intents": payload.get("intents") or {},
            "decision": str(payload.get("decision") or ""),
        }
    elif what is Happened.CLICK:
        memory["clicks"] = int(memory.get("clicks") or 0) + 1
        memory["last_human_event"] = event.occurred_at.isoformat()
    row.memory = memory
    data = seen_by(case, {"kind": what.value, "url": str(payload.get("url") or "")})
    if what is Happened.REPLY:
        return _reply(case, event, state, data)
    if what is Happened.TASK and str(payload.get("key") or "").startswith(ASKED):
        if state.status is not Status.ASKING:
            return None
        # Whoever dealt with the question without resuming has taken the person over.
        return machine.end(state, "a person took over", now=now)
    return machine.happen(case.plan, state, what, data, now=now, speed=speed)


def _by_machine(event: Event) -> bool:
    """A reply that no person wrote: nobody stops a sequence by being on holiday."""
    return (
        event.agent == Agent.MACHINE
        or bool(event.payload.get("pause_until"))
        or event.payload.get("decision") == "pause"
        or (event.payload.get("decision") == "nothing" and _automatic(event))
    )


def _automatic(event: Event) -> bool:
    return str(event.payload.get("top") or "") in ("out_of_office", "auto_reply", "automatic")


def _reply(case: Case, event: Event, state: machine.State, data: dict[str, Any]) -> Outcome | None:
    payload, now = event.payload, case.now
    until = _instant(payload.get("pause_until"))
    if until is None and payload.get("decision") == "pause":
        until = now + AWAY
    if until is not None:
        until = now + (until - now) / case.speed
    elif _by_machine(event):
        return None
    return machine.reply(
        case.plan,
        state,
        data,
        decision=str(payload.get("decision") or ""),
        unclear=bool(payload.get("abstain")),
        pause_until=until,
        now=now,
        speed=case.speed,
    )


def _instant(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else None


async def _note_skipped(session: AsyncSession, event: Event) -> None:
    """The last gate said no: the step's record says so, so that nobody wonders."""
    if event.message_id is None:
        return
    reason = str(event.payload.get("reason") or event.payload.get("text") or "not sent")
    await session.execute(
        update(StepRun)
        .where(StepRun.message_id == event.message_id, StepRun.outcome == "sent")
        .values(outcome="skipped", reason=reason[:1000])
        .execution_options(synchronize_session=False)
    )


async def _let_in(session: AsyncSession, event: Event, now: datetime, speed: float) -> None:
    """Enrols somebody in the sequences that begin with this event."""
    if event.contact_id is None:
        return
    contact = await session.get(Contact, event.contact_id)
    if contact is None:
        return
    running = select(Sequence).where(Sequence.state == "running").order_by(Sequence.id)
    for sequence in list(await session.scalars(running)):
        version = select(SequenceVersion).where(
            SequenceVersion.sequence_id == sequence.id,
            SequenceVersion.number == sequence.latest,
        )
        found = (await session.scalars(version)).first()
        if found is None or found.plan.get("entry") != event.kind:
            continue
        plan = await plans.of(session, found.id)
        seen = {"contact": values_of(contact), "now": now}
        if plan.entry.where is not None and not holds(plan.entry.where.tree, seen):
            continue
        await enrol(session, sequence, contact, owner=event.user_id, now=now, speed=speed)

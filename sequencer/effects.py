"""Writes what the machine decided: one transaction that moves the enrolment and has its effects.

The enrolment moves by compare-and-set on its `version`, the step is fenced by the primary key of
`step_run`, and the mail by the key of its order, `<enrolment>:<step>:<visit>`. Whoever loses at any
of them raises `LostError`, and the whole transaction is undone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from content.library import get_item
from mail.errors import PermanentError
from mta.recipients import may_be_mailed
from mta.submission import Order, submit
from sequencer.machine import (
    AskPerson,
    Ended,
    GiveTask,
    Mail,
    Outcome,
    Run,
    State,
    Status,
    end,
)
from sequencer.steps import Plan
from storage.sessions import insert_new
from storage.tables import Company, Contact, ContentItem, Domain, Enrolment, Message, StepRun, User
from tracker.owners import rep_of
from tracker.tasks import cancel_tasks, open_task

FOR_GOOD = ("unsubscribed", "complained", "the address bounced", "may not be written to")
"""Ends after which open tasks of the enrolment make no sense any more."""

ASKED = "decide:"
"""How the keys begin of tasks that ask how an enrolment goes on."""


class LostError(Exception):
    """Somebody else has moved this enrolment; what they did stands."""


@dataclass(slots=True)
class Case:
    """An enrolment in hand, with all that its next step may need."""

    enrolment: Enrolment
    contact: Contact
    plan: Plan
    speed: float
    now: datetime

    @property
    def memory(self) -> dict[str, Any]:
        """What was noted about the person since they came in."""
        return self.enrolment.memory


def state_of(row: Enrolment) -> State:
    """The machine's state as the row keeps it."""
    held = row.memory.get("held")
    left = None if not held or held[1] is None else timedelta(seconds=held[1])
    return State(
        Status(row.state),
        row.step_id,
        row.visit,
        tuple((str(name), int(rounds)) for name, rounds in row.frames),
        row.due_at,
        dict(row.memory.get("visits") or {}),
        (Status(held[0]), left) if held else None,
        row.reason,
    )


def columns_of(state: State, memory: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The row's columns for a state."""
    kept = {**memory, "visits": dict(state.visits)}
    kept.pop("held", None)
    if state.held is not None:
        left = state.held[1]
        kept["held"] = [state.held[0].value, None if left is None else left.total_seconds()]
    return {
        "state": state.status.value,
        "step_id": state.step,
        "visit": state.visit,
        "frames": [list(frame) for frame in state.frames],
        "due_at": state.due,
        "memory": kept,
        "reason": state.reason[:1000],
        "ended_at": now if state.status is Status.ENDED else None,
    }


def what_criteria_see(case: Case, event: dict[str, Any] | None = None) -> dict[str, Any]:
    """The data of the criteria of a plan; see `sequencer.plan.NAMES`."""
    memory, contact = case.memory, case.contact
    last = memory.get("last_human_event")
    data: dict[str, Any] = {
        "contact": values_of(contact),
        "enrolment": {
            "started": case.enrolment.started_at,
            "replies": int(memory.get("replies") or 0),
            "clicks": int(memory.get("clicks") or 0),
            "last_human_event": datetime.fromisoformat(last) if last else None,
        },
        "now": case.now,
    }
    if "reply" in memory:
        data["reply"] = memory["reply"]
    if event:
        data["event"] = event
    return data


def values_of(contact: Contact) -> dict[str, Any]:
    """A contact as templates and criteria see it."""
    first = contact.fields.get("first_name") or next(iter(contact.name.split()), "")
    return {
        "address": contact.address,
        "name": contact.name,
        "first_name": str(first),
        "organisation": contact.organisation,
        "zone": contact.zone or "",
        "fields": dict(contact.fields),
    }


async def apply(session: AsyncSession, case: Case, outcome: Outcome) -> None:
    """Writes an outcome. Raises `LostError` if somebody else was quicker."""
    outcome = await _gate(session, case, outcome)
    row, now = case.enrolment, case.now
    moved = await session.execute(
        update(Enrolment)
        .where(Enrolment.id == row.id, Enrolment.version == row.version)
        .values(**columns_of(outcome.state, case.memory, now), version=row.version + 1)
        .execution_options(synchronize_session=False)
    )
    if not getattr(moved, "rowcount", 0):
        raise LostError
    if row.state == Status.ASKING and outcome.state.status is not Status.ASKING:
        await cancel_tasks(session, row.id, keys=ASKED, now=now)  # The question is answered.
    messages: dict[tuple[str, int], UUID] = {}
    for effect in outcome.effects:
        if isinstance(effect, Mail):
            message = await _mail(session, case, effect)
            messages[effect.step, effect.visit] = message.id
    for effect in outcome.effects:
        match effect:
            case Run():
                await _run(session, case, effect, messages.get((effect.step, effect.visit)))
            case GiveTask():
                await _task(session, case, effect)
            case AskPerson(reason=reason):
                await _ask(session, case, reason)
            case Ended(reason=reason):
                await _ended(session, case, reason)


async def _gate(session: AsyncSession, case: Case, outcome: Outcome) -> Outcome:
    """Looks once more whether the person may be written to; if not, the mail is skipped."""
    if not any(isinstance(effect, Mail) for effect in outcome.effects):
        return outcome
    why_not = await may_be_mailed(session, case.contact)
    if not why_not:
        return outcome
    effects = tuple(
        replace(effect, outcome="skipped", reason=why_not)
        if isinstance(effect, Run) and effect.outcome == "sent"
        else effect
        for effect in outcome.effects
        if not isinstance(effect, Mail)
    )
    if "unsubscribe" not in case.plan.stop or outcome.state.status is Status.ENDED:
        return Outcome(outcome.state, effects)
    over = end(outcome.state, f"may not be written to: {why_not}", now=case.now)
    return Outcome(over.state, (*effects, *over.effects))


async def _run(session: AsyncSession, case: Case, run: Run, message: UUID | None) -> None:
    row = {
        "enrolment_id": case.enrolment.id,
        "step_id": run.step,
        "visit": run.visit,
        "kind": run.kind,
        "outcome": run.outcome,
        "reason": run.reason,
        "message_id": message,
        "at": case.now,
    }
    key = ["enrolment_id", "step_id", "visit"]
    if not await insert_new(session, StepRun, [row], unless=key):
        raise LostError
    await publish(
        session,
        Kind.STEP_DONE,
        contact=case.contact.id,
        message=message,
        enrolment=case.enrolment.id,
        occurred_at=case.now,
        sequence=case.plan.name,
        step=run.step,
        visit=run.visit,
        step_kind=run.kind,
        outcome=run.outcome,
        reason=run.reason,
    )


async def _mail(session: AsyncSession, case: Case, mail: Mail) -> Message:
    item = await get_item(session, mail.content)
    if item is None:
        raise PermanentError(
            f'There is no content item "{mail.content}". Add it, or change the plan and resume.'
        )
    row, contact = case.enrolment, case.contact
    rep = await rep_of(session, contact, otherwise=row.owner_id)
    company = await session.get_one(Company, row.company_id)
    sender = await _sender(session, rep)
    before = await _last_mail(session, row.id) if mail.thread else None
    values: dict[str, Any] = {
        "contact": values_of(contact),
        "company": {"name": company.name, "postal_address": company.postal_address},
        "sender": {"name": rep.name if rep else company.name, "address": sender},
    }
    if before is not None:
        values["thread"] = {"subject": before.subject}
    order = Order(
        key=f"{row.id}:{mail.step}:{mail.visit}",
        kind="bulk",
        sender=sender,
        sender_name=rep.name if rep else company.name,
        recipient=contact.address,
        recipient_name=contact.name,
        subject="{{ thread.subject }}" if before is not None else _subject(item),
        text=item.text,
        html=item.html,
        values=values,
        contact_id=contact.id,
        user_id=rep.id if rep else None,
        campaign=case.plan.name,
        enrolment_id=row.id,
        step_id=mail.step,
        thread_id=before.thread_id if before else None,
        in_reply_to=before.rfc_message_id if before else "",
        references=before.references if before else "",
        files=_files(item),
        presentation=str(item.descriptors.get("presentation") or ""),
    )
    return await submit(session, order, now=case.now)


def _files(item: ContentItem) -> tuple[str, ...]:
    """The keys of files that go with the mail: one, or a list of them, under `files`."""
    named = item.descriptors.get("files") or []
    return tuple(map(str, named)) if isinstance(named, list) else (str(named),)


def _subject(item: ContentItem) -> str:
    if not item.subject.strip():
        raise PermanentError(f'The content item "{item.key}" has no subject. Give it one.')
    return item.subject


async def _sender(session: AsyncSession, rep: User | None) -> str:
    """The rep's own address where it is of one of the company's domains, else a common one."""
    domains = list(await session.scalars(select(Domain.name).order_by(Domain.created_at)))
    if not domains:
        raise PermanentError("The company has no domain to send from. Add one and resume.")
    if rep is not None and rep.email.rpartition("@")[2] in domains:
        return rep.email
    return f"hello@{domains[0]}"


async def _last_mail(session: AsyncSession, enrolment: UUID) -> Message | None:
    found = select(Message).where(Message.enrolment_id == enrolment, Message.direction == "out")
    found = found.where(Message.kind == "bulk").order_by(Message.created_at.desc(), Message.id)
    return (await session.scalars(found.limit(1))).first()


async def _task(session: AsyncSession, case: Case, task: GiveTask) -> None:
    row = case.enrolment
    rep = await rep_of(session, case.contact, otherwise=row.owner_id)
    if task.owner:
        named = select(User).where(User.email == task.owner.lower(), User.disabled_at.is_(None))
        rep = (await session.scalars(named)).first()
        if rep is None:
            raise PermanentError(f'No user has the address "{task.owner}". Add the user, resume.')
    await open_task(
        session,
        key=f"{row.id}:{task.step}:{task.visit}",
        kind="task",
        title=f"{task.title}: {case.contact.name or case.contact.address}",
        user=rep.id if rep else None,
        contact=case.contact.id,
        enrolment=row.id,
        due_at=None if task.due is None else case.now + task.due / case.speed,
        detail={"sequence": case.plan.name, "step": task.step},
        now=case.now,
    )


async def _ask(session: AsyncSession, case: Case, reason: str) -> None:
    row = case.enrolment
    rep = await rep_of(session, case.contact, otherwise=row.owner_id)
    await open_task(
        session,
        key=f"{ASKED}{row.id}:{row.version}",
        kind="decide",
        title=f"How should {case.plan.name} go on with "
        f"{case.contact.name or case.contact.address}? {reason}",
        user=rep.id if rep else None,
        contact=case.contact.id,
        enrolment=row.id,
        due_at=case.now,
        detail={"sequence": case.plan.name, "step": row.step_id, "reason": reason},
        now=case.now,
    )


async def _ended(session: AsyncSession, case: Case, reason: str) -> None:
    row = case.enrolment
    if reason.startswith(FOR_GOOD):
        await cancel_tasks(session, row.id, now=case.now)
    await publish(
        session,
        Kind.SEQUENCE_ENDED,
        contact=case.contact.id,
        enrolment=row.id,
        occurred_at=case.now,
        sequence=case.plan.name,
        reason=reason,
    )

"""Says in sentences why somebody is where they are, what is next, and why they were not mailed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mta.recipients import may_be_mailed
from sequencer.effects import state_of
from sequencer.enrolments import case_of
from sequencer.machine import State, Status
from sequencer.steps import Plan, Repeat, Send, Wait, WaitFor, label
from storage.tables import Contact, Delivery, Enrolment, Sequence, StepRun

MAX_RUNS = 200
"""Of the newest steps that are told."""


async def explain(session: AsyncSession, enrolment: UUID, *, now: datetime) -> list[str]:
    """The story of one enrolment, oldest first; empty if there is none with this id."""
    row = await session.get(Enrolment, enrolment)
    if row is None:
        return []
    case = await case_of(session, row, now, 1.0, readable=False)
    sequence = await session.get_one(Sequence, row.sequence_id)
    told = [f"Came into {case.plan.name} on {_at(row.started_at)}."]
    runs = select(StepRun).where(StepRun.enrolment_id == row.id).order_by(StepRun.at.desc())
    newest = list(await session.scalars(runs.limit(MAX_RUNS)))
    for run in reversed(newest):
        told.append(_run(run, await _delivery(session, run)))
    told.append(_next(case.plan, state_of(row), now))
    if sequence.state != "running" and row.state != Status.ENDED:
        told.append("The whole sequence is paused, so nothing of it is done.")
    told += await _why_not_mailed(session, case.contact)
    return told


async def _delivery(session: AsyncSession, run: StepRun) -> Delivery | None:
    if run.message_id is None:
        return None
    found = select(Delivery).where(Delivery.message_id == run.message_id)
    return (await session.scalars(found)).first()


async def _why_not_mailed(session: AsyncSession, contact: Contact) -> list[str]:
    why_not = await may_be_mailed(session, contact)
    return [f"May not be written to: {why_not}."] if why_not else []


def _run(run: StepRun, delivery: Delivery | None) -> str:
    said = f"{_at(run.at)}: {run.step_id} ({run.kind}) {run.outcome}"
    if run.reason:
        said += f", because {run.reason}"
    if delivery is not None:
        said += f"; the mail is {delivery.state}"
        said += f" ({delivery.reason})" if delivery.reason else ""
    return said + "."


def _next(plan: Plan, state: State, now: datetime) -> str:
    match state.status:
        case Status.ENDED:
            return f"Ended: {state.reason}."
        case Status.ASKING:
            return f"A person has to decide how it goes on: {state.reason}."
        case Status.PAUSED if state.due is None:
            return f"Paused until a person resumes it: {state.reason}."
        case Status.PAUSED:
            return f"Paused until {_at(state.due)}: {state.reason}."
    step = plan.steps.get(state.step or "")
    when = "now" if state.due is None or state.due <= now else f"at {_at(state.due)}"
    if step is None:
        return f'Next is the step "{state.step}", which the plan does not have.'
    match step.what:
        case WaitFor(event=event, on_timeout=late):
            return f"Waits for {event}; without it goes on to {late or 'the end'} {when}."
        case Wait():
            return f"Waits; goes on to {step.next or 'the end'} {when}."
        case Send() | Repeat():
            return f"Next: {label(step)} ({step.id}) {when}."
    return f"Next: {label(step)} {when}."


def _at(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else "no time"

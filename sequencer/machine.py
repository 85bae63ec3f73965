"""What happens next for one enrolment: (plan, state, event or time) → new state and effects.

A step is done when its due time comes; being done, it leads to the next, which may be due at once.
What has effects outside (a mail, a task) is an effect of exactly one (step, visit), which is the
key by which it happens once. Pure: the simulator will run this same machine on a virtual clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from rules.to_python import holds
from rules.trace import trace
from sequencer.steps import (
    Branch,
    Criterion,
    Do,
    End,
    OnReply,
    Plan,
    Repeat,
    Send,
    Step,
    TaskFor,
    Wait,
    WaitFor,
)

MAX_RUNS = 5_000
"""Steps of one enrolment; more is a round that the plan's author did not see."""


class Status(StrEnum):
    """How an enrolment stands."""

    ACTIVE = "active"
    WAITING = "waiting"
    PAUSED = "paused"
    ASKING = "asking"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class State:
    """Where somebody is. `frames` are the repeats around the step: id and rounds done.

    `visits` counts the visits of each step. `held` keeps, while paused or asking, what was before:
    the status and how long the step still had.
    """

    status: Status
    step: str | None
    visit: int = 1
    frames: tuple[tuple[str, int], ...] = ()
    due: datetime | None = None
    visits: Mapping[str, int] = field(default_factory=dict)
    held: tuple[Status, timedelta | None] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A step that was done: the row that fences it."""

    step: str
    visit: int
    kind: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """Send this content item."""

    step: str
    visit: int
    content: str
    thread: bool


@dataclass(frozen=True, slots=True)
class GiveTask:
    """Give this to a rep."""

    step: str
    visit: int
    title: str
    due: timedelta | None
    owner: str


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Somebody has to decide how this goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The enrolment is over."""

    reason: str


Effect = Run | Mail | GiveTask | AskPerson | Ended


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state after, and what has to be done in the same transaction."""

    state: State
    effects: tuple[Effect, ...] = ()


class Happened(StrEnum):
    """What can happen to an enrolment from outside."""

    REPLY = "reply"
    CLICK = "click"
    TASK = "task"
    DELIVERED = "delivered"
    UNSUBSCRIBE = "unsubscribe"
    BOUNCE = "bounce.hard"
    COMPLAINT = "complaint"


Data = Mapping[str, Any]


def begin(plan: Plan, *, now: datetime, speed: float = 1.0) -> State:
    """Somebody who comes in stands before the first step."""
    return _arrive(plan, State(Status.ACTIVE, None), plan.first, now, speed).state


def advance(
    plan: Plan, state: State, data: Data, *, now: datetime, speed: float = 1.0
) -> Outcome | None:
    """What is due now; None if nothing is. `data` is what criteria see.

    `speed` shortens waits; how late a step may be is always real time.
    """
    if state.due is None or state.due > now:
        return None
    if state.status is Status.PAUSED:
        return Outcome(resume(plan, state, now=now))
    if state.status not in (Status.ACTIVE, Status.WAITING) or state.step is None:
        return None
    step = plan.steps.get(state.step)
    if step is None:
        return ask(state, f'the plan has no step "{state.step}"', now=now)
    if sum(state.visits.values()) > MAX_RUNS:
        return ask(state, f"more than {MAX_RUNS} steps were done", now=now)
    late = now - state.due
    if isinstance(step.what, Send | TaskFor) and late > plan.max_lateness:
        reason = f"stale: due at {state.due:%Y-%m-%d %H:%M}, too long ago"
        return _done(plan, state, step, "skipped", step.next, now, speed, reason=reason)
    match step.what:
        case Send(content=content, thread=thread):
            mail = Mail(step.id, state.visit, content, thread)
            return _done(plan, state, step, "sent", step.next, now, speed, mail)
        case TaskFor(title=title, due=due, owner=owner):
            task = GiveTask(step.id, state.visit, title, due, owner)
            return _done(plan, state, step, "opened", step.next, now, speed, task)
        case Wait():
            return _done(plan, state, step, "waited", step.next, now, speed)
        case WaitFor(on_timeout=on_timeout, event=event):
            reason = f"no {event} in time"
            return _done(plan, state, step, "timeout", on_timeout, now, speed, reason=reason)
        case Branch():
            return _branch(plan, state, step, step.what, data, now, speed)
        case Repeat():
            return _repeat(plan, state, step, step.what, data, now, speed)
        case End():
            return _done(plan, state, step, "ended", None, now, speed)


def happen(
    plan: Plan,
    state: State,
    what: Happened,
    data: Data,
    *,
    now: datetime,
    speed: float = 1.0,
) -> Outcome | None:
    """What an event changes; None if nothing. For replies see `reply`."""
    if state.status is Status.ENDED:
        return None
    if what in plan.stop:
        return end(state, _STOPPED[what], now=now)
    return _awaited(plan, state, what, data, now, speed)


_STOPPED = {
    Happened.UNSUBSCRIBE: "unsubscribed",
    Happened.BOUNCE: "the address bounced",
    Happened.COMPLAINT: "complained",
}


def reply(
    plan: Plan,
    state: State,
    data: Data,
    *,
    decision: str,
    unclear: bool,
    pause_until: datetime | None,
    now: datetime,
    speed: float = 1.0,
) -> Outcome | None:
    """What a reply changes, in this order: the person wants no more; is away until a date; can't be
    understood (a person is asked); a rule of the plan fits; the plan waits for a reply; any reply
    stops the plan.
    """
    if state.status is Status.ENDED:
        return None
    if decision in ("stop", "suppress"):
        return end(state, "the reply asks to stop", now=now)
    if pause_until is not None:
        if pause_until <= now:
            return None
        reason = f"away until {pause_until:%Y-%m-%d}"
        return pause(state, reason, until=pause_until, now=now)
    if unclear:
        return ask(state, "the reply is unclear", now=now)
    for rule in plan.on_reply:
        if holds(rule.when.tree, data):
            return _on_reply(plan, state, rule, now, speed)
    found = _awaited(plan, state, Happened.REPLY, data, now, speed)
    if found is not None:
        return found
    return end(state, "replied", now=now) if "reply.human" in plan.stop else None


def _on_reply(plan: Plan, state: State, rule: OnReply, now: datetime, speed: float) -> Outcome:
    reason = f"a reply met {rule.when.source}"
    if rule.do is Do.STOP:
        return end(state, reason, now=now)
    if rule.do is Do.PAUSE:
        until = now + rule.pause / speed if rule.pause else None
        return pause(state, reason, until=until, now=now)
    if rule.do is Do.GOTO and rule.to is not None:
        runs: tuple[Effect, ...] = ()
        if state.step is not None and state.status in (Status.ACTIVE, Status.WAITING):
            # The step that was before us is left, and never done for this visit.
            runs = (Run(state.step, state.visit, _kind(plan, state.step), "left", reason),)
        free = replace(state, status=Status.ACTIVE, held=None)
        arrived = _arrive(plan, free, rule.to, now, speed)
        return Outcome(arrived.state, (*runs, *arrived.effects))
    return Outcome(state)


def pause(state: State, reason: str, *, until: datetime | None, now: datetime) -> Outcome:
    """Nothing more happens until then, or until a person resumes it."""
    if state.status in (Status.ENDED, Status.ASKING):
        return Outcome(state)
    if state.status is Status.PAUSED:  # Paused twice: the longer pause counts.
        if state.due is None or (until is not None and until <= state.due):
            return Outcome(state)
        return Outcome(replace(state, due=until, reason=reason))
    held = _hold(state, now)
    return Outcome(replace(state, status=Status.PAUSED, due=until, held=held, reason=reason))


def ask(state: State, reason: str, *, now: datetime) -> Outcome:
    """Nothing more happens until a person has decided."""
    if state.status in (Status.ENDED, Status.ASKING):
        return Outcome(state)
    held = state.held if state.status is Status.PAUSED else _hold(state, now)
    asking = replace(state, status=Status.ASKING, due=None, held=held, reason=reason)
    return Outcome(asking, (AskPerson(reason),))


def resume(plan: Plan, state: State, *, now: datetime) -> State:
    """Goes on where it was; a wait has as long to go as it had when it was interrupted."""
    if state.status not in (Status.PAUSED, Status.ASKING):
        return state
    status, left = state.held or (Status.ACTIVE, timedelta())
    due = None if left is None else now + left
    return replace(state, status=status, due=due, held=None, reason="")


def skip(plan: Plan, state: State, reason: str, *, now: datetime, speed: float = 1.0) -> Outcome:
    """Leaves out the step that is next, as a person has decided."""
    step = plan.steps.get(state.step or "")
    if state.status is Status.ENDED or step is None:
        return Outcome(state)
    free = replace(state, status=Status.ACTIVE, held=None)
    return _done(plan, free, step, "skipped", step.next, now, speed, reason=reason)


def end(state: State, reason: str, *, now: datetime) -> Outcome:
    """Over."""
    if state.status is Status.ENDED:
        return Outcome(state)
    over = replace(state, status=Status.ENDED, step=None, due=None, held=None, reason=reason)
    return Outcome(replace(over, frames=()), (Ended(reason),))


def _hold(state: State, now: datetime) -> tuple[Status, timedelta | None]:
    left = None if state.due is None else max(state.due - now, timedelta())
    return state.status, left


def _kind(plan: Plan, name: str) -> str:
    step = plan.steps.get(name)
    return step.kind if step else "?"


def _awaited(
    plan: Plan, state: State, what: Happened, data: Data, now: datetime, speed: float
) -> Outcome | None:
    step = plan.steps.get(state.step or "")
    if step is None or not isinstance(step.what, WaitFor) or step.what.event != what.value:
        return None
    if step.what.where is not None and not holds(step.what.where.tree, data):
        return None
    waiting = state.status is Status.WAITING
    held = state.held is not None and state.held[0] is Status.WAITING
    if not waiting and not held:
        return None
    done = _done(plan, _unheld(state), step, what.value, step.next, now, speed)
    if waiting or done.state.status is Status.ENDED:
        return done
    # It happened during a pause: the wait is over, the pause is not.
    after = done.state
    kept = replace(state, step=after.step, visit=after.visit, frames=after.frames)
    return Outcome(
        replace(kept, visits=after.visits, held=_hold(after, now)),
        done.effects,
    )


def _unheld(state: State) -> State:
    return replace(state, status=Status.WAITING, held=None)


def _branch(
    plan: Plan, state: State, step: Step, branch: Branch, data: Data, now: datetime, speed: float
) -> Outcome:
    seen: list[str] = []
    for case in branch.cases:
        if case.when is None:
            reason = "; ".join(seen) or "else"
            return _done(plan, state, step, "else", case.then, now, speed, reason=reason)
        value, why = _asked(case.when, data)
        if value:
            return _done(plan, state, step, "case", case.then, now, speed, reason=why)
        seen.append(why)
    reason = "; ".join(seen)
    return _done(plan, state, step, "else", step.next, now, speed, reason=reason)


def _asked(criterion: Criterion, data: Data) -> tuple[bool, str]:
    found = trace(criterion.source, criterion.tree, data)
    return found.holds, "; ".join(found.reasons())


def _repeat(
    plan: Plan, state: State, step: Step, repeat: Repeat, data: Data, now: datetime, speed: float
) -> Outcome:
    inside = bool(state.frames) and state.frames[-1][0] == step.id
    rounds = state.frames[-1][1] + 1 if inside else 0
    outer = state.frames[:-1] if inside else state.frames
    met, why = _asked(repeat.until, data) if repeat.until else (False, "")
    if met or rounds >= repeat.times:
        reason = why if met else f"done {rounds} times"
        left = replace(state, frames=outer)
        return _done(plan, left, step, "done", step.next, now, speed, reason=reason)
    within = replace(state, frames=(*outer, (step.id, rounds)))
    again = f"round {rounds + 1}"
    return _done(plan, within, step, "again", repeat.first, now, speed, reason=again)


def _done(
    plan: Plan,
    state: State,
    step: Step,
    outcome: str,
    to: str | None,
    now: datetime,
    speed: float,
    *effects: Effect,
    reason: str = "",
) -> Outcome:
    """Records a step as done and stands before the next."""
    run = Run(step.id, state.visit, step.kind, outcome, reason[:1000])
    arrived = _arrive(plan, state, to, now, speed)
    return Outcome(arrived.state, (run, *effects, *arrived.effects))


def _arrive(plan: Plan, state: State, to: str | None, now: datetime, speed: float) -> Outcome:
    if to is None:
        return end(state, "finished", now=now)
    step = plan.steps[to]
    visits = {**state.visits, to: state.visits.get(to, 0) + 1}
    frames = _frames(state.frames, step)
    back = isinstance(step.what, Repeat) and bool(frames) and frames[-1][0] == to
    status, wait = Status.ACTIVE, timedelta()
    match step.what:
        case Wait(length=length):
            wait = length
        case WaitFor(timeout=timeout):
            status, wait = Status.WAITING, timeout
        case Repeat(times=times, every=every) if back and frames[-1][1] + 1 < times:
            wait = every
    due = now + wait / speed
    return Outcome(State(status, to, visits[to], frames, due, visits))


def _frames(frames: tuple[tuple[str, int], ...], step: Step) -> tuple[tuple[str, int], ...]:
    """The repeats around a step that one goes to, however far away it is.

    Coming from within its body, a repeat's own frame is kept, so that it counts on.
    """
    around = (*step.inside, step.id) if isinstance(step.what, Repeat) else step.inside
    kept: list[tuple[str, int]] = []
    for name, frame in zip(around, frames, strict=False):
        if frame[0] != name:
            break
        kept.append(frame)
    missing = step.inside[len(kept) :]
    return (*kept, *((name, 0) for name in missing))

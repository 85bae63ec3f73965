"""The machine against a simple model of the language, and what holds whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sequencer import machine
from sequencer.effects import columns_of, state_of
from sequencer.machine import Happened, Mail, Outcome, Run, State, Status
from sequencer.plan import Plan, read_plan
from storage.tables import Enrolment
from tests.conftest import MONDAY

HOUR = timedelta(hours=1)
Body = list[dict[str, Any]]


def plan_of(body: Body, **more: Any) -> Plan:
    plan = read_plan(yaml.safe_dump({"sequence": "s", "steps": body, **more}, sort_keys=False))
    assert isinstance(plan, Plan), plan
    return plan


def _hours(low: int) -> st.SearchStrategy[str]:
    return st.integers(low, 30).map("{}h".format)


_LEAF = st.one_of(
    st.just({"send": "x"}),
    st.builds(lambda d: {"wait": d}, _hours(0)),
    st.builds(lambda d: {"wait": {"for": "click", "timeout": d}}, _hours(1)),
)


def _repeat(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda times, every, until, body: {
            "repeat": {"times": times, "every": every, "steps": body, **until}
        },
        st.integers(1, 3),
        _hours(0),
        st.sampled_from([{}, {"until": "enrolment.clicks >= 2"}]),
        st.lists(inner, min_size=1, max_size=3),
    )


def _with_ids(body: list[Any], prefix: str = "s") -> Body:
    found = []
    for number, step in enumerate(body):
        name = f"{prefix}{number}"
        step = {"id": name, **step}
        if "repeat" in step:
            inner = _with_ids(step["repeat"]["steps"], f"{name}_")
            step["repeat"] = {**step["repeat"], "steps": inner}
        found.append(step)
    return found


BODIES = st.lists(st.recursive(_LEAF, _repeat, max_leaves=6), min_size=1, max_size=5).map(_with_ids)


class Model:
    """The language as one would tell it: a walk through the document that waits now and then."""

    def __init__(self, body: Body, clicks: list[datetime]) -> None:
        self.now, self.clicks, self.sent = MONDAY, clicks, []  # type: tuple[Any, Any, list[Any]]
        self.walk(body)

    def walk(self, body: Body) -> None:
        for step in body:
            if "send" in step:
                self.sent.append((step["id"], self.now))
            elif "repeat" in step:
                self.rounds(step["repeat"])
            elif isinstance(step["wait"], str):
                self.now += _length(step["wait"])
            else:
                late = self.now + _length(step["wait"]["timeout"])
                self.now = min([c for c in self.clicks if self.now < c < late], default=late)

    def rounds(self, repeat: dict[str, Any]) -> None:
        for number in range(repeat["times"]):
            if number:
                self.now += _length(repeat["every"])
            if "until" in repeat and sum(c <= self.now for c in self.clicks) >= 2:
                return
            self.walk(repeat["steps"])


def _length(text: str) -> timedelta:
    return int(text.removesuffix("h")) * HOUR


def _run(plan: Plan, clicks: list[datetime]) -> Iterator[tuple[str, datetime]]:
    """The machine on an exact clock."""
    state, seen = machine.begin(plan, now=MONDAY), 0
    waiting = sorted(clicks)
    while state.status is not Status.ENDED:
        assert state.due is not None
        now = state.due
        outcome: Outcome | None
        if waiting and waiting[0] < now:
            now = waiting.pop(0)
            seen += 1
            data = {"enrolment": {"clicks": seen}}
            outcome = machine.happen(plan, state, Happened.CLICK, data, now=now)
        else:
            while waiting and waiting[0] == now:  # Heard before the clock looks.
                waiting.pop(0)
                seen += 1
            data = {"enrolment": {"clicks": seen}}
            outcome = machine.advance(plan, state, data, now=now)
        if outcome is not None:
            yield from ((e.step, now) for e in outcome.effects if isinstance(e, Mail))
            state = outcome.state


_CLICKS = st.lists(st.integers(1, 20_000), max_size=4, unique=True).map(
    # Half minutes: no click falls together with a due time, where the order would be luck.
    lambda minutes: [MONDAY + timedelta(minutes=minute, seconds=30) for minute in minutes]
)


@given(BODIES, _CLICKS)
@settings(max_examples=150, deadline=None)
def test_the_machine_sends_what_the_model_sends_when_the_model_sends_it(
    body: Body, clicks: list[datetime]
) -> None:
    assert list(_run(plan_of(body), clicks)) == Model(body, clicks).sent


GRAPH = plan_of(
    [
        {"id": "a", "send": "x"},
        {"id": "w", "wait": {"for": "click", "timeout": "10h", "on_timeout": "r"}},
        {
            "id": "b",
            "branch": [
                {"when": "enrolment.clicks > 3", "then": "t"},
                {"when": "enrolment.clicks > 1", "then": "in2"},
            ],
        },
        {
            "id": "r",
            "repeat": {
                "times": 2,
                "every": "5h",
                "steps": [
                    {"id": "in1", "send": "x", "thread": True},
                    {
                        "id": "inner",
                        "repeat": {
                            "times": 2,
                            "every": "1h",
                            "steps": [
                                {"id": "in2", "send": "x"},
                                {"id": "w2", "wait": {"for": "task", "timeout": "2h"}},
                            ],
                        },
                    },
                ],
            },
        },
        {"id": "t", "task": "Ring"},
        {"id": "w3", "wait": {"for": "reply", "timeout": "20h", "on_timeout": "end"}},
        {"id": "z", "wait": "3h", "then": "a"},
    ],
    on_reply=[
        {"when": 'reply.intent == "interested"', "do": "goto t"},
        {"when": 'reply.intent == "question"', "do": "goto in2"},
        {"when": 'reply.intent == "later"', "do": "pause 30h"},
        {"when": 'reply.intent == "wait"', "do": "pause"},
        {"when": 'reply.intent == "thanks"', "do": "continue"},
    ],
    stop=["unsubscribe"],
)


class AnyLife(RuleBasedStateMachine):
    """Whatever happens to somebody in a winding sequence, in whatever order."""

    @initialize()
    def comes_in(self) -> None:
        self.now, self.clicks = MONDAY, 0
        self.state = machine.begin(GRAPH, now=self.now)
        self.keys: set[tuple[str, int]] = set()
        self.mails: set[tuple[str, int]] = set()

    def take(self, outcome: Outcome | None) -> None:
        for effect in outcome.effects if outcome else ():
            if isinstance(effect, Run | Mail):
                kept = self.keys if isinstance(effect, Run) else self.mails
                key = (effect.step, effect.visit)
                assert key not in kept, f"{key} is done twice"
                kept.add(key)
        self.state = outcome.state if outcome else self.state
        self.state = self.through_the_store(self.state)

    def through_the_store(self, state: State) -> State:
        row = Enrolment(**columns_of(state, {}, self.now), version=1)
        kept = state_of(row)
        assert kept == state
        return kept

    @property
    def data(self) -> dict[str, Any]:
        return {"enrolment": {"clicks": self.clicks}}

    @rule(hours=st.integers(0, 30))
    def time_passes(self, hours: int) -> None:
        self.now += hours * HOUR
        for _ in range(200):
            outcome = machine.advance(GRAPH, self.state, self.data, now=self.now)
            if outcome is None:
                return
            self.take(outcome)
        raise AssertionError("there is always something more to do at once")

    @rule(what=st.sampled_from(Happened))
    def something_happens(self, what: Happened) -> None:
        if what is not Happened.REPLY:
            self.clicks += what is Happened.CLICK
            self.take(machine.happen(GRAPH, self.state, what, self.data, now=self.now))

    @rule(
        intent=st.sampled_from(["interested", "question", "later", "wait", "thanks", "other"]),
        decision=st.sampled_from(["answer", "answer", "answer", "stop"]),
        unclear=st.booleans(),
        away=st.none() | st.integers(-5, 50),
    )
    def a_reply_comes(self, intent: str, decision: str, unclear: bool, away: int | None) -> None:
        self.take(
            machine.reply(
                GRAPH,
                self.state,
                {**self.data, "reply": {"intent": intent}},
                decision=decision,
                unclear=unclear,
                pause_until=None if away is None else self.now + away * HOUR,
                now=self.now,
            )
        )

    @rule(what=st.sampled_from(["pause", "resume", "resume", "skip", "ask"]))
    def a_person_decides(self, what: str) -> None:
        if what == "pause":
            self.take(machine.pause(self.state, "fair", until=None, now=self.now))
        elif what == "resume":
            self.take(Outcome(machine.resume(GRAPH, self.state, now=self.now)))
        elif what == "skip":
            self.take(machine.skip(GRAPH, self.state, "so", now=self.now))
        else:
            self.take(machine.ask(self.state, "what now", now=self.now))

    @invariant()
    def nobody_is_stuck(self) -> None:
        state = self.state
        if state.status in (Status.ACTIVE, Status.WAITING):
            assert state.due is not None
            assert state.step is not None
            inside = GRAPH.steps[state.step].inside
            assert tuple(name for name, _ in state.frames)[: len(inside)] == inside
            assert all(0 <= rounds < 2 for _, rounds in state.frames)
            assert state.held is None
        elif state.status is Status.ENDED:
            assert (state.step, state.due) == (None, None)
        else:
            assert state.held is not None
            assert state.reason

    @invariant()
    def what_was_done_was_visited(self) -> None:
        assert all(visit <= self.state.visits[step] for step, visit in self.keys)
        assert self.mails <= self.keys


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_step_that_is_late_in_real_time_is_skipped_whatever_the_speed() -> None:
    plan = plan_of([{"id": "a", "send": "x"}, {"id": "b", "wait": "1h"}], max_lateness="2h")
    state = machine.begin(plan, now=MONDAY, speed=1000)
    late = machine.advance(plan, state, {}, now=MONDAY + 3 * HOUR, speed=1000)
    assert late is not None
    assert [e.outcome for e in late.effects if isinstance(e, Run)] == ["skipped"]
    assert late.state.due == MONDAY + 3 * HOUR + HOUR / 1000
    intime = machine.advance(plan, state, {}, now=MONDAY + 2 * HOUR, speed=1000)
    assert intime is not None
    assert any(isinstance(e, Mail) for e in intime.effects)


def test_a_branch_says_why() -> None:
    body: Body = [
        {"id": "b", "branch": [{"when": "enrolment.clicks > 3", "then": "t"}]},
        {"id": "a", "send": "x", "then": "end"},
        {"id": "t", "task": "Ring"},
    ]
    plan = plan_of(body)
    state = machine.begin(plan, now=MONDAY)
    found = machine.advance(plan, state, {"enrolment": {"clicks": 1}}, now=MONDAY)
    assert found is not None
    assert found.state.step == "a"
    assert [e.reason for e in found.effects if isinstance(e, Run)] == [
        "enrolment.clicks > 3 is false: enrolment.clicks is 1"
    ]

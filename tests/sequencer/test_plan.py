"""Reading a sequence: what it becomes, and what is said about a document that is none."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequencer.document import MAX_BYTES, MAX_DEPTH, Problem
from sequencer.plan import Plan, read_plan
from sequencer.steps import Branch, Do, Repeat, Send, Wait, WaitFor, edges

PUMP = """\
sequence: pump-intro
entry: {on: event, event: lead.consented, where: 'contact.organisation != ""', reentry: ended}
stop: [reply.human, unsubscribe, bounce.hard, complaint]
max_lateness: 12h
on_reply:
  - {when: 'reply.intent == "interested" && reply.certainty >= 0.6', do: goto ring}
  - {when: 'reply.intent == "later"', do: pause 14d}
steps:
  - {id: hello, send: pump-hello}
  - id: w1
    wait: {for: click, where: 'event.url.contains("pricing")', timeout: 4d, on_timeout: nudge}
  - {id: price, send: pump-price, thread: true, then: ring}
  - id: nudge
    repeat:
      times: 2
      every: 5d
      until: has(enrolment.last_human_event)
      steps:
        - {id: n, send: pump-nudge, thread: true}
        - {id: n2, wait: 1d}
  - id: which
    branch:
      - {when: enrolment.clicks > 0, then: ring}
      - {else: done}
  - {id: ring, task: Ring them up, due: 4h}
  - {id: done, end: true}
"""


def read(source: str) -> Plan:
    plan = read_plan(source, "pump.yaml")
    assert isinstance(plan, Plan), "\n".join(str(p) for p in plan)
    return plan


def test_a_whole_sequence_becomes_a_plan() -> None:
    plan = read(PUMP)
    assert (plan.name, plan.first, plan.max_lateness) == (
        "pump-intro",
        "hello",
        timedelta(hours=12),
    )
    assert (plan.entry.event, plan.entry.again) == ("lead.consented", True)
    assert [(rule.do, rule.to, rule.pause) for rule in plan.on_reply] == [
        (Do.GOTO, "ring", None),
        (Do.PAUSE, None, timedelta(days=14)),
    ]
    steps = plan.steps
    assert isinstance(steps["hello"].what, Send)
    assert steps["hello"].next == "w1"
    assert isinstance(steps["w1"].what, WaitFor)
    assert edges(steps["w1"]) == [("price", "click"), ("nudge", "time-out")]
    assert steps["price"].what == Send("pump-price", True)
    assert steps["price"].next == "ring"
    assert isinstance(steps["nudge"].what, Repeat)
    assert steps["nudge"].next == "which"
    assert (steps["n"].next, steps["n"].inside) == ("n2", ("nudge",))
    assert steps["n2"].what == Wait(timedelta(days=1))
    assert steps["n2"].next == "nudge"
    assert isinstance(steps["which"].what, Branch)
    assert steps["ring"].next == "done"
    assert plan.outline()["steps"][0]["edges"] == [{"to": "w1", "why": ""}]


def test_what_is_left_out_has_a_sensible_meaning() -> None:
    plan = read("sequence: s\nsteps:\n- {id: a, send: x}\n")
    assert plan.stop == {"reply.human", "unsubscribe", "bounce.hard", "complaint"}
    assert plan.entry.event is None
    assert plan.steps["a"].next is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", 'pump.yaml:1:1: The document is empty.\n  Begin with "sequence: <name>".'),
        ("a: [", "pump.yaml:1:5: This is not YAML"),
        ("- x", "A sequence needs fields."),
        ("sequence: s\nstepps: []", 'pump.yaml:2:1: A sequence has no field "stepps".'),
        ("sequence: s\nstepps: []", 'Did you mean "steps"?'),
        ("sequence: s\nsteps: []", "A sequence needs steps."),
        ("sequence: s\nsteps: [{send: x}]", "2:9: A step needs an id"),
        ("sequence: s\nsteps: [{id: a, sent: x}]", 'Did you mean "send"?'),
        ("sequence: s\nsteps: [{id: a, send: x, wait: 1d}]", "A step does one thing."),
        ("sequence: s\nsteps: [{id: a, wait: 3 days}]", '"3 days" is not a duration.'),
        (
            "sequence: s\nsteps: [{id: a, send: x}, {id: a, end: true}]",
            '"a" is also the id of line 2.',
        ),
        (
            "sequence: s\nsteps: [{id: hello, send: x, then: helo}]",
            'There is no step "helo".\n  Did you mean "hello"?',
        ),
        (
            "sequence: s\nsteps: [{id: a, end: true}, {id: b, send: x}]",
            'pump.yaml:2:29: No way leads to the step "b".',
        ),
        (
            "sequence: s\nsteps: [{id: a, wait: {for: click}}]",
            "A wait for something needs a timeout, or it may never end.",
        ),
        (
            "sequence: s\nsteps: [{id: a, wait: {for: click, timeout: 0d}}]",
            "This is no time at all.",
        ),
        (
            "sequence: s\nsteps: [{id: a, wait: {for: clck, timeout: 1d}}]",
            'Did you mean "click"?',
        ),
        (
            "sequence: s\nsteps: [{id: a, wait: {for: task, timeout: 1d}}]",
            '"a" waits for a task, and no step gives one.',
        ),
        (
            "sequence: s\nsteps: [{id: a, send: x, then: b}, {id: b, send: y, then: a}]",
            'From "a" a round leads back to it, and no time passes.',
        ),
        (
            "sequence: s\nsteps:\n- id: a\n  branch:\n  - {when: 'reply.intnt == 1', then: end}",
            'pump.yaml:5:13: There is no "reply.intnt".\n  Did you mean "reply.intent"?',
        ),
        (
            "sequence: s\nsteps: [{id: a, branch: [{else: end}, {when: 'true', then: end}]}]",
            'Nothing can come after "else".',
        ),
        ("sequence: s\nstop: [reply]\nsteps: [{id: a, end: true}]", 'Did you mean "reply.human"?'),
        (
            "sequence: s\non_reply: [{when: 'true', do: fly}]\nsteps: [{id: a, end: true}]",
            '"fly" can\'t be done.',
        ),
        ("sequence: s\nentry: {on: lunch}\nsteps: [{id: a, end: true}]", '"lunch" is no way in.'),
        (
            "sequence: s\nsteps: [{id: a, repeat: {times: many, every: 1d, "
            "steps: [{id: b, send: x}]}}]",
            '"many" is no number of times.',
        ),
        ("sequence: s\nsequence: t\nsteps: []", '2:1: "sequence" is here twice.'),
        ("a: &x 1\nb: *x", "pump.yaml:2:4: Aliases (*) are not used here."),
        ("a: !!python/name:os.system x", "is not used here."),
        ("[" * 3000, f"nested more than {MAX_DEPTH} deep"),
        ("a" * (MAX_BYTES + 1), "The document is larger than 256 KiB."),
        ("a: \x07", "pump.yaml:1:4: This character can't be in YAML."),
        ("a: 1\n---\nb: 2", "This is not YAML"),
    ],
)
def test_a_bad_document_is_told_where_and_how_to_mend_it(source: str, said: str) -> None:
    found = read_plan(source, "pump.yaml")
    assert isinstance(found, list)
    assert said in "\n".join(str(problem) for problem in found)
    assert all(problem.mend for problem in found)


def test_all_problems_are_told_at_once_in_the_order_of_the_document() -> None:
    found = read_plan("sequence: s\nstop: [x]\nsteps: [{id: a, wait: x}, {id: b, snd: y}]")
    assert isinstance(found, list)
    assert [problem.line for problem in found] == [2, 3, 3]


def test_the_example_of_the_guide_is_a_plan() -> None:
    guide = Path(__file__).parents[2].joinpath("docs/sequences.md").read_text("utf-8")
    examples = [part.split("```")[0] for part in guide.split("```yaml\n")[1:]]
    assert examples
    for example in examples:
        assert isinstance(read(example), Plan)


_LINES = st.lists(
    st.sampled_from(
        [*PUMP.splitlines(), "steps:", "- {id: a, send: x}", "  - {id: b, wait: 1d}", "{", "*a"]
    ),
    max_size=12,
).map("\n".join)


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    place, length = draw(st.integers(0, len(PUMP))), draw(st.integers(0, 30))
    return PUMP[:place] + draw(st.text("[]{}:-,'\"ad \n", max_size=6)) + PUMP[place + length :]


@given(st.one_of(st.text(max_size=60), _LINES, _damaged()))
@settings(max_examples=250, deadline=None)
def test_any_text_is_a_plan_or_problems(source: str) -> None:
    found = read_plan(source)
    if isinstance(found, list):
        assert found
        assert all(isinstance(p, Problem) and p.line >= 1 and p.what and p.mend for p in found)
    else:
        assert found.first in found.steps

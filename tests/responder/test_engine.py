"""Every rule has an example that runs; what people write can not become a rule."""

from __future__ import annotations

from datetime import date
from importlib.resources import files
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from responder.engine import Engine, decide, engine, why
from responder.facts import Case, Piece, pause_end, questions_in
from tests.conftest import MONDAY

EXAMPLES: list[dict[str, Any]] = yaml.safe_load(
    files("responder").joinpath("rules", "examples.yaml").read_text("utf-8")
)


def case(*evidence: Piece, **more: Any) -> Case:
    return Case(evidence=evidence, now=MONDAY, **more)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["rule"])
def test_example(example: dict[str, Any]) -> None:
    pieces = [Piece(*values) for values in example.get("evidence", [])]
    more = {
        name: example[name]
        for name in ("text", "abstain", "asked_to_stop", "absence", "act_from")
        if name in example
    }
    decision = decide(case(*pieces, people=tuple(example.get("people", ())), **more))
    assert decision.kind == example["decision"]
    assert example["rule"] in [firing.rule for firing in decision.trace]
    if not example["rule"].startswith(("weigh-", "question-needs-")):
        assert decision.rule == example["rule"]
    if "certainty" in example:
        assert decision.certainty == pytest.approx(example["certainty"], abs=0.001)
    if "needs" in example:
        assert list(decision.needs) == example["needs"]


def test_every_rule_has_an_example() -> None:
    assert set(engine().rules()) == {example["rule"] for example in EXAMPLES}


def test_every_rule_explains_itself() -> None:
    for example in EXAMPLES:
        pieces = [Piece(*values) for values in example.get("evidence", [])]
        decision = decide(case(*pieces, asked_to_stop=example.get("asked_to_stop", False)))
        assert all(firing.says.endswith((".", '".')) for firing in decision.trace)
        assert decision.trace[-1].facts
        assert why(decision)[-1].endswith(f"[{decision.rule}]")


HOSTILE = [
    'x") (system "touch /tmp/pwned") ("',
    "))) (assert (decision (kind answer)))",
    '(defrule x => (system "id"))',
    '\\" ) (exit) ; \x00\n',
    "?x $?y &:(system) | ~",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_stay_words(text: str) -> None:
    before = engine().rules()
    decision = decide(
        case(
            Piece("unsubscribe", "lexicon", 0.9, text),
            Piece(text, "model", 0.9, text),
            Piece("interested", text, 0.9, text),
            text=text,
            abstain=text,
            people=(text,),
        )
    )
    assert decision.kind == "suppress"
    assert engine().rules() == before
    kept = "".join(c if c.isprintable() else " " for c in text)
    assert any(fact.get("phrase") == kept for one in decision.trace for fact in one.facts)


@given(st.text(max_size=200), st.floats(-2, 2))
def test_any_words_lead_to_a_decision(text: str, weight: float) -> None:
    pieces = (Piece("interested", "model", weight, text), Piece("complaint", "lexicon", 0.1, text))
    decision = decide(case(*pieces, text=text, people=(text,)))
    assert decision.kind in {"answer", "ask_rep", "suppress", "escalate"}


def test_nobody_who_asks_to_stop_is_answered_as_interested() -> None:
    for stop in ("unsubscribe", "complaint"):
        for weight in (0.35, 0.5, 0.7, 0.99):
            decision = decide(
                case(Piece("interested", "model", 0.99), Piece(stop, "model", weight))
            )
            assert decision.kind in {"suppress", "ask_rep"}
            assert decision.needs == ()


def test_the_order_of_evidence_does_not_matter_and_a_run_leaves_nothing_behind() -> None:
    pieces = [Piece("interested", "model", 0.6), Piece("interested", "lexicon", 0.8, "love it")]
    assert decide(case(*pieces)).certainty == decide(case(*reversed(pieces))).certainty
    assert decide(case()).rule == "undecided-nothing-sure"


def test_the_version_is_of_the_rules() -> None:
    assert Engine().version == engine().version == decide(case()).rules_version


@pytest.mark.parametrize(
    ("returns", "days", "ends"),
    [
        (date(2026, 11, 26), 0, "2026-11-27T08:00:00+00:00"),
        (date(2026, 11, 27), 0, "2026-11-30T08:00:00+00:00"),
        (None, 0, "2026-11-30T08:00:00+00:00"),
        (date(2026, 1, 1), 0, "2026-11-30T08:00:00+00:00"),
        (date(2036, 1, 1), 60, "2027-01-22T08:00:00+00:00"),
    ],
)
def test_a_pause_ends_a_working_day_after_the_return(
    returns: date | None, days: int, ends: str
) -> None:
    absent = case(returns=returns, zone="Europe/Berlin", absence=True)
    assert pause_end(absent, days).isoformat() == ends


def test_questions_are_found_once_each() -> None:
    text = "Hello. How much is it? And how loud?\nHow much is it? Thanks!"
    assert questions_in(text) == ["How much is it?", "And how loud?"]

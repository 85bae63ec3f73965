"""Questions find the passage that answers them, and others find none they could be sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.matching import rank, similarity


@dataclass
class Passage:
    title: str
    text: str
    asks: list[str] = field(default_factory=list)
    descriptors: dict[str, Any] = field(default_factory=dict)


PASSAGES = [
    Passage(
        "What it costs",
        "A pump costs 14,900 euros, installed.",
        ["How much does it cost?", "Could you send a quote?"],
        {"need": "question_pricing"},
    ),
    Passage(
        "How loud it is",
        "The outdoor unit makes 38 decibels at three metres.",
        ["How loud is it?", "Will it disturb the neighbours?"],
        {"need": ["question_product"]},
    ),
]


@pytest.mark.parametrize(
    ("question", "need", "place"),
    [
        ("How much does it cost for a workshop of 250 square metres?", "question_pricing", 0),
        ("And what would the price be?", "question_pricing", 0),
        ("How loud is the outdoor unit?", "question_product", 1),
        ("How noisy is it?", "", 1),
        ("Can you send us a quote?", "question_product", 0),
    ],
)
def test_the_passage_for_a_question(question: str, need: str, place: int) -> None:
    best = rank(question, PASSAGES, need=need)[0]
    assert (best.place, best.sure) == (place, True)


@pytest.mark.parametrize(
    ("question", "need"),
    [
        ("Which colours does it come in?", "question_product"),
        ("Who are your references in France?", ""),
        ("", "question_pricing"),
    ],
)
def test_no_passage_is_sure_for_something_else(question: str, need: str) -> None:
    assert not any(match.sure for match in rank(question, PASSAGES, need=need))


def test_meaning_can_be_judged_by_something_else() -> None:
    def encoder(text: str, others: Sequence[str]) -> list[float]:
        return [0.9 if "decibels" in other else 0.0 for other in others]

    assert [match.place for match in rank("x", PASSAGES, similar=encoder)] == [1]


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_texts_can_be_compared(one: str, other: str) -> None:
    (score,) = similarity(one, [other])
    assert 0.0 <= score <= 1.0000001
    assert similarity(other, [one])[0] == pytest.approx(score)

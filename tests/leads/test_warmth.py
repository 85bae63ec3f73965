"""Warmth: points with limits that fade, and signs that end it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from leads.warmth import MAX_REASONS, WEIGHTS, Sign, sign_of_intent, warmth, with_sign
from tests.conftest import MONDAY


def sign(kind: str, days_ago: float = 0) -> Sign:
    return Sign(kind, MONDAY - timedelta(days=days_ago), f"{kind}{days_ago}")


def test_points_have_a_limit_and_fade() -> None:
    assert warmth([sign("click", n / 100) for n in range(10)], now=MONDAY) == 24
    assert warmth([sign("interested")], now=MONDAY) == 45
    assert warmth([sign("interested", 30)], now=MONDAY) == 22


def test_who_unsubscribed_is_cold_until_they_come_back_by_themselves() -> None:
    before = [sign("interested", 3), sign("unsubscribed", 2)]
    assert warmth(before, now=MONDAY) == 0
    assert warmth([*before, sign("question")], now=MONDAY) == 25


def test_the_same_event_counts_once() -> None:
    kept = with_sign([], sign("click"))
    assert kept is not None
    assert kept[0]["why"] == "followed a link"
    assert with_sign(kept, sign("click")) is None
    assert Sign.from_json(kept[0]) == sign("click")


def test_intents_become_signs_that_have_a_weight() -> None:
    for intent in ("interested", "meeting_request", "out_of_office", ""):
        assert sign_of_intent(intent) in WEIGHTS


@given(st.lists(st.tuples(st.sampled_from(sorted(WEIGHTS)), st.floats(-1, 900)), max_size=80))
def test_warmth_stays_within_bounds(found: list[tuple[str, float]]) -> None:
    kept: list[dict[str, object]] = []
    for kind, days in found:
        kept = with_sign(kept, sign(kind, days)) or kept
    assert len(kept) <= MAX_REASONS
    assert 0 <= warmth([Sign.from_json(k) for k in kept], now=MONDAY) <= 100

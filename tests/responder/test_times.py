"""Times that people name, found with their places; no false alarms."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.times import find_times

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)  # A Monday.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Can we meet on Tuesday?", [("Tuesday", "day", "2026-11-24T00:00")]),
        ("next Tuesday at 10 works", [("next Tuesday at 10", "minute", "2026-11-24T10:00")]),
        ("Thursday afternoon is fine", [("Thursday afternoon", "daypart", "2026-11-26T14:00")]),
        ("tomorrow at 9:30", [("tomorrow at 9:30", "minute", "2026-11-24T09:30")]),
        ("tomorrow morning", [("tomorrow morning", "daypart", "2026-11-24T09:00")]),
        (
            "Call me at 3pm today",
            [("at 3pm", "minute", "2026-11-23T15:00"), ("today", "day", "2026-11-23T00:00")],
        ),
        ("back on 12 August", [("12 August", "day", "2027-08-12T00:00")]),
        ("until December 1st", [("December 1st", "day", "2026-12-01T00:00")]),
        ("the 3rd of March 2027", [("the 3rd of March 2027", "day", "2027-03-03T00:00")]),
        ("on the 14th", [("on the 14th", "day", "2026-12-14T00:00")]),
        ("2026-12-24 is closed", [("2026-12-24", "day", "2026-12-24T00:00")]),
        ("in three months", [("in three months", "month", "2027-02-21T00:00")]),
        ("in 2 weeks", [("in 2 weeks", "week", "2026-12-07T00:00")]),
        ("next week", [("next week", "week", "2026-11-30T00:00")]),
        ("next year", [("next year", "month", "2027-01-01T00:00")]),
        ("in Q3", [("Q3", "quarter", "2027-07-01T00:00")]),
        ("come back in January", [("in January", "month", "2027-01-01T00:00")]),
        ("ask again in May", [("in May", "month", "2027-05-01T00:00")]),
        ("Passt Ihnen Dienstag um 14 Uhr?", [("Dienstag um 14 Uhr", "minute", "2026-11-24T14:00")]),
        ("bis zum 12. August", [("12. August", "day", "2027-08-12T00:00")]),
        ("am 1.12.2026", [("1.12.2026", "day", "2026-12-01T00:00")]),
        ("nächste Woche", [("nächste Woche", "week", "2026-11-30T00:00")]),
        ("un rendez-vous jeudi", [("jeudi", "day", "2026-11-26T00:00")]),
        ("jusqu'au 20 août", [("20 août", "day", "2027-08-20T00:00")]),
        ("el lunes por la tarde", [("lunes por la tarde", "daypart", "2026-11-30T14:00")]),
        ("hasta el 15 de agosto", [("el 15 de agosto", "day", "2027-08-15T00:00")]),
        (
            "Would 4:15 pm on Wednesday suit you?",
            [
                ("4:15 pm", "minute", "2026-11-25T16:15"),
                ("Wednesday", "day", "2026-11-25T00:00"),
            ],
        ),
        (
            "Thursday at half past three",
            [("Thursday at half past three", "minute", "2026-11-26T15:30")],
        ),
        (
            "Donnerstag um halb drei",
            [("Donnerstag um halb drei", "minute", "2026-11-26T14:30")],
        ),
        (
            "Friday between 10 and 12",
            [("Friday between 10 and 12", "minute", "2026-11-27T10:00")],
        ),
        ("the 2nd at noon", [("the 2nd at noon", "minute", "2026-12-02T12:00")]),
        ("Tuesday the 8th at 2pm", [("Tuesday the 8th at 2pm", "minute", "2026-12-08T14:00")]),
        ("11/30 at 3:00 PM", [("11/30 at 3:00 PM", "minute", "2026-11-30T15:00")]),
        ("the week after next", [("the week after next", "week", "2026-12-07T00:00")]),
        ("in a fortnight", [("in a fortnight", "week", "2026-12-07T00:00")]),
        ("in an hour", [("in an hour", "minute", "2026-11-23T10:30")]),
        ("after Christmas", [("after Christmas", "week", "2026-12-27T00:00")]),
        ("mid-January", [("mid-January", "month", "2027-01-01T00:00")]),
        ("5 o'clock", [("5 o'clock", "minute", "2026-11-23T17:00")]),
        ("übermorgen", [("übermorgen", "day", "2026-11-25T00:00")]),
    ],
)
def test_a_time_is_found_with_its_place(text: str, expected: list[tuple[str, str, str]]) -> None:
    found = find_times(text, NOW)
    got = [(one.text, str(one.precision), one.value.isoformat()[:16]) for one in found]
    assert got == expected
    assert all(text[slice(*one.span)] == one.text for one in found)


@pytest.mark.parametrize(
    "text",
    [
        "We may do that, and we are 20 people.",
        "It costs 5000 EUR, or 4.500,00 with a discount of 10%.",
        "I march on, as May said to June.",
        "Version 2.0.1 of the file at 192.168.1.1 is 12.5 MB.",
        "Call 0171 5550123 or write to sun@mon.example.",
        "The price went from 14,900 to 12,000.",
        "Our offer 2024/118 has 3 parts and 24 pages.",
        "Please take me off your list.",
        "Order 11-22-33 and ticket #1030.",
        "We had 1,200 guests and 15 staff.",
        "It is a quarter to a third of our cost, 3/4 or 5/6 of it, 24/7.",
        "The 2nd edition, between 10 and 12 pages, in one hour-glass.",
        "Half past experience counts.",
    ],
)
def test_what_is_no_time_is_left_alone(text: str) -> None:
    assert find_times(text, NOW) == []


@given(st.text(max_size=400))
def test_no_text_raises_and_places_are_true(text: str) -> None:
    for one in find_times(text, NOW):
        assert text[slice(*one.span)] == one.text


@given(
    st.lists(
        st.sampled_from(
            "tuesday at 10 in 3 weeks 12 . may 2026 - : next q4 am pm the half past between and "
            "31 / 8th".split()
        )
    )
)
def test_any_jumble_of_words_of_time_is_read_without_error(words: list[str]) -> None:
    spans = [one.span for one in find_times(" ".join(words), NOW)]
    assert spans == sorted(spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))

"""An activity in one line: what it says, and what is said about a line that can't be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import MONDAY
from tracker.line import KINDS, RESPONSES, Entry, LineProblem, read_line


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("call ann@x.test", Entry("call", "ann@x.test")),
        (
            "call Ann@X.test interested next mail in 3d",
            Entry("call", "ann@x.test", "interested", "", "mail", MONDAY + timedelta(days=3)),
        ),
        (
            "call ann@x.test not interested, has one already",
            Entry("call", "ann@x.test", "not_interested", "has one already"),
        ),
        (
            "note ann@x.test call her next week",
            Entry("note", "ann@x.test", "", "call her next week"),
        ),
        (
            "mail: ann@x.test wants prices next call tomorrow at 14:30",
            Entry(
                "mail", "ann@x.test", "", "wants prices", "call",
                datetime(2026, 11, 24, 14, 30, tzinfo=UTC),
            ),
        ),
        (
            "visit ann@x.test next demo on 2026-12-01",
            Entry("visit", "ann@x.test", "", "", "demo", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ),
    ],
)  # fmt: skip
def test_a_line_says(line: str, entry: Entry) -> None:
    assert read_line(line, now=MONDAY) == entry


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", 'column 1: The line is empty. Write for example "call ann@x.example interested".'),
        ("cal ann@x.test", 'column 1: "cal" is not a kind of activity. Did you mean "call"?'),
        (
            "call ann at x",
            'column 6: "ann" is not an e-mail address. Write "call name@company.example …".',
        ),
        (
            "call ann@x.test next mail in 3 days",
            'column 30: "3" is not a duration. '
            'Write a whole number with m, h, d or w, for example "3d".',
        ),
        (
            "call ann@x.test next mial in 3d",
            'column 22: "mial" is not a kind of activity. Did you mean "mail"?',
        ),
        (
            "call ann@x.test next mail on 9999-12-31",
            'column 30: "9999-12-31" is too far away. Choose a nearer day.',
        ),
        (
            "call ann@x.test next mail in 3d please",
            'column 33: "please" comes after the time of what is next. '
            'Put the words of your note before "next".',
        ),
    ],
)
def test_a_bad_line_is_told_where_and_how_to_mend_it(line: str, said: str) -> None:
    assert str(read_line(line, now=MONDAY)) == said


def test_tomorrow_is_the_writers_and_keeps_the_clock_time_over_a_change_of_clocks() -> None:
    late = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)  # Half past midnight, the 25th, in Berlin.
    entry = read_line("call a@x.test next call tomorrow at 9:00", now=late, zone="Europe/Berlin")
    assert isinstance(entry, Entry)
    assert entry.next_at == datetime(2026, 10, 26, 8, 0, tzinfo=UTC)


_WORDS = st.sampled_from(
    [
        *(*KINDS, *RESPONSES, "ann@x.test", "next", "in", "3d", "9999w", "on", "at", "14:30"),
        *("tomorrow", "2026-12-01", "9999-12-31", "0001-01-01", "interested,", "<>", "\x00", "é"),
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(_WORDS, max_size=12).map(" ".join)))
def test_any_line_is_an_entry_or_a_problem(line: str) -> None:
    found = read_line(line, now=MONDAY, zone="America/New_York")
    assert isinstance(found, Entry | LineProblem)

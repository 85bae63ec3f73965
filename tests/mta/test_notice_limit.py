"""A flood of reports ends, and begins again after an hour."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from mta.notice_limit import HOUR, Leave, NoticeLimit
from tests.conftest import MONDAY


@given(st.lists(st.integers(0, 7200), max_size=60), st.integers(1, 10))
def test_no_hour_sees_more_than_its_share(seconds: list[int], most: int) -> None:
    limit = NoticeLimit(most)
    sent = []
    for second in sorted(seconds):
        at = MONDAY + timedelta(seconds=second)
        full = limit.is_used_up("bo@office.test", at)
        leave = limit.ask("bo@office.test", at)
        before = [one for one in sent if one > at - HOUR]
        assert (leave is Leave.NO) == full == (len(before) == most)
        assert (leave is Leave.LAST) == (len(before) == most - 1)
        if leave is not Leave.NO:
            sent.append(at)


def test_one_reader_s_flood_is_not_another_s() -> None:
    limit = NoticeLimit(1)
    assert limit.ask("a", MONDAY) is Leave.LAST
    assert limit.ask("a", MONDAY) is Leave.NO
    assert limit.ask("b", MONDAY) is Leave.LAST
    assert limit.ask("a", MONDAY + HOUR) is Leave.LAST

"""Waits between attempts: by attempt, by what the reply was about, and never all at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.smtp_reply import SmtpReply
from mta.retry import JITTER, BounceClass, ReplyClass, RetrySchedule, bounce_class

NOW = datetime(2026, 8, 3, 9, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def test_the_wait_doubles_up_to_the_longest() -> None:
    schedule = RetrySchedule()
    waits = [schedule.wait(attempts) for attempts in (1, 2, 3, 7, 50)]
    assert waits == [5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 4 * HOUR, 4 * HOUR]


@pytest.mark.parametrize(
    ("reply_class", "first", "last"),
    [
        (ReplyClass.OTHER, 5 * MINUTE, 4 * HOUR),
        (ReplyClass.GREYLISTED, 2 * MINUTE, 30 * MINUTE),
        (ReplyClass.MAILBOX_FULL, HOUR, 12 * HOUR),
        (ReplyClass.SLOW_DOWN, 5 * MINUTE, 2 * HOUR),
        (ReplyClass.BLOCKED, 30 * MINUTE, 6 * HOUR),
        (ReplyClass.NO_CONNECTION, 5 * MINUTE, HOUR),
    ],
)
def test_what_the_reply_was_about_decides(
    reply_class: ReplyClass, first: timedelta, last: timedelta
) -> None:
    assert RetrySchedule().wait(1, reply_class) == first
    assert RetrySchedule().wait(30, reply_class) == last


@given(
    attempts=st.integers(-5, 1 << 40),
    reply_class=st.sampled_from(ReplyClass),
    key=st.text(max_size=40),
    first=st.integers(1, 86_400),
    longest=st.integers(1, 864_000),
)
def test_a_wait_is_never_none_nor_endless(
    attempts: int, reply_class: ReplyClass, key: str, first: int, longest: int
) -> None:
    schedule = RetrySchedule(timedelta(seconds=first), timedelta(seconds=longest))
    plain = schedule.wait(attempts, reply_class)
    assert (
        timedelta(0) < plain <= max(timedelta(seconds=longest) * 3, timedelta(seconds=first) * 12)
    )
    wait = schedule.wait(attempts, reply_class, key)
    assert abs(wait - plain) <= plain * JITTER + timedelta(microseconds=2)
    assert wait == schedule.wait(attempts, reply_class, key)


def test_deliveries_that_failed_together_come_apart() -> None:
    waits = {RetrySchedule().wait(3, key=f"delivery-{number}") for number in range(1000)}
    assert len(waits) > 990
    assert max(waits) - min(waits) > RetrySchedule().wait(3) * JITTER


def test_too_late_is_none() -> None:
    schedule = RetrySchedule()
    expires = NOW + 10 * MINUTE
    assert schedule.next_attempt(attempts=1, expires=expires, now=NOW) == NOW + 5 * MINUTE
    assert schedule.next_attempt(attempts=2, expires=expires, now=NOW) is None
    quick = schedule.next_attempt(
        attempts=2, expires=expires, now=NOW, reply_class=ReplyClass.GREYLISTED
    )
    assert quick == NOW + 4 * MINUTE


def test_a_block_never_suppresses_a_person() -> None:
    for code in ("5.7.1", "5.7.26", "5.7.606", "5.7.999"):
        found = bounce_class(SmtpReply(550, "user unknown or blocked", code), at_recipient=True)
        assert found is BounceClass.POLICY
        assert not found.hard

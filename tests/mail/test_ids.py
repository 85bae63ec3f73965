"""Keys sort by time, within one millisecond too."""

from __future__ import annotations

import time
from uuid import RFC_4122

from mail.ids import uuid7


def test_keys_rise_and_are_version_7() -> None:
    made = [uuid7() for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {key.version for key in made} == {7}
    assert {key.variant for key in made} == {RFC_4122}


def test_a_key_carries_its_time() -> None:
    before = time.time_ns() // 1_000_000
    milliseconds = uuid7().int >> 80
    assert before - 50 <= milliseconds <= time.time_ns() // 1_000_000 + 50

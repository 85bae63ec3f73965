"""Keys that sort by the time they were made (UUID version 7, RFC 9562 §5.7)."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime
from uuid import UUID

_lock = threading.Lock()
_last = 0
_random = memoryview(b"")
"""Random bytes fetched in advance: asking the kernel takes longer than all the rest."""


def _forget_random() -> None:
    global _random
    _random = memoryview(b"")


os.register_at_fork(after_in_child=_forget_random)


def uuid7() -> UUID:
    """A new key: 48 bits of milliseconds, a 12-bit counter within them, 62 random bits.

    Keys of one process never go backwards, even when the clock does (RFC 9562 §6.2, method 3:
    the sub-millisecond part counts on).
    """
    global _last, _random
    now = time.time_ns()
    stamp = (now // 1_000_000) << 12 | (now % 1_000_000) * 4096 // 1_000_000
    with _lock:
        _last = stamp = max(stamp, _last + 1)
        if len(_random) < 8:
            _random = memoryview(os.urandom(2048))
        drawn, _random = _random[:8], _random[8:]
    tail = int.from_bytes(drawn, "big") & ((1 << 62) - 1)
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | tail
    return UUID(int=value)


def first_uuid7(instant: datetime) -> UUID:
    """The smallest key of this instant's millisecond: keys below were made before."""
    stamp = int(instant.timestamp() * 1000)
    return UUID(int=stamp << 80 | 0x7 << 76 | 0b10 << 62)

"""How many reports one reader gets: a program that goes wrong shall not flood a mailbox.

Pure: the time is an argument. Kept in memory; after a restart it begins anew.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime, timedelta
from enum import Enum

HOUR = timedelta(hours=1)
MAX_READERS = 10_000
"""Readers that are remembered; the one that was silent longest is forgotten first."""


class Leave(Enum):
    """Whether one more may be sent; `LAST` is the last one for a while."""

    YES = "yes"
    LAST = "last"
    NO = "no"


class NoticeLimit:
    """Counts within a sliding hour."""

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._sent: OrderedDict[str, deque[datetime]] = OrderedDict()

    def is_used_up(self, reader: str, now: datetime) -> bool:
        """Whether nothing may be sent to this reader now; takes no place."""
        times = self._sent.get(reader, ())
        return sum(at > now - HOUR for at in times) >= self._per_hour

    def ask(self, reader: str, now: datetime) -> Leave:
        """Takes one place for this reader, if there is one."""
        times = self._sent.setdefault(reader, deque())
        self._sent.move_to_end(reader)
        if len(self._sent) > MAX_READERS:
            self._sent.popitem(last=False)
        while times and times[0] <= now - HOUR:
            times.popleft()
        if len(times) >= self._per_hour:
            return Leave.NO
        times.append(now)
        return Leave.LAST if len(times) == self._per_hour else Leave.YES

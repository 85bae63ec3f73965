"""How much a login may submit: recipients in an hour and in a day, counted in this process.

Pure but for the clock that it is given.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_LOGINS = 100_000
HOUR, DAY = 3600.0, 86400.0


class Allowance:
    """Fixed windows, which begin with the first message in them. 0 stands for no limit."""

    def __init__(
        self, *, hourly: int = 0, daily: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = ((HOUR, hourly), (DAY, daily))
        self._clock = clock
        self._used: OrderedDict[tuple[str, float], tuple[float, int]] = OrderedDict()

    def refusal(self, login: str) -> str:
        """Empty if there is some left, otherwise the reply that says when there is more."""
        now = self._clock()
        for window, limit in self._limits:
            since, count = self._used.get((login, window), (now, 0))
            if limit and count >= limit and now - since < window:
                left = int(since + window - now) // 60 + 1
                span = "hour" if window == HOUR else "day"
                code = "450 4.7.1" if window == HOUR else "452 4.7.1"
                return (
                    f"{code} {limit} recipients in one {span} are used up; "
                    f"there are more in {left} minutes"
                )
        return ""

    def used(self, login: str, recipients: int) -> None:
        """So many were taken."""
        now = self._clock()
        for window, limit in self._limits:
            if not limit:
                continue
            since, count = self._used.pop((login, window), (now, 0))
            if now - since >= window:
                since, count = now, 0
            self._used[(login, window)] = (since, count + recipients)
        while len(self._used) > MAX_LOGINS:
            self._used.popitem(last=False)

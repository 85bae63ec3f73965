"""Rates: the generic cell rate algorithm with a fixed limit, and a pace that is learnt.

GCRA (ITU-T I.371) keeps one number, the theoretical arrival time, and is exact at any time scale.

Pure: times are float seconds that the caller passes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isinf

from mta.shaping.rules import Rate

TOLERANCE = 1e-6
"""Seconds; a float of the present time is not more exact than this."""

BURST_SHARE = 10
"""A tenth of a limit may go at once; the rest is spread evenly."""


@dataclass(slots=True)
class Bucket:
    """One limit. In any half-open span of its length no more than its number is let through."""

    interval: float
    burst: int
    due: float = 0.0

    @classmethod
    def of(cls, rate: Rate, processes: int) -> Bucket:
        """This process's share. Less than one in a span means one in a longer span."""
        share = rate.most / processes
        seconds = rate.seconds
        if share < 1:
            seconds, share = seconds / share, 1.0
        whole = int(share)
        burst = max(1, whole // BURST_SHARE)
        # The burst comes on top of the even flow, so the flow leaves space for it.
        return cls(seconds / (whole - burst + 1) * (1 + 1e-9), burst)

    def room(self, now: float) -> int:
        """How many may go now."""
        slack = self.interval * (self.burst - 1)
        self.due = min(self.due, now + slack + self.interval)
        free = int((now + slack + TOLERANCE - max(self.due, now)) / self.interval + 1)
        return max(0, min(self.burst, free))

    def next(self, now: float) -> float:
        """When the next one may go; never further off than the rule asks for."""
        self.due = min(self.due, now + self.interval * self.burst)
        return max(now, self.due - self.interval * (self.burst - 1))

    def take(self, count: int, now: float) -> None:
        self.due = max(self.due, now) + self.interval * count


SLOWEST = 1 / 60
"""Deliveries a second that are tried however loud a server complains."""

FREE = 500.0
"""A learnt pace above this is no limit any more."""

STEP = 5.0
"""Seconds between two steps up."""

PROBE = 1.2
"""The step that tries to pass the wall, from nine tenths to a little above it."""

LOOK = 15.0
"""Seconds without complaint after which a probe has shown that there is more room."""

FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""How long to stay below the wall before trying to pass it; doubles when that fails."""

CLOSE = 0.9
"""The share of the wall that is returned to at once."""


@dataclass(slots=True)
class Pace:
    """The rate that a server seems to bear, found by its complaints.

    A complaint puts up a wall at the rate that got through and steps below it. The way back is
    quick up to nine tenths of the wall and then slow, so that a limit that stays costs few
    refusals, and one that is lifted is left behind faster and faster.
    """

    per_second: float = inf
    wall: float = inf
    wait: float = FIRST_WAIT
    step_at: float = 0.0
    due: float = 0.0

    @property
    def limited(self) -> bool:
        return not isinf(self.per_second)

    def room(self, now: float) -> int:
        """How many may go now: at most what a second brings."""
        if not self.limited:
            return 1 << 30
        burst = max(1.0, self.per_second)
        self.due = min(self.due, now + burst / self.per_second)
        spent = (max(self.due, now) - now) * self.per_second
        return max(0, int(burst - spent + TOLERANCE * self.per_second))

    def next(self, now: float) -> float:
        """When the next one may go."""
        if not self.limited or self.room(now):
            return now
        return max(now, self.due + (1 - max(1.0, self.per_second)) / self.per_second)

    def take(self, count: int, now: float) -> None:
        if self.limited:
            self.due = max(self.due, now) + count / self.per_second

    def complaint(self, passed: float, factor: float, now: float) -> None:
        """A server said slow down while `passed` a second got through."""
        if self.limited and self.per_second > CLOSE * self.wall:
            self.wait = min(self.wait * 2, LONGEST_WAIT)
        self.wall = max(min(self.per_second, passed), SLOWEST)
        self.per_second = max(self.wall * factor, SLOWEST)
        self.step_at = now + STEP
        self.due = now

    def success(self, now: float, *, used: bool) -> None:
        """A delivery got through; `used` if the pace was what held others back."""
        if not self.limited or not used or now < self.step_at:
            return
        near = CLOSE * self.wall
        if self.per_second < near:
            self.per_second = min(self.per_second + self.wall / 10, near)
            self.step_at = now + (STEP if self.per_second < near else self.wait)
            return
        if self.per_second > self.wall:  # It bore more than the wall: the limit has gone.
            self.wall = self.per_second
            self.wait = max(self.wait / 2, FIRST_WAIT)
        self.per_second *= PROBE
        self.step_at = now + max(LOOK, 10 / self.per_second)
        if self.per_second > FREE:
            self.per_second = self.wall = inf
            self.wait = FIRST_WAIT

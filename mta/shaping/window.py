"""How many deliveries to a site may be in progress: additive growth, cautious above a known limit.

The feedback is that of Postfix' scheduler (its SCHEDULER_README, "concurrency feedback"): a window
of N grows by 1/N with each success and shrinks by 1/N with each failure, so that one cohort of
equal answers moves it by one.

Pure: times are float seconds that the caller passes in.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_WAIT, LONGEST_WAIT = 30.0, 90.0
"""How long to keep to a limit that a server told us before one more is tried."""

SHORTEST_WAIT = 4.0
"""The wait after many that went well: a limit that was lifted is left behind fast."""


@dataclass(slots=True)
class Window:
    """`size` is what may be in progress, `most` the rule's limit, `ceiling` the one found."""

    most: int
    size: float
    ceiling: float
    wait: float = FIRST_WAIT
    probe_at: float = 0.0
    probed: bool = False

    @property
    def whole(self) -> int:
        return max(1, int(self.size + 1e-9))

    def success(self, now: float, *, full: bool) -> None:
        """One more got through; a window that is not used tells nothing and stays."""
        if not full or self.size >= self.most:
            return
        if self.size + 1e-9 < self.ceiling:
            self.size = min(self.size + 1 / self.size, self.ceiling, self.most)
        elif now >= self.probe_at:
            self.size = float(min(self.whole + 1, self.most))
            self.ceiling = self.size
            if self.probed:  # The one before was taken too.
                self.wait = max(self.wait / 4, SHORTEST_WAIT)
            self.probed = True
            self.probe_at = now + self.wait

    def failure(self) -> None:
        """One did not get through."""
        self.size = max(1.0, self.size - 1 / self.size)

    def too_many(self, left: int, now: float, *, first: bool) -> None:
        """A server refused one more connection while `left` others were open.

        `first` of its cohort: only that one moves the ceiling, and not far, because some of the
        others may have ended in between.
        """
        if first:
            if self.probed:
                self.wait = min(self.wait * 2, LONGEST_WAIT)
            self.probed = False
            self.ceiling = max(1.0, min(self.size, max(float(left), self.size * 0.8)))
            self.probe_at = now + self.wait
        self.size = max(1.0, min(self.size, float(left)))

    def restart(self) -> None:
        """From one again, after nothing got through."""
        self.size = 1.0

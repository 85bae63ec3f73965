"""The queue over the last hour as a drawing: two lines, in units of a picture. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from storage.tables import QueueSample

WIDTH, HEIGHT = 640, 120
SPAN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its points as SVG writes them, its greatest value and the last."""

    points: str
    most: int
    last: int


@dataclass(frozen=True, slots=True)
class Picture:
    """What waited, and what was delivered a minute; each on a scale of its own."""

    waiting: Line
    delivered: Line


def draw(samples: Sequence[QueueSample], *, now: datetime) -> Picture | None:
    """The picture; None where there are too few samples for one. Those of a minute are added."""
    by_time: dict[datetime, tuple[int, int]] = {}
    for sample in samples:
        waiting, delivered = by_time.get(sample.at, (0, 0))
        waiting += sample.queued + sample.deferred + sample.held + sample.sending
        by_time[sample.at] = (waiting, delivered + sample.delivered)
    times = [at for at in sorted(by_time) if now - SPAN <= at <= now]
    if len(times) < 2:
        return None
    places = [round(WIDTH * (1 - (now - at) / SPAN), 1) for at in times]
    return Picture(
        _line(places, [by_time[at][0] for at in times]),
        _line(places, [by_time[at][1] for at in times]),
    )


def _line(places: Sequence[float], values: Sequence[int]) -> Line:
    most = max(values)
    heights = [round(HEIGHT * (1 - value / most), 1) if most else HEIGHT for value in values]
    points = " ".join(f"{x:g},{y:g}" for x, y in zip(places, heights, strict=True))
    return Line(points, most, values[-1])

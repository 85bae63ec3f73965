"""Draws how shaping behaves at servers with limits it was not told, beside two simpler ways.

    python -m benchmarks.shaping docs/pictures

A simulation with a clock of its own (tests/mta/shaping/world.py): no network, the same each time,
about a minute. It prints the figures that docs/shaping.md shows. Compared are

* Waypost's shaper with the rules that come with it;
* 1/N feedback: a window of connections that grows with successes and shrinks with refusals, and
  a site that is left alone for five minutes when a whole window fails (as Postfix' scheduler does
  it with concurrency_feedback, but with every 4xx as a failure, so that it can react to rates);
* twenty connections, always.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.svg import BLUE, GREY, ORANGE, Line, Panel, chart
from mta.shaping.files import shipped
from mta.shaping.shaper import Shaper
from mta.shaping.verdict import Verdict
from tests.mta.shaping.world import Server, Shapes, Told, World

SITE = "example.net"


class Always:
    """Twenty connections, whatever is said."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}

    def room(self, site: str, now: float) -> int:
        return 20 - self.open.get(site, 0)

    def next_room(self, site: str, now: float) -> float:
        return now + 1.0

    def started(self, site: str, now: float) -> None:
        self.open[site] = self.open.get(site, 0) + 1

    def finished(self, site: str, verdict: Verdict, now: float) -> None:
        self.open[site] -= 1


class Feedback(Always):
    """A window that moves by 1/N, and a site that is dead for a while when all of it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.size: dict[str, float] = {}
        self.failed: dict[str, float] = {}
        self.dead_until: dict[str, float] = {}

    def room(self, site: str, now: float) -> int:
        if now < self.dead_until.get(site, 0.0):
            return 0
        return max(0, int(self.size.get(site, 5.0) + 1e-9) - self.open.get(site, 0))

    def next_room(self, site: str, now: float) -> float:
        return max(now + 1.0, self.dead_until.get(site, 0.0))

    def finished(self, site: str, verdict: Verdict, now: float) -> None:
        super().finished(site, verdict, now)
        size = self.size.get(site, 5.0)
        if verdict.accepted or verdict.phase in ("rcpt", "data", "done"):
            self.size[site] = min(20.0, size + 1 / size)
            self.failed[site] = 0.0
            return
        self.size[site] = max(1.0, size - 1 / size)
        self.failed[site] = self.failed.get(site, 0.0) + 1 / size
        if self.failed[site] >= 1:
            self.dead_until[site] = now + 300.0
            self.failed[site] = 0.0
            self.size[site] = 1.0


WAYS: tuple[tuple[str, str, Callable[[], Shapes]], ...] = (
    ("always 20 connections", GREY, Always),
    ("1/N feedback", ORANGE, Feedback),
    ("Waypost", BLUE, lambda: Shaper(shipped())),
)


@dataclass(frozen=True)
class Scene:
    """A server with a limit, and what to look at."""

    name: str
    title: str
    server: Callable[[], Server]
    minutes: int
    limit: Callable[[float], float]
    """What the server would take a second, at a second."""
    step: int = 30


def _until(end: float, before: float, after: float) -> Callable[[float], float]:
    return lambda at: before if at < end else after


SCENES = (
    Scene("rate", "A hidden rate of 10 a second, lifted after 20 minutes",
          lambda: Server(latency=1.0, per_second=10, burst=20, limits_end=1200),
          45, _until(1200, 10, 20)),
    Scene("minute", "A hidden limit of 60 in each minute",
          lambda: Server(per_window=60), 45, lambda at: 1.0, step=60),
    Scene("connections", "A hidden limit of 4 connections, lifted after 20 minutes",
          lambda: Server(latency=1.0, connections=4, limits_end=1200), 45, _until(1200, 4, 20)),
    Scene("outage", "No connection from minute 5 to minute 25",
          lambda: Server(latency=1.0, down=(300, 1500)), 45,
          lambda at: 0.0 if 300 <= at < 1500 else 20.0),
    Scene("greylisting", "Greylisting: every first attempt is refused, 2,000 messages",
          lambda: Server(latency=1.0, greylists=200), 15, lambda at: 20.0),
)  # fmt: skip


def play(scene: Scene, shaper: Shapes) -> tuple[Told, Server]:
    """One way at one server."""
    server = scene.server()
    mail = 2000 if scene.server().greylists else None
    world = World(shaper, {SITE: server}, mail=mail)
    world.run(scene.minutes * 60)
    return world.told[SITE], server


def failures(told: Told, start: float, end: float) -> float:
    """Refused and lost attempts a minute."""
    bad = told.refused + told.lost
    return sum(n for at, n in bad.items() if start <= at < end) / (end - start) * 60


def draw(scene: Scene, folder: Path) -> list[tuple[str, ...]]:
    """Writes the picture of a scene; gives the rows of its table."""
    ends = range(scene.step, scene.minutes * 60 + 1, scene.step)
    good = [Line("what the server takes", "#9aa3ad", _steps(scene), dashed=True)]
    bad = []
    rows: list[tuple[str, ...]] = []
    for name, colour, make in WAYS:
        told, _ = play(scene, make())
        good.append(Line(name, colour, [
            (end / 60, told.goodput(end - scene.step, end)) for end in ends
        ]))  # fmt: skip
        bad.append(Line(name, colour, [
            (end / 60, failures(told, end - scene.step, end)) for end in ends
        ]))  # fmt: skip
        total = scene.minutes * 60
        tries = sum(told.accepted.values()) + sum(told.refused.values()) + sum(told.lost.values())
        refused = tries - sum(told.accepted.values())
        rows.append((scene.title, name, f"{sum(told.accepted.values()):,}",
                     f"{refused:,}", f"{100 * refused / max(1, tries):.1f} %",
                     f"{told.goodput(0, total):.2f}"))  # fmt: skip
    panels = (
        Panel("accepted a second", good),
        Panel("refused or lost a minute (log scale)", bad, logarithmic=True),
    )
    path = folder / f"shaping-{scene.name}.svg"
    path.write_text(chart(scene.title, "minutes", panels), encoding="utf-8")
    return rows


def _steps(scene: Scene) -> list[tuple[float, float]]:
    points = []
    for at in range(0, scene.minutes * 60 + 1, 5):
        points.append((at / 60, scene.limit(at)))
    return points


def main(arguments: Sequence[str]) -> int:
    """Draws all scenes into the folder and prints their figures as a table of Markdown."""
    folder = Path(arguments[0] if arguments else "docs/pictures")
    folder.mkdir(parents=True, exist_ok=True)
    print("| server | way | accepted | refused or lost | share | accepted a second |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for scene in SCENES:
        for row in draw(scene, folder):
            print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The sites that mail goes to, and what lies ready for each: few at a time, the rest in the table.

Pure but for the connections it keeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from mta.client import Connection
from mta.press import Made

LANES = 3


@dataclass(slots=True)
class Site:
    """One site. `due` has its destinations with mail in the table, with the best lane of each.

    `in_hand` counts deliveries that are claimed and not recorded.
    """

    name: str
    due: dict[str, int] = field(default_factory=dict)
    ready: tuple[deque[Made], ...] = field(
        default_factory=lambda: tuple(deque() for _ in range(LANES))
    )
    in_hand: int = 0
    idle: list[tuple[float, Connection]] = field(default_factory=list)

    def put(self, made: Made) -> None:
        """It is composed and signed and may go."""
        self.ready[min(max(made.claim.lane, 0), LANES - 1)].append(made)

    def next(self) -> Made | None:
        """The first of the best lane."""
        for lane in self.ready:
            if lane:
                return lane.popleft()
        return None

    @property
    def waiting(self) -> int:
        """How many lie ready."""
        return sum(map(len, self.ready))

    @property
    def lane(self) -> int:
        """The best lane that is due in the table."""
        return min(self.due.values(), default=LANES)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is known of it that is worth keeping."""
        return not (self.due or self.in_hand or self.idle)


class Sites:
    """All sites that have something to do."""

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}

    def __getitem__(self, name: str) -> Site:
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = Site(name)
        return site

    def __iter__(self) -> Iterator[Site]:
        return iter(list(self._sites.values()))

    def tidy(self) -> None:
        """Forgets those at rest."""
        for site in self:
            if site.at_rest:
                del self._sites[site.name]

    def with_due(self) -> list[Site]:
        """Those with mail in the table, best lane first; among equals those with least in hand."""
        return sorted((site for site in self if site.due), key=lambda s: (s.lane, s.in_hand))

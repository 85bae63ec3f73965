"""Source addresses: which one a delivery leaves from, and how much a new one may send yet.

A new address has no reputation, and providers refuse much mail from such. It gets a budget for
each provider and day (UTC), which grows only after a day that used at least half of it and brought
no complaint: mail that was never sent warms nothing. All sites without a provider's rule share
one budget.

Pure: times are seconds since 1970 that the caller passes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mta.shaping.rules import Shaping, Source

DAY = 86_400
OTHERS = "others"
"""The budget of sites that no provider's rule is for."""

COLD_AFTER = 30
"""Days without mail after which an address has to begin with half its steps again."""

PLENTY = 1 << 30


@dataclass(slots=True)
class Warmth:
    """How far one source has come with one provider; `step` counts the good days."""

    day: int
    step: int = 0
    sent: int = 0
    complaints: int = 0


class Sources:
    """All source addresses of one process with what is left of their budgets."""

    def __init__(self, shaping: Shaping, processes: int) -> None:
        self._plan = shaping.warm_up
        self._providers = shaping.providers
        self._sources: Sequence[Source] = shaping.sources
        self._cold = {source.name for source in shaping.sources if source.warm_up}
        self._processes = processes
        self._warmth: dict[tuple[str, str], Warmth] = {}
        self._turn = {source.name: 0.0 for source in shaping.sources}

    def __bool__(self) -> bool:
        return bool(self._sources)

    def left(self, site: str, held: dict[str, float], now: float) -> int:
        """Deliveries that all sources together may still make to a site today."""
        return min(sum(self._left(one, site, held, now) for one in self._sources), PLENTY)

    def next(self, site: str, held: dict[str, float], now: float) -> float:
        """When the first source may send to a site again."""
        if self.left(site, held, now):
            return now
        tomorrow = float((int(now // DAY) + 1) * DAY)
        free = [held.get(one.name, 0.0) for one in self._sources if self._budget(one, site, now)]
        return min([until for until in free if until > now] + [tomorrow])

    def choose(self, site: str, held: dict[str, float], now: float) -> Source | None:
        """The source for one delivery, by weight among those with budget (smooth round robin)."""
        ready = [one for one in self._sources if self._left(one, site, held, now) > 0]
        if not ready:
            return None
        for one in ready:
            self._turn[one.name] += one.weight
        best = max(ready, key=lambda one: self._turn[one.name])
        self._turn[best.name] -= sum(one.weight for one in ready)
        return best

    def sent(self, source: str, site: str, count: int, now: float) -> None:
        if source in self._cold:
            self._today(source, site, now).sent += count

    def complained(self, source: str, site: str, now: float) -> None:
        """The provider asked for less on this day, so tomorrow brings no more."""
        if source in self._cold:
            self._today(source, site, now).complaints += 1

    def dump(self) -> list[list[Any]]:
        """[source, provider, step, day, sent, complaints] for each budget in use."""
        return [
            [source, provider, one.step, one.day, one.sent, one.complaints]
            for (source, provider), one in self._warmth.items()
        ]

    def load(self, rows: object) -> None:
        """What `dump` gave. Rows that are not of that form are left out."""
        for row in rows if isinstance(rows, list) else []:
            if not isinstance(row, list) or len(row) != 6:
                continue
            source, provider, *numbers = row
            if not isinstance(source, str) or not isinstance(provider, str):
                continue
            if source not in self._cold:
                continue
            if not all(isinstance(n, int) and 0 <= n < PLENTY for n in numbers):
                continue
            if provider in self._providers or provider == OTHERS:
                step, day, sent, complaints = numbers
                self._warmth[source, provider] = Warmth(day, step, sent, complaints)

    def _left(self, source: Source, site: str, held: dict[str, float], now: float) -> int:
        if held.get(source.name, 0.0) > now:
            return 0
        return self._budget(source, site, now)

    def _budget(self, source: Source, site: str, now: float) -> int:
        if source.name not in self._cold:
            return PLENTY
        today = self._today(source.name, site, now)
        budget = self._share(today.step)
        return PLENTY if budget is None else max(0, budget - today.sent)

    def _share(self, step: int) -> int | None:
        budget = self._plan.budget(step)
        return budget if budget is None else max(1, budget // self._processes)

    def _today(self, source: str, site: str, now: float) -> Warmth:
        key = (source, site if site in self._providers else OTHERS)
        day = int(now // DAY)
        one = self._warmth.get(key)
        if one is None:
            one = self._warmth[key] = Warmth(day)
        if day > one.day:
            budget = self._share(one.step)
            if budget is not None and one.sent * 2 >= budget and not one.complaints:
                one.step += 1
            if day - one.day > COLD_AFTER:
                one.step //= 2
            one.day, one.sent, one.complaints = day, 0, 0
        return one

"""Counters and histograms that cost next to nothing where they are counted.

One is a few words of memory; counting is an addition (50 ns) or a look-up among a dozen bounds
(300 ns). No lock: an addition to an attribute can't be interrupted by another thread in CPython.
How they get out is `mta.exposition`'s business.

The number of label values is bounded: what comes after the first `limit` counts as "other", so
that no stranger can fill memory, ours or that of those who collect.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

OTHER = "other"
MAX_LABEL = 60
"""Characters of a label's value."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
SHORT_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


class Counter:
    """How often something happened; it only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1) -> None:
        """Counts one, or `by` at once."""
        self.value += by

    def sample(self) -> Any:
        """As JSON."""
        return self.value


class Gauge:
    """How much of something there is now."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """It is so much."""
        self.value = value

    def inc(self, by: float = 1) -> None:
        """One more."""
        self.value += by

    def dec(self, by: float = 1) -> None:
        """One less."""
        self.value -= by

    def sample(self) -> Any:
        """As JSON."""
        return self.value


class Histogram:
    """How large values are: counts by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """One more value, or the same one `times`."""
        place = bisect_left(self.bounds, value)
        self.counts[place] += times
        self.total += value * times

    def sample(self) -> Any:
        """As JSON: counts by bound (not cumulated, the last without bound) and the sum."""
        return [list(self.counts), self.total]


Kind = TypeVar("Kind", Counter, Gauge, Histogram)


class Family(Generic[Kind]):
    """One measure with its label names; `of` gives the one for some values, to be kept."""

    def __init__(
        self,
        kind: str,
        name: str,
        text: str,
        make: Callable[[], Kind],
        labels: Sequence[str] = (),
        *,
        limit: int = 50,
        bounds: Sequence[float] = (),
    ) -> None:
        self.kind, self.name, self.text = kind, name, text
        self.labels, self.bounds = tuple(labels), tuple(bounds)
        self._make: Callable[[], Kind] = make
        self._limit = limit
        self._made: dict[tuple[str, ...], Kind] = {}

    def of(self, *values: str) -> Kind:
        """The instrument for these label values. Raises `ValueError` if there are too few."""
        found = self._made.get(values)
        if found is not None:
            return found
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {len(values)}")
        kept = tuple(value[:MAX_LABEL] or OTHER for value in values)
        if kept not in self._made and len(self._made) >= self._limit:
            kept = (OTHER,) * len(values)
        return self._made.setdefault(kept, self._make())

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], Kind]]:
        return iter(list(self._made.items()))

    def replace(self, values: Mapping[str, float]) -> None:
        """For a gauge with one label: the `limit` largest values, the rest as "other"."""
        largest = sorted(values.items(), key=lambda item: (-item[1], item[0]))
        kept = dict(largest[: self._limit])
        rest = sum(value for _, value in largest[self._limit :])
        self._made.clear()
        for name, value in kept.items():
            self._gauge(name).set(value)
        if rest:
            self._gauge(OTHER).inc(rest)

    def _gauge(self, name: str) -> Gauge:
        made = self._made.setdefault((name[:MAX_LABEL] or OTHER,), self._make())
        if not isinstance(made, Gauge):
            raise TypeError(f"{self.name} is not a gauge")
        return made


class Instruments:
    """All families of one process. `before` is called before they are read, to set gauges."""

    def __init__(self) -> None:
        self.families: dict[str, Family[Any]] = {}
        self._before: list[Callable[[], None]] = []

    def counter(self, name: str, text: str, *labels: str, limit: int = 50) -> Family[Counter]:
        """A counter; its name ends with `_total`."""
        return self._add(Family("counter", name, text, Counter, labels, limit=limit))

    def gauge(self, name: str, text: str, *labels: str, limit: int = 50) -> Family[Gauge]:
        """A gauge."""
        return self._add(Family("gauge", name, text, Gauge, labels, limit=limit))

    def histogram(
        self, name: str, text: str, *labels: str, bounds: Sequence[float], limit: int = 50
    ) -> Family[Histogram]:
        """A histogram with these upper bounds."""

        def make() -> Histogram:
            return Histogram(bounds)

        return self._add(Family("histogram", name, text, make, labels, limit=limit, bounds=bounds))

    def _add(self, family: Family[Kind]) -> Family[Kind]:
        if family.name in self.families:
            raise ValueError(f"{family.name} is there already")
        self.families[family.name] = family
        return family

    def before(self, look: Callable[[], None]) -> None:
        """Calls `look` each time before the values are read."""
        self._before.append(look)

    def snapshot(self) -> dict[str, list[list[Any]]]:
        """All values now as JSON: by name, label values and sample."""
        for look in self._before:
            look()
        return {
            name: [[list(values), one.sample()] for values, one in family]
            for name, family in self.families.items()
        }

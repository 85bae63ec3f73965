"""A world with a clock of its own: servers with limits nobody told us, and a queue that never ends.

Everything is an event in one heap, so an hour passes in a second and always the same way.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from mta.shaping.verdict import Verdict

Kind = TypeVar("Kind", bound="Shapes")

START = 1_800_000_000.0
OK = Verdict(250, "accepted", "2.0.0")
SLOW = Verdict(421, "too many messages from you, rate limit exceeded", "4.7.0", "mail")
CROWDED = Verdict(421, "too many connections", "4.7.0", "connect")
DOWN = Verdict(None, "connection timed out", "", "connect")
GREY = Verdict(450, "Greylisted, come back in 5 minutes", "4.2.0", "rcpt")


@dataclass
class Server:
    """A mail server. What is None or zero is no limit; `until` switches a limit off."""

    latency: float = 0.2
    per_second: float = 0.0
    burst: float = 10.0
    per_window: int = 0
    window: float = 60.0
    connections: int = 0
    limits_end: float = float("inf")
    down: tuple[float, float] = (0.0, 0.0)
    greylists: float = 0.0
    open: int = 0
    most_open: int = 0
    tokens: float = 1e9
    token_at: float = 0.0
    in_window: Counter[int] = field(default_factory=Counter)
    first_seen: dict[int, float] = field(default_factory=dict)

    def answer(self, delivery: int, at: float) -> tuple[float, Verdict]:
        """How long it takes and what it says; `at` counts from the start."""
        if self.down[0] <= at < self.down[1]:
            return 5.0, DOWN
        limited = at < self.limits_end
        if limited and self.connections and self.open >= self.connections:
            return self.latency / 4, CROWDED
        if limited and self.per_window:
            if self.in_window[int(at // self.window)] >= self.per_window:
                return self.latency / 2, SLOW
            self.in_window[int(at // self.window)] += 1
        if limited and self.per_second:
            self.tokens = min(self.burst, self.tokens + (at - self.token_at) * self.per_second)
            self.token_at = at
            if self.tokens < 1:
                return self.latency / 2, SLOW
            self.tokens -= 1
        if self.greylists and at - self.first_seen.setdefault(delivery, at) < self.greylists:
            return self.latency, GREY
        return self.latency, OK


@dataclass
class Told:
    """What happened at one site, by the second."""

    accepted: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)

    def goodput(self, start: float, end: float) -> float:
        return sum(n for at, n in self.accepted.items() if start <= at < end) / (end - start)

    def share_refused(self, start: float, end: float) -> float:
        good = sum(n for at, n in self.accepted.items() if start <= at < end)
        bad = sum(n for at, n in self.refused.items() if start <= at < end)
        return bad / max(1, good + bad)


class Shapes(Protocol):
    """What decides when a delivery may start: a `Shaper`, or what it is compared with."""

    def room(self, site: str, now: float) -> int: ...
    def next_room(self, site: str, now: float) -> float: ...
    def started(self, site: str, now: float) -> None: ...
    def finished(self, site: str, verdict: Verdict, now: float) -> Any: ...


class World(Generic[Kind]):
    """Sends without end (or `mail` a site) to all servers through one shaper."""

    def __init__(
        self, shaper: Kind, servers: dict[str, Server], *, mail: int | None = None
    ) -> None:
        self.shaper = shaper
        self.servers = servers
        self.told = {site: Told() for site in servers}
        self._now = START
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._fresh = {site: iter(range(mail if mail is not None else 1 << 60)) for site in servers}
        self._due: dict[str, list[tuple[float, int]]] = {site: [] for site in servers}
        self._asked: dict[str, float] = dict.fromkeys(servers, float("inf"))
        self.retry_after = 300.0
        for site in servers:
            self._start(site)

    @property
    def at(self) -> float:
        """Seconds since the start."""
        return self._now - START

    def run(self, until: float) -> None:
        """Lets time pass until so many seconds after the start."""
        while self._events and self._events[0][0] <= START + until:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        self._now = START + until

    def _later(self, at: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), happen))

    def _start(self, site: str) -> None:
        while True:
            room = self.shaper.room(site, self._now)
            assert room >= 0
            if not room:
                again = self.shaper.next_room(site, self._now)
                assert again > self._now, "no room now, and asked to come now"
                if again < self._asked[site] or self._asked[site] <= self._now:
                    self._asked[site] = again
                    self._later(again, lambda: self._start(site))
                return
            delivery = self._next(site)
            if delivery is None:
                return
            self._deliver(site, delivery)

    def _next(self, site: str) -> int | None:
        due = self._due[site]
        if due and due[0][0] <= self._now:
            return heapq.heappop(due)[1]
        return next(self._fresh[site], None)

    def _deliver(self, site: str, delivery: int) -> None:
        server = self.servers[site]
        self.shaper.started(site, self._now)
        took, verdict = server.answer(delivery, self.at)
        connected = verdict.phase != "connect"
        if connected:
            server.open += 1
            server.most_open = max(server.most_open, server.open)

        def end() -> None:
            if connected:
                server.open -= 1
            told = self.told[site]
            kind = told.accepted if verdict.accepted else told.refused
            kind = told.lost if verdict.code is None else kind
            kind[int(self.at)] += 1
            if not verdict.accepted:
                again = self._now + self.retry_after
                heapq.heappush(self._due[site], (again, delivery))
                self._later(again, lambda: self._start(site))
            self.shaper.finished(site, verdict, self._now)
            self._start(site)

        self._later(self._now + took, end)

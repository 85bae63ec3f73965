"""Says how many deliveries may start to each site now, and learns from what becomes of them.

One `Shaper` for one process that sends. Times are float seconds since 1970 from one clock that the
caller passes in; a clock that steps back delays nothing for longer than a rule's own span.

Memory is bounded: a site that is idle and about which nothing is known that the rules don't say is
forgotten, and above `MAX_SITES` the longest unused ones go first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from mta.retry import ReplyClass
from mta.shaping.rate import SLOWEST
from mta.shaping.rules import Action, Shaping, SiteRule, Source
from mta.shaping.site import site_of
from mta.shaping.standing import FULL_AGAIN, Standing
from mta.shaping.verdict import Verdict
from mta.shaping.warm_up import PLENTY, Sources

MAX_SITES = 50_000
IDLE_SECONDS = 120.0
SWEEP_SECONDS = 60.0
MAX_WHY = 300

LONGEST_PAUSE = 366 * 86_400.0
"""Seconds; no rule asks for more."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """People said that nothing goes to a site until then."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class SiteState:
    """How a site stands, for lists, pages and metrics. Rates are deliveries a second.

    `state` is open, full, paced, paused (by us, after a reply or an outage), probing or
    suspended (by people). `pace` and `ceiling` are None where no limit was found.
    """

    site: str
    rule: str
    state: str
    in_flight: int
    window: int
    ceiling: int | None
    pace: float | None
    until: float | None
    why: str
    accepted: int
    refused: int
    per_second: float
    last_refusal: str
    seen: float


class Shaper:
    """Limits for all sites in one of `processes` processes that send."""

    def __init__(self, rules: Shaping, *, processes: int = 1) -> None:
        self._rules = rules
        self._processes = max(1, processes)
        self._sites: dict[str, Standing] = {}
        self._suspended: dict[str, Suspension] = {}
        self._sources = Sources(rules, self._processes)
        self._swept = 0.0

    @property
    def rules(self) -> Shaping:
        return self._rules

    def rule(self, site: str) -> SiteRule:
        """What holds for a site."""
        return self._rules.rule(site)

    def site_of(self, domain: str, mx: Sequence[str]) -> str:
        """A provider's name, or a name for the MX set, or the domain."""
        return site_of(self._rules, domain, mx)

    def room(self, site: str, now: float) -> int:
        """Deliveries that may start now. Asking costs no memory."""
        if (order := self._suspended.get(site)) is not None:
            if now < order.until:
                return 0
            self._expire(site)
        standing = self._sites.get(site)
        if standing is None:
            standing = Standing.of(self._rules.rule(site), self._processes)
        room = standing.room(now)
        if room and self._sources:
            room = min(room, self._sources.left(site, standing.sources_held, now))
        return room

    def next_room(self, site: str, now: float) -> float:
        """When it makes sense to ask again; `now` if there is room."""
        order = self._suspended.get(site)
        if order is not None and now < order.until:
            return order.until
        standing = self._sites.get(site)
        if standing is None:
            standing = Standing.of(self._rules.rule(site), self._processes)
        at = standing.next_room(now)
        if self._sources:
            at = max(at, self._sources.next(site, standing.sources_held, now))
        return at

    def choose_source(self, site: str, now: float) -> Source | None:
        """The address for the next delivery; None if no sources are set or none may send now."""
        standing = self._sites.get(site)
        return self._sources.choose(site, standing.sources_held if standing else {}, now)

    def started(self, site: str, now: float, *, source: str = "", count: int = 1) -> None:
        """Deliveries began; `finished` has to follow for each."""
        standing = self._sites.get(site)
        if standing is None:
            self._sweep(now)
            standing = Standing.of(self._rules.rule(site), self._processes)
            self._sites[site] = standing
        standing.started(count, now)
        if source:
            self._sources.sent(source, site, count, now)

    def finished(self, site: str, verdict: Verdict, now: float, *, source: str = "") -> ReplyClass:
        """Learns from what became of a delivery; says what the reply means for the next try."""
        standing = self._sites.get(site)
        if standing is None:  # Its start was before a restart.
            return self.meaning(site, verdict)
        rule = standing.finished(verdict, source, now)
        if rule is None:
            return _without_rule(verdict)
        if source and rule.action is not Action.IGNORE:
            self._sources.complained(source, site, now)
        return rule.meaning

    def abandoned(self, site: str) -> None:
        """A delivery that began ended without a word about the site: instead of `finished`.

        As when it was cancelled, or the message was no longer to be sent.
        """
        if (standing := self._sites.get(site)) is not None:
            standing.abandoned()

    def meaning(self, site: str, verdict: Verdict) -> ReplyClass:
        """What a reply is about, without learning from it."""
        rule = self._rules.rule(site).read(verdict)
        return _without_rule(verdict) if rule is None else rule.meaning

    def suspend(self, site: str, until: float, reason: str) -> None:
        """People stop mail to a site until then."""
        self._suspended[site] = Suspension(until, reason[:MAX_WHY])

    def resume(self, site: str) -> None:
        """People let mail to a site go on, whatever stopped it. Learnt limits stay."""
        self._suspended.pop(site, None)
        if (standing := self._sites.get(site)) is not None:
            standing.resume()

    @property
    def suspensions(self) -> Mapping[str, Suspension]:
        """What people suspended."""
        return self._suspended

    def snapshot(self, now: float) -> list[SiteState]:
        """All sites that are known, the busiest first."""
        names = {*self._sites, *self._suspended}
        states = [self._state(name, now) for name in names]
        return sorted(states, key=lambda one: (-one.in_flight, -one.seen, one.site))

    def dump(self, now: float) -> dict[str, Any]:
        """What a restart must not lose, as values that JSON has."""
        sites = {
            name: kept for name, one in self._sites.items() if (kept := _kept(one, now)) is not None
        }
        orders = {
            name: [order.until, order.reason]
            for name, order in self._suspended.items()
            if order.until > now
        }
        return {"sites": sites, "suspended": orders, "warmth": self._sources.dump()}

    def load(self, state: Mapping[str, Any], now: float) -> None:
        """What `dump` gave, perhaps of another version: what does not fit is left out."""
        sites = state.get("sites")
        for name, kept in list(sites.items())[:MAX_SITES] if isinstance(sites, dict) else ():
            if isinstance(name, str) and isinstance(kept, dict) and name not in self._sites:
                standing = Standing.of(self._rules.rule(name), self._processes)
                _restore(standing, kept, now)
                self._sites[name] = standing
        orders = state.get("suspended")
        for name, order in orders.items() if isinstance(orders, dict) else ():
            if isinstance(order, list) and len(order) == 2 and _number(order[0]) > now:
                self.suspend(str(name), _number(order[0]), str(order[1]))
        self._sources.load(state.get("warmth"))

    def _expire(self, site: str) -> None:
        """After a long stop one delivery goes first, as after an outage."""
        order = self._suspended.pop(site)
        if (standing := self._sites.get(site)) is not None:
            standing.suspend(order.until, "suspended by people until now")

    def _state(self, site: str, now: float) -> SiteState:
        one = self._sites.get(site) or Standing.of(self._rules.rule(site), self._processes)
        order = self._suspended.get(site)
        until, why = (one.held_until, one.why) if one.held_until > now else (None, one.why)
        if order is not None and order.until > now:
            until, why, state = order.until, order.reason, "suspended"
        elif until is not None:
            state = "paused"
        elif one.probing:
            state = "probing"
        elif one.in_flight >= one.window.whole:
            state = "full"
        else:
            state = "paced" if one.next_room(now) > now else "open"
        ceiling = one.window.ceiling
        return SiteState(
            site=site,
            rule=one.rule.name,
            state=state,
            in_flight=one.in_flight,
            window=one.window.whole,
            ceiling=int(ceiling) if ceiling < one.window.most else None,
            pace=one.pace.per_second if one.pace.limited else None,
            until=until,
            why=why,
            accepted=one.accepted,
            refused=one.refused,
            per_second=one.flow.per_second(now),
            last_refusal=one.said,
            seen=one.seen,
        )

    def _sweep(self, now: float) -> None:
        """Forgets idle sites, now and then; many at once when there are too many."""
        crowded = len(self._sites) >= MAX_SITES
        if not crowded and 0 <= now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for name, one in list(self._sites.items()):
            if now - one.seen > IDLE_SECONDS and not one.remarkable(now):
                del self._sites[name]
        if len(self._sites) < MAX_SITES:
            return
        idle = [(one.seen, name) for name, one in self._sites.items() if not one.in_flight]
        for _, name in sorted(idle)[: MAX_SITES // 10]:
            del self._sites[name]


def _without_rule(verdict: Verdict) -> ReplyClass:
    unreachable = verdict.code is None and verdict.phase in ("connect", "tls")
    return ReplyClass.NO_CONNECTION if unreachable else ReplyClass.OTHER


def _kept(one: Standing, now: float) -> dict[str, Any] | None:
    """What is worth keeping of a site; None if nothing is."""
    if not (one.learnt or one.held_until > now or one.probing):
        return None
    kept: dict[str, Any] = {"complained": one.complained_at}
    if one.held_until > now or one.probing:
        kept |= {"until": one.held_until, "why": one.why, "setbacks": one.setbacks}
    if one.pace.limited:
        kept |= {"pace": _short(one.pace.per_second), "wall": _short(one.pace.wall)}
    if one.window.ceiling < one.window.most:
        kept["ceiling"] = _short(one.window.ceiling)
    return kept


def _restore(one: Standing, kept: Mapping[str, Any], now: float) -> None:
    one.seen = now
    one.complained_at = min(_number(kept.get("complained")), now)
    if "until" in kept:
        until = min(_number(kept["until"]), now + LONGEST_PAUSE)
        one.suspend(until, str(kept.get("why", ""))[:MAX_WHY])
        one.setbacks = min(int(_number(kept.get("setbacks"))), 20)
    if (pace := _number(kept.get("pace"))) > 0:
        one.pace.per_second = max(pace, SLOWEST)
        one.pace.wall = _number(kept.get("wall")) or pace
        one.pace.due = now
    if (ceiling := _number(kept.get("ceiling"))) >= 1:
        one.window.ceiling = min(ceiling, float(one.window.most))
        one.window.size = min(one.window.size, one.window.ceiling)


def _short(value: float) -> float:
    """Three digits: what differs by less is no change that has to be written."""
    return float(f"{value:.3g}")


def _number(value: object) -> float:
    """A number that is not negative; 0 for anything else."""
    good = isinstance(value, (int, float)) and isfinite(value) and value >= 0
    return float(value) if good and isinstance(value, (int, float)) else 0.0


__all__ = ["FULL_AGAIN", "PLENTY", "Shaper", "SiteState", "Suspension", "Verdict"]

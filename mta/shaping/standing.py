"""How one site stands: what is in progress, what was learnt, and whether it is left alone.

Failures that were already under way when we reacted do not count again (`stale`): one reaction to
one cohort, as TCP has one reduction in a round trip. After every pause a single delivery goes
first and shows whether the site is well.

Pure: times are float seconds that the caller passes in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mta.shaping.rate import Bucket, Pace
from mta.shaping.rules import Action, ReplyRule, SiteRule
from mta.shaping.verdict import Verdict
from mta.shaping.window import Window

SHORT_PAUSE, LONG_PAUSE = 2.0, 300.0
"""The first pause after "slow down", and the longest it doubles to."""

EPOCH = 20.0
"""Seconds in which accepted deliveries are counted together."""

TROUBLED = 0.6
"""Weighted share of temporary refusals nobody has a rule for that makes us slow down."""

FULL_AGAIN = 1.0
"""Seconds after which to ask again where only an answer can make room."""

STEADY = 10
"""Good answers in a row after which earlier pauses are forgotten."""

REMEMBER = 86_400.0
"""Seconds after the last complaint for which a learnt limit is kept."""


@dataclass(slots=True)
class Flow:
    """How many got through a second, over the last one to two epochs."""

    start: float = 0.0
    count: int = 0
    before: int = 0
    before_start: float = 0.0

    def add(self, now: float) -> None:
        self._turn(now)
        self.count += 1

    def per_second(self, now: float) -> float:
        self._turn(now)
        since = self.before_start if self.before else self.start
        return (self.count + self.before) / max(now - since, 1.0)

    def _turn(self, now: float) -> None:
        if now - self.start < EPOCH and now >= self.start:
            return
        lately = 0 <= now - self.start < 2 * EPOCH
        self.before, self.before_start = (self.count, self.start) if lately else (0, now)
        self.start, self.count = now, 0


@dataclass(slots=True)
class Standing:
    """The state of one site in one process. Its size does not grow with the mail."""

    rule: SiteRule
    window: Window
    buckets: list[Bucket]
    pace: Pace = field(default_factory=Pace)
    flow: Flow = field(default_factory=Flow)
    tries: Flow = field(default_factory=Flow)
    in_flight: int = 0
    stale: int = 0
    held_until: float = 0.0
    why: str = ""
    probing: bool = False
    setbacks: int = 0
    steady: int = 0
    failed: float = 0.0
    trouble: float = 0.0
    complained_at: float = 0.0
    pressed: bool = False
    seen: float = 0.0
    accepted: int = 0
    refused: int = 0
    said: str = ""
    counts: dict[str, list[float]] = field(default_factory=dict)
    sources_held: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, rule: SiteRule, processes: int) -> Standing:
        """A site that nothing is known about."""
        most = max(1, rule.connections // processes)
        first = max(1, min(most, rule.first_connections // processes))
        buckets = [Bucket.of(rate, processes) for rate in rule.rates]
        return cls(rule, Window(most, float(first), float(most)), buckets)

    def room(self, now: float) -> int:
        """Deliveries that may start now, but for what people and source addresses forbid."""
        if now < self.held_until:
            return 0
        if self.probing:
            free = 1 if self.in_flight <= self.stale else 0
        else:
            free = self.window.whole - self.in_flight
        if free <= 0:
            return 0
        paced = min((bucket.room(now) for bucket in self.buckets), default=free)
        learnt = self.pace.room(now)
        self.pressed = self.pressed or learnt < free
        return max(0, min(free, paced, learnt))

    def next_room(self, now: float) -> float:
        """When there may be room if nothing ends until then; `now` if there is some."""
        if now < self.held_until:
            return self.held_until
        free = self.in_flight <= self.stale if self.probing else self.window.whole > self.in_flight
        if not free:
            return now + FULL_AGAIN
        return max([self.pace.next(now), *(bucket.next(now) for bucket in self.buckets)])

    def started(self, count: int, now: float) -> None:
        self.in_flight += count
        self.seen = now
        self.pace.take(count, now)
        for bucket in self.buckets:
            bucket.take(count, now)

    def finished(self, verdict: Verdict, source: str, now: float) -> ReplyRule | None:
        """Learns from one answer; gives the rule that it fits, if any."""
        full = self.in_flight >= self.window.whole
        self.in_flight = max(0, self.in_flight - 1)
        stale = self.stale > 0
        self.stale = min(max(0, self.stale - 1), self.in_flight)
        self.seen = now
        self.tries.add(now)
        if self.complained_at and now - self.complained_at > REMEMBER:
            self._forget()
        if verdict.accepted:
            self.accepted += 1
            self.flow.add(now)
            self.trouble *= 0.9
            if not stale:
                self._well(now, full=full)
            return None
        self.refused += 1
        self.said = _line(verdict)
        rule = self.rule.read(verdict)
        if verdict.code is None:
            if not stale:
                self._lost(verdict, now)
        elif rule is not None:
            self.failed = 0.0
            self._act(rule, source, now, stale=stale)
        elif verdict.temporary:
            self.failed = 0.0
            self._unexplained(verdict, now, stale=stale)
        elif not stale:  # A refusal for good is about one message: the site is well.
            self._well(now, full=full)
        return rule

    def abandoned(self) -> None:
        """One less in progress, and nothing learnt."""
        self.in_flight = max(0, self.in_flight - 1)
        self.stale = min(self.stale, self.in_flight)

    def suspend(self, until: float, why: str) -> None:
        """Leaves the site alone; afterwards one delivery goes first."""
        self.held_until = max(self.held_until, until)
        self.why = why
        self.probing = True
        self.stale = self.in_flight

    def resume(self) -> None:
        """Goes on at once, as with a site nothing bad is known of but its limits."""
        self.held_until = 0.0
        self.probing = False
        self.setbacks = 0
        self.failed = self.trouble = 0.0
        self.why = ""

    def remarkable(self, now: float) -> bool:
        """Whether forgetting it would lose anything."""
        return bool(
            self.in_flight
            or self.probing
            or now < self.held_until
            or self.setbacks
            or self.learnt
            or (self.counts and now - self.seen < COUNTED)
            or any(until > now for until in self.sources_held.values())
            or any(bucket.due > now for bucket in self.buckets)
        )

    @property
    def learnt(self) -> bool:
        """Whether a limit was found that the rules do not name."""
        return self.pace.limited or self.window.ceiling < self.window.most

    def _well(self, now: float, *, full: bool) -> None:
        self.failed = 0.0
        if self.probing:
            self.probing = False
            self.setbacks //= 2
            self.why = ""
        self.steady += 1
        if self.steady >= STEADY:
            self.setbacks = 0
        self.window.success(now, full=full)
        self.pace.success(now, used=self.pressed)
        self.pressed = False

    def _lost(self, verdict: Verdict, now: float) -> None:
        """No answer. A whole window of them one after the other, and the site is dead."""
        self.steady = 0
        self.failed += 1 / self.window.whole
        self.window.failure()
        if self.probing or self.failed >= self.rule.cohorts - 1e-9:
            pause = min(self.rule.dead_pause * 2 ** min(self.setbacks, 20), self.rule.longest_pause)
            self.setbacks += 1
            self.failed = 0.0
            self.window.restart()
            self.suspend(now + pause, f"no connection: {verdict.text[:200]}")

    def _act(self, rule: ReplyRule, source: str, now: float, *, stale: bool) -> None:
        if rule.action is Action.IGNORE:
            if not stale:
                self._well(now, full=False)
            return
        self.steady = 0
        if rule.times > 1 and not self._often(rule, now):
            return
        if rule.action is Action.SUSPEND_SOURCE and source:
            self.sources_held[source] = now + rule.pause
        elif rule.action in (Action.SUSPEND, Action.BLOCK, Action.SUSPEND_SOURCE):
            self.complained_at = now
            self.suspend(now + rule.pause, f"{rule.name}: {self.said}")
        elif rule.action is Action.FEWER_CONNECTIONS:
            self._fewer(rule, now, stale=stale)
        elif not stale:
            self._slower(rule.factor, rule.pause, rule.name, now)

    def _fewer(self, rule: ReplyRule, now: float, *, stale: bool) -> None:
        self.complained_at = now
        if self.in_flight == 0 or self.probing:
            if not stale:  # Not even one: others share our address, or it means something else.
                self._pause(rule.pause, rule.name, now)
            return
        self.window.too_many(self.in_flight, now, first=not stale)
        if not stale:
            self.stale = self.in_flight

    def _slower(self, factor: float, pause: float, name: str, now: float) -> None:
        self.complained_at = now
        # While probing, one delivery tells how long to wait, not which rate is right.
        if not self.probing or not self.pace.limited:
            self._lower(factor, now)
        self._pause(pause, name, now)

    def _lower(self, factor: float, now: float) -> None:
        """One step down from what got through, but not to nothing because nothing did yet."""
        passed = max(self.flow.per_second(now), self.tries.per_second(now) / 4)
        self.pace.complaint(passed, factor, now)

    def _pause(self, pause: float, name: str, now: float) -> None:
        longest = max(LONG_PAUSE, pause)
        wait = min((pause or SHORT_PAUSE) * 2 ** min(self.setbacks, 20), longest)
        self.setbacks += 1
        self.suspend(now + wait, f"{name}: {self.said}")

    def _unexplained(self, verdict: Verdict, now: float, *, stale: bool) -> None:
        """A "not now" that no rule knows: one says little, many in a row say slow down."""
        if stale:
            return
        self.steady = 0
        if verdict.code == 421:  # It closes the channel: RFC 5321 §3.8 has it for the whole server.
            self._slower(0.7, 0.0, "closing", now)
            return
        self.trouble += (1 - self.trouble) * 0.1
        if verdict.phase in ("connect", "tls", "mail"):
            self.window.failure()
        elif self.probing:  # It talked to us about one recipient, so it is there.
            self.probing = False
        if self.trouble >= TROUBLED:
            self.trouble = TROUBLED / 2
            self.complained_at = now
            self._lower(0.7, now)
            self.suspend(now + SHORT_PAUSE, f"many refusals: {self.said}")

    def _often(self, rule: ReplyRule, now: float) -> bool:
        count = self.counts.setdefault(rule.name, [0.0, now])
        if now - count[1] > rule.within:
            count[:] = [0.0, now]
        count[0] += 1
        return count[0] >= rule.times

    def _forget(self) -> None:
        self.pace = Pace()
        self.window.ceiling = float(self.window.most)
        self.complained_at = 0.0


COUNTED = 3600.0
"""Seconds for which an idle site is kept because replies of one kind were counted."""


def _line(verdict: Verdict) -> str:
    parts = (str(verdict.code or ""), verdict.enhanced, verdict.text[:200])
    return " ".join(part for part in parts if part)

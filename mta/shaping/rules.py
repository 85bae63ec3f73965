"""What holds for a mailbox provider: limits, and what its replies tell us to do.

A reply is matched by its code, the head of its enhanced status code (RFC 3463), the command it
answered, and literal words; `*` in words stands for anything. There are no regular expressions:
texts come from strangers, and the time to read one has to be bounded.

Pure: reads no file, clock or network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mta.retry import ReplyClass
from mta.shaping.verdict import Verdict

MAX_TEXT = 1000
"""Characters of a reply that are looked at."""


class Action(StrEnum):
    """What a reply makes us do at its site."""

    IGNORE = "ignore"
    """It is about one recipient or one message; the site is well."""
    SLOW_DOWN = "slow-down"
    """The learnt rate goes down one step, and there is a short pause."""
    FEWER_CONNECTIONS = "fewer-connections"
    """No more connections than were open when it came."""
    SUSPEND = "suspend"
    """Nothing goes to the site for a while, then one delivery to see."""
    SUSPEND_SOURCE = "suspend-source"
    """Our source address does not go there for a while; others may."""
    BLOCK = "block"
    """A policy block that will not pass by itself: suspended, and people have to look."""


@dataclass(frozen=True, slots=True)
class ReplyRule:
    """If a reply looks like this, do that. Every field that is given has to fit.

    `meaning` tells `mta.retry` when to try the same delivery again. `pause` is in seconds. With
    `times` above one it acts when that many came `within` seconds.
    """

    name: str
    action: Action
    codes: tuple[int, ...] = ()
    enhanced: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], ...] = ()
    phases: tuple[str, ...] = ()
    meaning: ReplyClass = ReplyClass.OTHER
    pause: float = 0.0
    factor: float = 0.7
    times: int = 1
    within: float = 3600.0

    def fits(self, verdict: Verdict, lowered: str) -> bool:
        """Whether it is such a reply; `lowered` is its text in small letters, cut to length."""
        if (
            self.codes
            and verdict.code not in self.codes
            and (verdict.code is None or verdict.code // 100 not in self.codes)
        ):
            return False
        if self.phases and verdict.phase not in self.phases:
            return False
        if self.enhanced and not any(_heads(one, verdict.enhanced) for one in self.enhanced):
            return False
        return not self.words or any(_holds(lowered, parts) for parts in self.words)


def _heads(head: str, code: str) -> bool:
    return code == head or code.startswith(head + ".")


def _holds(text: str, parts: tuple[str, ...]) -> bool:
    """Whether the parts come one after the other. Linear: the first place for each is best."""
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` deliveries in any `seconds`."""

    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SiteRule:
    """What holds for one provider, or for every site that no provider is known for.

    Durations are seconds. `cohorts` is how many windows of connections have to fail one after the
    other until the site counts as dead; it is then left alone for `dead_pause`, which doubles up
    to `longest_pause` as long as single probes fail.
    """

    name: str
    title: str = ""
    source: str = ""
    mx: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    connections: int = 20
    first_connections: int = 5
    deliveries_per_connection: int = 100
    rates: tuple[Rate, ...] = ()
    cohorts: float = 1.0
    dead_pause: float = 30.0
    longest_pause: float = 300.0
    replies: tuple[ReplyRule, ...] = ()

    def read(self, verdict: Verdict) -> ReplyRule | None:
        """The first rule that fits a reply."""
        if verdict.code is None or verdict.accepted:
            return None
        lowered = verdict.text[:MAX_TEXT].lower()
        for rule in self.replies:
            if rule.fits(verdict, lowered):
                return rule
        return None


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How much a new source address may send to one provider in a day.

    `first` on its first day, `factor` times as much on each day after one that was used, until
    `until` a day, from where on it is warm.
    """

    first: int = 50
    factor: float = 1.5
    until: int = 100_000

    def budget(self, step: int) -> int | None:
        """Deliveries on the day after `step` good days; None if it is warm."""
        budget = self.first * self.factor ** min(step, 200)
        return int(budget) if budget < self.until else None


@dataclass(frozen=True, slots=True)
class Source:
    """An address of ours that mail leaves from; more weight gets more mail."""

    name: str
    address: str = ""
    weight: float = 1.0
    warm_up: bool = False


@dataclass(frozen=True, slots=True)
class Shaping:
    """All rules together."""

    default: SiteRule = SiteRule("default")
    providers: Mapping[str, SiteRule] = field(default_factory=dict)
    warm_up: WarmUp = WarmUp()
    sources: tuple[Source, ...] = ()

    def rule(self, site: str) -> SiteRule:
        """What holds for a site: its provider's rule, else the default."""
        return self.providers.get(site, self.default)

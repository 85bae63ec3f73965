"""Says in words which rules hold for a domain, and why.

Pure: the rules, the domain's mail servers and what processes learnt come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mta.shaping.rules import Action, ReplyRule, Shaping, SiteRule
from mta.shaping.site import explain

_SPANS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86_400.0: "day"}

_DOES = {
    Action.IGNORE: "nothing at the site",
    Action.SLOW_DOWN: "a slower pace",
    Action.FEWER_CONNECTIONS: "fewer connections",
    Action.SUSPEND: "nothing for",
    Action.SUSPEND_SOURCE: "nothing from that address for",
    Action.BLOCK: "nothing, and people should look, for",
}


def explained(shaping: Shaping, domain: str, mx: Sequence[str], *, processes: int = 1) -> list[str]:
    """The site of a domain and what holds there, a line each."""
    site, why = explain(shaping, domain, mx)
    rule = shaping.rule(site)
    known = rule is not shaping.default
    lines = [
        f"{domain} belongs to the site {site}: {why}.",
        f"  mail servers       {', '.join(sorted(mx)) or 'none, the domain itself'}",
        f"  rules              {rule.title or rule.name}"
        + ("" if known else ": no provider is known for it"),
    ]
    if rule.source:
        lines.append(f"  after              {rule.source}")
    lines += limits(rule, processes)
    lines += _sources(shaping)
    lines.append("  replies that mean something, the first that fits wins:")
    lines += [f"    {reply_words(one)}" for one in rule.replies]
    return lines


def limits(rule: SiteRule, processes: int = 1) -> list[str]:
    """The limits of a rule, a line each."""
    share = f", {max(1, rule.connections // processes)} in each of {processes} processes"
    rates = [f"{one.most:,} a {_span(one.seconds)}" for one in rule.rates]
    return [
        f"  connections        {rule.first_connections} to begin with, up to {rule.connections}"
        + (share if processes > 1 else ""),
        f"  on each            {rule.deliveries_per_connection} deliveries",
        f"  rate               {', '.join(rates) or 'none set; what the server bears is learnt'}",
        f"  dead               after {rule.cohorts:g} times all connections failed; then a probe"
        f" after {length(rule.dead_pause)}, later up to {length(rule.longest_pause)}",
    ]


def reply_words(rule: ReplyRule) -> str:
    """A reply rule in one line."""
    looks = []
    if rule.codes:
        looks.append(" or ".join(f"{code}xx" if code < 10 else str(code) for code in rule.codes))
    if rule.enhanced:
        looks.append(" or ".join(rule.enhanced))
    if rule.phases:
        looks.append("at " + " or ".join(rule.phases))
    if rule.words:
        words = [f'"{"*".join(parts)}"' for parts in rule.words]
        looks.append("with " + " or ".join(words[:3]) + (" or ..." if len(words) > 3 else ""))
    does = _DOES[rule.action]
    if rule.action in (Action.SUSPEND, Action.SUSPEND_SOURCE, Action.BLOCK):
        does += f" {length(rule.pause)}"
    elif rule.pause:
        does += f" after {length(rule.pause)}"
    often = f" {rule.times} times in {length(rule.within)}" if rule.times > 1 else ""
    return f"{rule.name} ({', '.join(looks)}){often}: {does}"


def learnt_words(process: str, state: Mapping[str, Any]) -> str:
    """What a process wrote down about a site (`Shaper.dump`), in one line."""
    parts = []
    if isinstance(pace := state.get("pace"), (int, float)):
        parts.append(f"{pace:g} deliveries a second" if pace >= 1 else f"{pace * 60:.3g} a minute")
    if isinstance(ceiling := state.get("ceiling"), (int, float)):
        parts.append(f"{int(ceiling)} connections")
    if isinstance(until := state.get("until"), (int, float)):
        when = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d %H:%M:%S")
        parts.append(f"paused until {when} UTC ({state.get('why', '')})")
    told = f"{process} learnt: " if process else ""
    return f"{told}{', '.join(parts) or 'nothing that limits it'}"


def length(seconds: float) -> str:
    """`90.0` as `90s`, `3600.0` as `1h`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def _span(seconds: float) -> str:
    return _SPANS.get(seconds, length(seconds))


def _sources(shaping: Shaping) -> list[str]:
    plan = shaping.warm_up
    lines = []
    for source in shaping.sources:
        warming = (
            f", warming up: {plan.first} on the first day, {plan.factor:g} times as many on each"
            f" good one after it, up to {plan.until:,}"
            if source.warm_up
            else ""
        )
        lines.append(f"  source             {source.name} {source.address}"
                     f" (weight {source.weight:g}){warming}")  # fmt: skip
    return lines

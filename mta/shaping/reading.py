"""Reads rules from TOML and says where they are wrong and how to mend them.

Pure: the text comes in, with the name it is shown by in errors.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

from config.values import parse_duration
from mail.errors import ConfigError
from mta.retry import ReplyClass
from mta.shaping.rules import (
    Action,
    Rate,
    ReplyRule,
    Shaping,
    SiteRule,
    Source,
    WarmUp,
)
from mta.shaping.verdict import PHASES

MAX_BYTES = 1 << 20
MAX_PROVIDERS = 1000
MAX_REPLIES = 200
MAX_WORDS = 100
MAX_LIST = 200

_RATES = {"per_second": 1.0, "per_minute": 60.0, "per_hour": 3600.0, "per_day": 86_400.0}
_DURATIONS = ("dead_pause", "longest_pause")
_SITE_KEYS = (
    "title", "source", "mx", "domains", "connections", "first_connections",
    "deliveries_per_connection", "cohorts", *_DURATIONS, *_RATES, "reply", "replace_replies",
)  # fmt: skip
_REPLY_KEYS = tuple(one.name for one in fields(ReplyRule))


def read(text: str, file: str, base: Shaping | None = None) -> Shaping:
    """The rules in `text`, on top of `base`.

    A provider's keys replace those of the base; its reply rules come before the base's unless it
    says `replace_replies`. Raises `ConfigError` naming file, key and remedy.
    """
    base = base or Shaping()
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{file}: is larger than 1 MiB. These are no shaping rules.")
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{file}: is not TOML: {error}.\n"
            "  Providers stand in brackets: [provider.example] then connections = 5."
        ) from None
    known = ("default", "provider", "warm_up", "source")
    at = _At(file, "")
    at.only(tables, known)
    default = _site(base.default, at.table(tables, "default"), _At(file, "default"))
    providers = dict(base.providers)
    named = at.table(tables, "provider")
    if len(providers) + len(named) > MAX_PROVIDERS:
        raise at.wrong("provider", f"has more than {MAX_PROVIDERS} entries", "Write fewer.")
    for name in named:
        place = _At(file, f"provider.{name}")
        table = at.table(named, name)
        fresh = replace(default, name=name, title="", source="", replies=())
        rule = _site(providers.get(name, fresh), table, place)
        if not rule.mx and not rule.domains and ":" not in name:  # host:port is a smart host.
            raise place.wrong(
                "", "matches nothing", 'Say mx = [".example.net"] or domains = [...].'
            )
        providers[name] = rule
    # A provider's own rules come first, then those that hold for everybody.
    return Shaping(
        default=default,
        providers={
            name: replace(rule, replies=_joined(rule, base.default, default))
            for name, rule in providers.items()
        },
        warm_up=_warm_up(base.warm_up, at.table(tables, "warm_up"), _At(file, "warm_up")),
        sources=_sources(base.sources, at.table(tables, "source"), file),
    )


def _joined(rule: SiteRule, old: SiteRule, new: SiteRule) -> tuple[ReplyRule, ...]:
    common = set(old.replies)
    own = tuple(one for one in rule.replies if one not in common)
    return (*own, *new.replies)


class _At:
    """A table of a file; knows how to say what is wrong in it."""

    def __init__(self, file: str, table: str) -> None:
        self.file = file
        self.name = table

    def wrong(self, key: str, what: str, remedy: str) -> ConfigError:
        place = f" [{self.name}]" if self.name else ""
        return ConfigError(f"{self.file}:{place}{' ' + key if key else ''} {what}.\n  {remedy}")

    def only(self, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                remedy = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(known)}."
                raise self.wrong(key, "is no key we know", remedy)

    def table(self, tables: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        found = tables.get(key, {})
        if not isinstance(found, dict):
            raise self.wrong(key, "is not a table", f"Write [{key}] with keys below it.")
        return found

    def whole(self, table: Mapping[str, Any], key: str, *, most: int = 1_000_000_000) -> int:
        value = table[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.wrong(key, f"= {value!r} is no number from 1 to {most:,}", "Write like 20.")
        return value

    def number(self, table: Mapping[str, Any], key: str, least: float, most: float) -> float:
        value = table[key]
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not least <= value <= most:
            remedy = f"Write a number from {least:g} to {most:g}."
            raise self.wrong(key, f"= {value!r} is out of range", remedy)
        return float(value)

    def seconds(self, table: Mapping[str, Any], key: str) -> float:
        try:
            value = parse_duration(table[key])
        except ValueError as error:
            raise self.wrong(key, str(error), 'For example "30m".') from None
        assert isinstance(value, timedelta)
        if not 1 <= value.total_seconds() <= 366 * 86_400:
            raise self.wrong(key, f"= {table[key]!r} is not from 1s to 366d", 'Write like "30m".')
        return value.total_seconds()

    def text(self, table: Mapping[str, Any], key: str, *, most: int = 300) -> str:
        value = table[key]
        if not isinstance(value, str) or len(value) > most:
            raise self.wrong(key, f"is no text of up to {most} characters", 'Write "in quotes".')
        return value

    def texts(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table[key]
        good = isinstance(value, list) and len(value) <= MAX_LIST
        if not good or not all(isinstance(one, str) and 0 < len(one) <= 255 for one in value):
            raise self.wrong(key, f"is no list of up to {MAX_LIST} texts", 'Write like ["a", "b"].')
        return tuple(one.lower() for one in value)

    def flag(self, table: Mapping[str, Any], key: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"= {value!r} is neither true nor false", "Write true or false.")
        return value


def _site(base: SiteRule, table: Mapping[str, Any], at: _At) -> SiteRule:
    at.only(table, _SITE_KEYS)
    given: dict[str, Any] = {}
    for key in ("title", "source"):
        if key in table:
            given[key] = at.text(table, key)
    for key in ("mx", "domains"):
        if key in table:
            given[key] = at.texts(table, key)
    for suffix in given.get("mx", ()):
        if not suffix.startswith(".") or "." not in suffix[1:]:
            remedy = f'Write the end of the host names from a dot on, like ".{suffix}".'
            raise at.wrong("mx", f'"{suffix}" is no suffix of a host name', remedy)
    for key in ("connections", "first_connections", "deliveries_per_connection"):
        if key in table:
            given[key] = at.whole(table, key, most=10_000)
    if "cohorts" in table:
        given["cohorts"] = at.number(table, "cohorts", 0.1, 100)
    for key in _DURATIONS:
        if key in table:
            given[key] = at.seconds(table, key)
    rates = {rate.seconds: rate for rate in base.rates}
    for key, seconds in _RATES.items():
        if key in table:
            rates[seconds] = Rate(at.whole(table, key), seconds)
    given["rates"] = tuple(rates.values())
    replies = table.get("reply", [])
    if not isinstance(replies, list) or len(replies) > MAX_REPLIES:
        remedy = f"Write [[{at.name}.reply]] up to {MAX_REPLIES} times."
        raise at.wrong("reply", "is no list of tables", remedy)
    own = tuple(
        _reply(one, _At(at.file, f"{at.name}.reply {n}")) for n, one in enumerate(replies, 1)
    )
    kept = () if at.flag(table, "replace_replies") else base.replies
    given["replies"] = (*own, *kept)
    return replace(base, **given)


def _reply(table: object, at: _At) -> ReplyRule:
    if not isinstance(table, dict):
        raise at.wrong("", "is not a table", "Write [[provider.example.reply]] and keys below.")
    at.only(table, _REPLY_KEYS)
    for key in ("name", "action"):
        if key not in table:
            raise at.wrong(key, "is missing", f'Write {key} = "...".')
    given: dict[str, Any] = {"name": at.text(table, "name", most=60)}
    for key, kind in (("action", Action), ("meaning", ReplyClass)):
        if key in table:
            try:
                given[key] = kind(table[key])
            except ValueError:
                known = ", ".join(f'"{one}"' for one in kind)
                raise at.wrong(key, f"= {table[key]!r} is unknown", f"Known: {known}.") from None
    if "codes" in table:
        given["codes"] = _codes(table["codes"], at)
    for key in ("enhanced", "phases"):
        if key in table:
            given[key] = at.texts(table, key)
    for phase in given.get("phases", ()):
        if phase not in PHASES:
            raise at.wrong("phases", f'"{phase}" is unknown', f"Known: {', '.join(PHASES)}.")
    if "words" in table:
        given["words"] = tuple(_parts(one, at) for one in at.texts(table, "words"))
    for key in ("pause", "within"):
        if key in table:
            given[key] = at.seconds(table, key)
    if "factor" in table:
        given["factor"] = at.number(table, "factor", 0.05, 0.95)
    if "times" in table:
        given["times"] = at.whole(table, "times", most=10_000)
    if not {"codes", "enhanced", "words"} & set(given):
        raise at.wrong("", "fits every reply", "Say codes, enhanced or words.")
    waits = given["action"] in (Action.SUSPEND, Action.SUSPEND_SOURCE, Action.BLOCK)
    if waits and "pause" not in given:
        raise at.wrong("pause", "is missing", 'Say for how long, like pause = "1h".')
    return ReplyRule(**given)


def _parts(words: str, at: _At) -> tuple[str, ...]:
    parts = tuple(part for part in words.split("*") if part)
    if not parts or len(words) > MAX_WORDS:
        remedy = f"Write up to {MAX_WORDS} characters, with * for anything between two words."
        raise at.wrong("words", f'"{words[:40]}" is no pattern', remedy)
    return parts


def _codes(value: object, at: _At) -> tuple[int, ...]:
    codes = value if isinstance(value, list) else [None]
    for code in codes:
        if (
            isinstance(code, bool)
            or not isinstance(code, int)
            or (code not in (4, 5) and not 400 <= code <= 599)
        ):
            remedy = "Write like [421, 450], or [4] for all from 400 to 499."
            raise at.wrong("codes", f"= {value!r} is no list of reply codes", remedy)
    return tuple(codes)


def _warm_up(base: WarmUp, table: Mapping[str, Any], at: _At) -> WarmUp:
    at.only(table, ("first", "factor", "until"))
    given: dict[str, Any] = {
        key: at.whole(table, key) for key in ("first", "until") if key in table
    }
    if "factor" in table:
        given["factor"] = at.number(table, "factor", 1.01, 10)
    return replace(base, **given)


def _sources(base: tuple[Source, ...], tables: Mapping[str, Any], file: str) -> tuple[Source, ...]:
    sources = {source.name: source for source in base}
    for name, table in tables.items():
        at = _At(file, f"source.{name}")
        if not isinstance(table, dict):
            raise at.wrong("", "is not a table", f"Write [source.{name}] with keys below it.")
        at.only(table, ("address", "weight", "warm_up"))
        if "address" not in table:
            raise at.wrong("address", "is missing", 'Write like address = "192.0.2.1".')
        address = at.text(table, "address")
        try:
            ip_address(address)
        except ValueError:
            remedy = 'Write one of this machine\'s own, like "192.0.2.1".'
            raise at.wrong("address", f'"{address}" is no IP address', remedy) from None
        weight = at.number(table, "weight", 0.001, 1000) if "weight" in table else 1.0
        sources[name] = Source(name, address, weight, at.flag(table, "warm_up"))
    return tuple(sources.values())

"""What mail programs and people say, by language: the tables of `languages.toml`, ready to use.

The rules never name a language; whoever adds one adds a table to the file. Pure but for reading
that file of the package, once, at first use.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

FIELDS = ("from", "to", "cc", "subject", "date", "reply_to")


@dataclass(frozen=True)
class Tables:
    """All languages together, as the line rules ask for them; texts are folded by `fold`."""

    wrote: tuple[str, ...]
    openers: frozenset[str]
    labels: dict[str, tuple[str, ...]]
    """Header label to the fields it may stand for: "de" is From in French, a word in Dutch."""
    original: frozenset[str]
    forwarded: frozenset[str]
    sent_from: tuple[str, ...]
    closing: frozenset[str]
    disclaimer: tuple[str, ...]
    absence: tuple[str, ...]
    answer: tuple[str, ...]
    stop: tuple[str, ...]
    stop_words: frozenset[str]
    not_: tuple[str, ...]


@dataclass(frozen=True)
class Calendar:
    """The words of one language around dates."""

    language: str
    until: tuple[str, ...]
    back: tuple[str, ...]
    ranges: tuple[str, ...]
    months: tuple[str, ...]
    weekdays: tuple[str, ...]
    absence: tuple[str, ...]


def fold(text: str) -> str:
    """`text` for comparing: lower case, plain quotes and spaces, no marks that cannot be seen."""
    out = unicodedata.normalize("NFKC", text).casefold() if not text.isascii() else text.lower()
    return out.translate(_PLAIN)


_PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "`": "'", "´": "'", "“": '"', "”": '"', "\u00a0": " ", "\u200b": None,
     "\u200c": None, "\u200d": None, "\u200e": None, "\u200f": None, "\ufeff": None,
     "\u202a": None, "\u202b": None, "\u202c": None, "\u202d": None, "\u202e": None,
     "\u2060": None, "\u00ad": None, "\u2066": None, "\u2067": None, "\u2068": None,
     "\u2069": None}
)  # fmt: skip


@cache
def _source() -> dict[str, dict[str, list[str]]]:
    text = files("inbound").joinpath("languages.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def names() -> tuple[str, ...]:
    """The ISO 639-1 codes of the languages that have a table."""
    return tuple(_source())


def _all(key: str) -> tuple[str, ...]:
    entries = {fold(entry).strip() for table in _source().values() for entry in table.get(key, [])}
    return tuple(sorted(entries, key=lambda entry: (-len(entry), entry)))


@cache
def tables() -> Tables:
    """Every language at once: mail mixes them, and a mail program's language is not its user's."""
    labels: dict[str, dict[str, None]] = {}
    for table in _source().values():
        for name in FIELDS:
            for label in table.get(name, []):
                labels.setdefault(fold(label), {}).setdefault(name)
    return Tables(
        wrote=_all("wrote"),
        openers=frozenset(_all("openers")),
        labels={label: tuple(fields) for label, fields in labels.items()},
        original=frozenset(_all("original")),
        forwarded=frozenset(_all("forwarded")),
        sent_from=_all("sent_from"),
        closing=frozenset(_all("closing")),
        disclaimer=_all("disclaimer"),
        absence=_all("absence"),
        answer=_all("answer"),
        stop=_all("stop"),
        stop_words=frozenset(_all("stop_words")),
        not_=_all("not"),
    )


@cache
def calendars() -> tuple[Calendar, ...]:
    """The date words of each language that has them."""
    return tuple(
        Calendar(
            language=language,
            until=_folded(table.get("until", [])),
            back=_folded(table.get("back", [])),
            ranges=_folded(table.get("ranges", [])),
            months=tuple(fold(month) for month in table["months"]),
            weekdays=tuple(fold(day) for day in table["weekdays"]),
            absence=_folded([*table.get("absence", []), *table.get("answer", [])]),
        )
        for language, table in _source().items()
        if "months" in table and "weekdays" in table
    )


@cache
def stop_tables() -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    """For each language: its code, its stop phrases, and what turns them round."""
    return tuple(
        (language, _folded(table["stop"]), _folded(table.get("not", [])))
        for language, table in _source().items()
        if "stop" in table
    )


def _folded(entries: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({fold(entry) for entry in entries}, key=lambda entry: (-len(entry), entry)))

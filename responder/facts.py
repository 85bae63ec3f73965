"""What the rules are told about a reply: facts with typed slots, never text that could be a rule.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MAX_TEXT = 20_000
MAX_EVIDENCE = 100
MAX_PHRASE = 300
DEFAULT_ABSENCE = timedelta(days=7)
LONGEST_ABSENCE = timedelta(days=400)
"""A return date further away is taken for a mistake of the reader."""

BEGIN_OF_WORK = time(9)

_LEGAL = re.compile(
    r"\b(?:lawyers?|attorneys?|solicitors?|legal action|sue you|court|"
    r"prosecut\w+|authority|authorities|"
    r"data protection (?:officer|authority)|cease and desist|anwalt|rechtsanwalt|abmahnung|gericht|"
    r"datenschutzbehörde|avocat|tribunal|cnil|abogad[oa]|demanda)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"[a-z][a-z_]{0,39}")
_QUESTION = re.compile(r"[^.!?\n]{2,300}\?")


class EvidenceOf(Protocol):
    """A reason for an intent, as the reader gives it."""

    @property
    def intent(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def phrase(self) -> str: ...


class EntityOf(Protocol):
    """Something that the reply names."""

    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def value(self) -> str: ...


class ReadingOf(Protocol):
    """What the reader makes of a reply."""

    @property
    def intents(self) -> Mapping[str, float]: ...
    @property
    def top(self) -> str: ...
    @property
    def abstain(self) -> bool: ...
    @property
    def why_abstain(self) -> str: ...
    @property
    def entities(self) -> Sequence[EntityOf]: ...
    @property
    def evidence(self) -> Sequence[EvidenceOf]: ...
    @property
    def language(self) -> str: ...
    @property
    def model_version(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of evidence: intent, source (model, lexicon or header), weight and phrase."""

    intent: str
    source: str
    weight: float
    phrase: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """All that a decision rests on. `asked_to_stop` and `absence` are what the parser found."""

    evidence: tuple[Piece, ...]
    now: datetime
    text: str = ""
    abstain: str = ""
    asked_to_stop: bool = False
    absence: bool = False
    returns: date | None = None
    people: tuple[str, ...] = ()
    zone: str = "UTC"
    act_from: float = 0.5


@dataclass(frozen=True, slots=True)
class Fact:
    """A template of the rules' vocabulary and its slots; symbols are names of ours only."""

    template: str
    symbols: Mapping[str, str]
    values: Mapping[str, str | int | float]


def case_of(
    reading: ReadingOf,
    text: str,
    *,
    now: datetime,
    asked_to_stop: bool = False,
    absence: bool = False,
    returns: date | None = None,
    zone: str = "UTC",
    act_from: float = 0.5,
) -> Case:
    """The case of one reply that was read."""
    pieces = tuple(
        Piece(str(one.intent), str(one.source), float(one.weight), one.phrase)
        for one in reading.evidence
    )
    if not pieces:
        pieces = tuple(
            Piece(str(label), "model", value) for label, value in reading.intents.items()
        )
    people = tuple(
        dict.fromkeys(one.value or one.text for one in reading.entities if one.kind in _PEOPLE)
    )
    return Case(
        evidence=pieces,
        now=now,
        text=text,
        abstain=(reading.why_abstain or "no meaning stands out") if reading.abstain else "",
        asked_to_stop=asked_to_stop,
        absence=absence,
        returns=returns or _latest_day(reading.entities, now),
        people=people[:10],
        zone=zone,
        act_from=act_from,
    )


_PEOPLE = frozenset({"person", "people", "email", "address"})


def facts_of(case: Case) -> list[Fact]:
    """The facts of a case, in a fixed order."""
    facts = [Fact("setting", {"name": "act-from"}, {"value": float(case.act_from)})]
    for number, piece in enumerate(case.evidence[:MAX_EVIDENCE], 1):
        if not _NAME.fullmatch(piece.intent) or not _NAME.fullmatch(piece.source):
            continue
        facts.append(
            Fact(
                "evidence",
                {"intent": piece.intent, "source": piece.source},
                {
                    "number": number,
                    "weight": max(-0.99, min(0.99, float(piece.weight))),
                    "phrase": _plain(piece.phrase),
                },
            )
        )
    told: list[tuple[str, str]] = []
    if case.asked_to_stop:
        told.append(("asked-to-stop", "found in the new words of the mail"))
    if case.absence:
        told.append(("absence", case.returns.isoformat() if case.returns else "no date given"))
    if case.abstain:
        told.append(("abstain", case.abstain))
    if legal := _LEGAL.search(case.text[:MAX_TEXT]):
        told.append(("legal-words", legal[0]))
    if case.people:
        told.append(("named-person", ", ".join(case.people)))
    facts += [Fact("circumstance", {"name": n}, {"value": _plain(value)}) for n, value in told]
    return facts


def questions_in(text: str) -> list[str]:
    """The sentences of a reply that end with a question mark, each once."""
    found = (" ".join(match[0].split()) for match in _QUESTION.finditer(text[:MAX_TEXT]))
    return list(dict.fromkeys(question for question in found if len(question) > 3))[:10]


def pause_end(case: Case, days: int) -> datetime:
    """When a pause ends: a working day after the return, else `days` (default 7) from now."""
    zone = _zone(case.zone)
    today = case.now.astimezone(zone).date()
    if case.returns is not None and today <= case.returns <= today + LONGEST_ABSENCE:
        day = case.returns + timedelta(days=1)
        while day.weekday() >= 5:
            day += timedelta(days=1)
    else:
        day = today + (timedelta(days=days) if days else DEFAULT_ABSENCE)
    return datetime.combine(day, BEGIN_OF_WORK, zone).astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _latest_day(entities: Iterable[EntityOf], now: datetime) -> date | None:
    """The last day that the words name, which of "from 3 to 12 July" is the return."""
    days = []
    for entity in entities:
        if entity.kind in ("time", "date", "return_date"):
            try:
                days.append(date.fromisoformat(str(entity.value)[:10]))
            except ValueError:
                continue
    return max((day for day in days if day >= now.date()), default=None)


def _plain(text: Any) -> str:
    """Text as it can stand in a fact: bounded, without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:MAX_PHRASE]).encode(
        "utf-8", "replace"
    ).decode("utf-8")  # fmt: skip

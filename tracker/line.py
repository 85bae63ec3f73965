"""Reads an activity written in one line, such as `call ann@x.example interested next mail in 3d`.

    <kind> <address> [<response>] [words of a note] [next <kind> [in 3d | tomorrow | on 2026-12-01]
    [at 14:30]]

Pure. Anything it does not understand is a `LineProblem` that says where and how to mend it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo

from mail.address import parse_address

MAX_LINE = 2_000

KINDS = ("call", "mail", "meeting", "message", "visit", "demo", "note")
"""What an activity can be."""

RESPONSES = (
    "interested",
    "not_interested",
    "later",
    "question",
    "no_answer",
    "busy",
    "left_message",
    "meeting_agreed",
    "wrong_person",
    "sold",
    "lost",
)
"""What came of it; any other words are the note."""

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,3})([mhdw])\Z")
_CLOCK = re.compile(r"([01]?\d|2[0-3])[:.]([0-5]\d)\Z")
_MORNING = time(9, 0)
_FAR = timedelta(days=3653)


@dataclass(frozen=True, slots=True)
class Entry:
    """An activity as it was typed; `next_at` is an instant in UTC."""

    kind: str
    address: str
    response: str = ""
    note: str = ""
    next_kind: str = ""
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LineProblem:
    """Why a line is no entry: the column (from 1), what is wrong, how to mend it."""

    column: int
    what: str
    mend: str

    def __str__(self) -> str:
        return f"column {self.column}: {self.what} {self.mend}"


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    column: int


class _Stop(Exception):  # noqa: N818 - leaves the reading, is no error of ours.
    def __init__(self, column: int, what: str, mend: str) -> None:
        self.problem = LineProblem(column, what, mend)


def read_line(line: str, *, now: datetime, zone: str = "UTC") -> Entry | LineProblem:
    """The entry that a line spells; `zone` is the writer's, for "tomorrow" and clock times."""
    if len(line) > MAX_LINE:
        return LineProblem(MAX_LINE, "The line is too long.", f"Keep it under {MAX_LINE} letters.")
    words = [_Word(found[0], found.start() + 1) for found in re.finditer(r"\S+", line)]
    try:
        return _read(words, len(line) + 1, now.astimezone(_zone(zone)))
    except _Stop as stop:
        return stop.problem


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # Unknown, or not the form of a name.
        return ZoneInfo("UTC")


def _read(words: list[_Word], end: int, now: datetime) -> Entry:
    if not words:
        raise _Stop(1, "The line is empty.", 'Write for example "call ann@x.example interested".')
    kind = _kind(words[0])
    if len(words) < 2:
        raise _Stop(end, "The contact is missing.", "Write an e-mail address after the kind.")
    address = parse_address(words[1].text.strip("<>,;:"))
    if address is None:
        raise _Stop(
            words[1].column,
            f'"{words[1].text}" is not an e-mail address.',
            f'Write "{kind} name@company.example …".',
        )
    rest = words[2:]
    split = _where_next(rest)
    said, following = rest[:split], rest[split + 1 :]
    next_kind, next_at = ("", None)
    if split < len(rest):
        if not following:
            raise _Stop(end, "What is next?", f"Write one of {', '.join(KINDS)} after next.")
        next_kind = _kind(following[0])
        next_at = _when(following[1:], now)
    response = ""
    if said:
        plain = said[0].text.lower().strip(",;:.").replace("-", "_")
        if plain in RESPONSES:
            response, said = plain, said[1:]
        elif len(said) > 1 and f"{plain}_{said[1].text.lower().strip(',;:.')}" in RESPONSES:
            response, said = f"{plain}_{said[1].text.lower().strip(',;:.')}", said[2:]
    note = " ".join(word.text for word in said)
    return Entry(kind, address.canonical, response, note, next_kind, next_at)


def _where_next(words: list[_Word]) -> int:
    """The place of the `next` that begins the plan: the last one with a kind behind it."""
    places = [i for i, word in enumerate(words) if word.text.lower().rstrip(":") == "next"]
    for place in reversed(places):
        follower = words[place + 1].text.lower() if place + 1 < len(words) else ""
        if follower in KINDS or place + 1 == len(words):
            return place
    for place in places:
        if get_close_matches(words[place + 1].text.lower(), KINDS, 1, 0.7):
            return place  # A kind misspelt: say so, and do not take the plan for a note.
    return len(words)


def _kind(word: _Word) -> str:
    text = word.text.lower().rstrip(":,")
    if text in KINDS:
        return text
    near = get_close_matches(text, KINDS, 1, 0.6)
    mend = f'Did you mean "{near[0]}"?' if near else f"Write one of {', '.join(KINDS)}."
    raise _Stop(word.column, f'"{word.text}" is not a kind of activity.', mend)


def _when(words: list[_Word], now: datetime) -> datetime | None:
    if not words:
        return None
    first, *rest = words
    text = first.text.lower()
    if text == "in":
        if not rest:
            raise _Stop(first.column, "In how long?", 'Write for example "in 3d".')
        found = _DURATION.match(rest[0].text.lower())
        if not found:
            raise _Stop(
                rest[0].column,
                f'"{rest[0].text}" is not a duration.',
                'Write a whole number with m, h, d or w, for example "3d".',
            )
        length = timedelta(**{_UNITS[found[2]]: int(found[1])})
        if found[2] in "dw":  # Days are the calendar's: the same time of day, whatever the zone.
            return _clock(rest[1:], (now + length).date(), now.timetz().replace(tzinfo=None), now)
        _nothing_more(rest[1:])
        return (now.astimezone(UTC) + length).replace(microsecond=0)
    if text in ("today", "tomorrow"):
        day = now.date() + timedelta(days=text == "tomorrow")
        return _clock(rest, day, _MORNING, now)
    if text == "on":
        if not rest:
            raise _Stop(first.column, "On which day?", 'Write for example "on 2026-12-01".')
        first, *rest = rest
    try:
        day = date.fromisoformat(first.text)
    except ValueError:
        raise _Stop(
            first.column,
            f'"{first.text}" is not a time.',
            'Write "in 3d", "tomorrow" or "on 2026-12-01", and if you like "at 14:30".',
        ) from None
    if abs(day - now.date()) > _FAR:
        raise _Stop(first.column, f'"{first.text}" is too far away.', "Choose a nearer day.")
    return _clock(rest, day, _MORNING, now)


def _clock(words: list[_Word], day: date, otherwise: time, now: datetime) -> datetime:
    if words and words[0].text.lower() == "at":
        found = _CLOCK.match(words[1].text) if len(words) > 1 else None
        if not found:
            raise _Stop(words[-1].column, "At what time?", 'Write for example "at 14:30".')
        otherwise = time(int(found[1]), int(found[2]))
        words = words[2:]
    _nothing_more(words)
    local = datetime.combine(day, otherwise.replace(microsecond=0), now.tzinfo)
    return local.astimezone(UTC)


def _nothing_more(words: list[_Word]) -> None:
    if words:
        raise _Stop(
            words[0].column,
            f'"{words[0].text}" comes after the time of what is next.',
            'Put the words of your note before "next".',
        )

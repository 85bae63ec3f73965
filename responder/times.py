"""Times that people name in replies: a small grammar of our own, with spans and precision.

Libraries that search for dates in prose find "May" in "may" and years in prices; this one reads
only what is clearly a time. Weekdays and months in English, German, French and Spanish; values are
resolved against the mail's own time, forwards: "Tuesday" is the next one.

Pure: the time is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum

MAX_CHARACTERS = 20_000
MAX_TIMES = 50


class Precision(StrEnum):
    """How exactly a time was named."""

    MINUTE = "minute"
    DAYPART = "daypart"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


@dataclass(frozen=True, slots=True)
class Time:
    """A time named in a text: where, how exactly, and when (wall time of the writer's zone)."""

    text: str
    span: tuple[int, int]
    precision: Precision
    value: datetime


_WEEKDAYS = {
    name: number
    for number, names in enumerate(
        (
            "monday mon montag lundi lunes",
            "tuesday tue tues dienstag mardi martes",
            "wednesday wed mittwoch mercredi miércoles",
            "thursday thu thurs donnerstag jeudi jueves",
            "friday fri freitag vendredi viernes",
            "saturday sat samstag sonnabend samedi sábado",
            "sunday sun sonntag dimanche domingo",
        )
    )
    for name in names.split()
}
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar jänner janvier enero",
            "february feb februar février febrero",
            "march mar märz mars marzo",
            "april apr avril abril",
            "may mai mayo",
            "june jun juni juin junio",
            "july jul juli juillet julio",
            "august aug août agosto",
            "september sep sept septembre septiembre",
            "october oct oktober okt octobre octubre",
            "november nov novembre noviembre",
            "december dec dezember dez décembre diciembre",
        ),
        1,
    )
    for name in names.split()
}
_DAYS = {
    "today": 0, "heute": 0, "aujourd'hui": 0, "hoy": 0, "tomorrow": 1, "morgen": 1, "demain": 1,
    "mañana": 1, "day after tomorrow": 2, "übermorgen": 2, "après-demain": 2,
    "pasado mañana": 2, "tonight": 0,
}  # fmt: skip
_DAYPARTS = {
    "morning": 9, "vormittag": 9, "vormittags": 9, "noon": 12, "lunch": 12, "mittag": 12,
    "midi": 12, "mediodía": 12, "afternoon": 14, "nachmittag": 14, "nachmittags": 14,
    "après-midi": 14,
    "tarde": 14, "evening": 18, "abend": 18, "soir": 18, "night": 20, "matin": 9,
}  # fmt: skip
_UNITS = {
    "day": 1, "days": 1, "tag": 1, "tagen": 1, "tage": 1, "jour": 1, "jours": 1, "día": 1,
    "días": 1,
    "week": 7, "weeks": 7, "woche": 7, "wochen": 7, "semaine": 7, "semaines": 7, "semana": 7,
    "semanas": 7, "month": 30, "months": 30, "monat": 30, "monaten": 30, "mois": 30, "mes": 30,
    "meses": 30, "year": 365, "years": 365, "jahr": 365, "jahren": 365, "année": 365, "ans": 365,
    "año": 365, "años": 365,
}  # fmt: skip
_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ein": 1,
    "einer": 1, "einem": 1, "zwei": 2, "drei": 3, "vier": 4, "sechs": 6, "un": 1, "une": 1,
    "deux": 2,
    "trois": 3, "una": 1, "dos": 2, "tres": 3, "seis": 6,
}  # fmt: skip


def _any(words: dict[str, int]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_W, _M = _any(_WEEKDAYS), _any({k: v for k, v in _MONTHS.items() if k not in {"may", "mar"}})
_NEXT = r"next|this|coming|following|nächste[nrs]?|diese[nrs]?|kommende[nrs]?|prochaine?|próxim[oa]"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(rf"(?<![\w.,/:-]){pattern}(?![\w/]|[.,:]\d)"))
    for name, pattern in (
        ("iso", r"(?P<year>20\d\d)-(?P<month>\d\d)-(?P<day>\d\d)"),
        ("dotted", r"(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.(?:(?P<year>20\d\d))?"),
        (
            "day_month",
            rf"(?:the\s+|le\s+|el\s+|am\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th|er|\.)?\s+"
            rf"(?:of\s+|de\s+)?(?P<name>{_M}|may|mar)\b\.?(?:\s+(?:de\s+)?(?P<year>20\d\d))?",
        ),
        (
            "month_day",
            rf"(?P<name>{_M}|may|mar)\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?"
            r"(?:,?\s+(?P<year>20\d\d))?",
        ),
        ("ordinal", r"(?:on|by|until|from)\s+the\s+(?P<day>\d{1,2})(?:st|nd|rd|th)"),
        ("weekday", rf"(?:(?P<next>{_NEXT})\s+)?(?P<name>{_W})s?"),
        ("relative_day", rf"(?P<name>{_any(_DAYS)})"),
        (
            "in",
            rf"(?:in|within|dans|en)\s+(?P<count>\d{{1,3}}|{_any(_NUMBERS)})\s+"
            rf"(?P<unit>{_any(_UNITS)})",
        ),
        (
            "next_unit",
            r"(?:next|nächste[nrs]?|nächstes|kommende[nrs]?)\s+"
            r"(?P<unit>week|month|year|woche|monat|jahr)",
        ),
        ("next_unit_after", r"(?:la\s+|el\s+)?(?P<unit>semaine|mois|semana|mes)\s+prochaine?"),
        ("next_unit_es", r"(?:la\s+|el\s+)?próxim[oa]\s+(?P<unit>semana|mes|año)"),
        ("quarter", r"q(?P<quarter>[1-4])(?:\s+(?P<year>20\d\d))?"),
        (
            "month",
            rf"(?:in|until|till|by|from|end of|early|late|mid|ab|im|bis|en|fin)\s+"
            rf"(?P<name>{_M}|may)(?!\.?\s+\d{{1,2}}(?!\d))(?:\s+(?P<year>20\d\d))?",
        ),
    )
)
_CLOCK = re.compile(
    r"(?<![\w.,/:-])(?:at\s+|um\s+|à\s+|a\s+las\s+)?"
    r"(?:(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d))?\s*(?P<half>am|pm|a\.m\.|p\.m\.|uhr|h|o'clock)"
    r"(?P<after>[0-5]\d)?|(?P<hour2>\d{1,2}):(?P<minute2>[0-5]\d))(?![\w/]|[.,:]\d)"
)
_BARE_CLOCK = re.compile(r"\s*,?\s*(?:at|um|à|a las)\s+(?P<hour>\d{1,2})(?![\w/%€$]|[.,:]\d)")
_DAYPART = re.compile(
    rf"\s*,?\s*(?:in the |am |dans l'|le |por la |after )?(?P<name>{_any(_DAYPARTS)})(?!\w)"
)


def find_times(text: str, now: datetime) -> list[Time]:
    """The times in a text, in their order; `now` is the mail's own time in its writer's zone."""
    lowered = text[:MAX_CHARACTERS].replace("’", "'")
    lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in lowered)
    found: list[Time] = []
    taken: list[tuple[int, int]] = []
    for start, end, precision, day in sorted(_days(lowered, now), key=_longest_first):
        if any(start < e and s < end for s, e in taken):
            continue
        end, precision, value = _with_clock(lowered, end, precision, day, now)
        taken.append((start, end))
        found.append(Time(text[start:end], (start, end), precision, value))
        if len(found) == MAX_TIMES:
            break
    for match in _CLOCK.finditer(lowered):
        start, end = match.span()
        clock = _clock(match)
        if clock is None or any(start < e and s < end for s, e in taken) or len(found) >= MAX_TIMES:
            continue
        day = _day_of_loose_clock(found, start, now)
        value = datetime.combine(day, clock, now.tzinfo)
        taken.append((start, end))
        found.append(Time(text[start:end], (start, end), Precision.MINUTE, value))
    found.sort(key=lambda one: one.span)
    return _trimmed(found, text)


def _trimmed(found: list[Time], text: str) -> list[Time]:
    trimmed = []
    for one in found:
        start, end = one.span
        lead = len(one.text) - len(one.text.lstrip())
        tail = len(one.text) - len(one.text.rstrip(" ,"))
        span = (start + lead, end - tail)
        trimmed.append(replace(one, text=text[span[0] : span[1]], span=span))
    return trimmed


def _longest_first(item: tuple[int, int, Precision, date]) -> tuple[int, int]:
    return item[0], -item[1]


def _days(text: str, now: datetime) -> Iterator[tuple[int, int, Precision, date]]:
    for name, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            read = _read(name, match, now.date())
            if read is not None:
                yield match.start(), match.end(), *read


def _read(name: str, match: re.Match[str], today: date) -> tuple[Precision, date] | None:
    given = match.groupdict()
    try:
        if name == "iso":
            return Precision.DAY, date(*(int(given[k]) for k in ("year", "month", "day")))
        if name in {"dotted", "day_month", "month_day"}:
            month = int(given["month"]) if "month" in given else _MONTHS[given["name"]]
            return Precision.DAY, _coming(given["year"], month, int(given["day"]), today)
        if name == "ordinal":
            return Precision.DAY, _next_day_of_month(int(given["day"]), today)
        if name == "weekday":
            if given["name"] in {"sun", "sat", "mon", "mar", "wed"} and not given["next"]:
                return None  # Too short to be sure of; written out they count.
            ahead = (_WEEKDAYS[given["name"]] - today.weekday() - 1) % 7 + 1
            return Precision.DAY, today + timedelta(ahead)
        if name == "relative_day":
            return Precision.DAY, today + timedelta(_DAYS[given["name"]])
        if name == "in":
            count = int(given["count"]) if given["count"].isdigit() else _NUMBERS[given["count"]]
            days = _UNITS[given["unit"]]
            precision = {1: Precision.DAY, 7: Precision.WEEK}.get(days, Precision.MONTH)
            return precision, today + timedelta(min(count * days, 36_500))
        if name.startswith("next_unit"):
            days = _UNITS[given["unit"]]
            if days == 7:
                return Precision.WEEK, today + timedelta(7 - today.weekday())
            if days == 30:
                return Precision.MONTH, (today.replace(day=1) + timedelta(32)).replace(day=1)
            return Precision.MONTH, date(today.year + 1, 1, 1)
        if name == "quarter":
            month = int(given["quarter"]) * 3 - 2
            return Precision.QUARTER, _coming(given["year"], month, 1, today)
        return Precision.MONTH, _coming(given["year"], _MONTHS[given["name"]], 1, today)
    except (ValueError, OverflowError):
        return None


def _coming(year: str | None, month: int, day: int, today: date) -> date:
    if year:
        return date(int(year), month, day)
    this_year = date(today.year, month, day)
    return this_year if this_year >= today else date(today.year + 1, month, day)


def _next_day_of_month(day: int, today: date) -> date:
    if day >= today.day:
        return today.replace(day=day)
    return (today.replace(day=1) + timedelta(32)).replace(day=day)


def _with_clock(
    text: str, end: int, precision: Precision, day: date, now: datetime
) -> tuple[int, Precision, datetime]:
    midnight = datetime.combine(day, time(0), now.tzinfo)
    if precision is not Precision.DAY:
        return end, precision, midnight
    part = _DAYPART.match(text, end)
    base = end
    if part:
        base, precision = part.end(), Precision.DAYPART
        midnight = midnight.replace(hour=_DAYPARTS[part["name"]])
    near = re.compile(r"\s*,?\s*").match(text, base)
    match = _CLOCK.match(text, near.end() if near else base) or _CLOCK.match(text, base)
    clock = _clock(match) if match else None
    if match and clock:
        return match.end(), Precision.MINUTE, datetime.combine(day, clock, now.tzinfo)
    bare = _BARE_CLOCK.match(text, base)
    if bare and int(bare["hour"]) < 24:
        value = datetime.combine(day, time(int(bare["hour"])), now.tzinfo)
        return bare.end(), Precision.MINUTE, value
    return base, precision, midnight


def _clock(match: re.Match[str]) -> time | None:
    hour = int(match["hour"] or match["hour2"])
    minute = int(match["minute"] or match["minute2"] or match["after"] or 0)
    half = (match["half"] or "").replace(".", "")
    if half in {"am", "pm"}:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or (match["half"] == "h" and match["after"] is None and hour > 23):
        return None
    return time(hour, minute)


def _day_of_loose_clock(found: list[Time], start: int, now: datetime) -> date:
    """A clock time belongs to the nearest day named before it, else to today or tomorrow."""
    before = [one for one in found if one.span[1] <= start and one.span[1] >= start - 60]
    if before:
        return max(before, key=lambda one: one.span[1]).value.date()
    return now.date()

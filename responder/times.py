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
        (
            "weekday_ordinal",
            rf"(?:{_W}),?\s+(?:the|den|le|el)\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)?",
        ),
        (  # A fraction or "24/7" stands as bare; a date comes with a year, a clock or "on".
            "slashed",
            r"(?P<lead>(?:on|by|until|from|le|el)\s+)?(?P<first>\d{1,2})/(?P<second>\d{1,2})"
            r"(?:/(?P<year>20\d\d))?(?P<clock>(?=\s+at\s+\d))?",
        ),
        ("week_after_next", r"(?:the\s+)?week\s+after\s+next|übernächste\s+woche"),
        ("fortnight", r"in\s+a\s+fortnight"),
        (
            "after_feast",
            r"(?:after|nach|après|después\s+de)\s+"
            r"(?P<feast>christmas|xmas|weihnachten|noël|navidad|new year)",
        ),
        ("half_year", r"(?P<half>first|second)\s+half\s+of\s+(?P<year>20\d\d)"),
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
        (
            "ordinal",
            r"(?:on|by|until|from)\s+the\s+(?P<day>\d{1,2})(?:st|nd|rd|th)|"
            r"the\s+(?P<before_clock>\d{1,2})(?:st|nd|rd|th)(?=\s*,?\s+at\s+(?:\d|noon))",
        ),
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
            r"(?:in|until|till|by|from|end of|early|late|mid|mitte|ende|anfang|ab|im|bis|en|fin)"
            r"[\s-]+"
            rf"(?P<name>{_M}|may)(?!\.?\s+\d{{1,2}}(?!\d))(?:\s+(?P<year>20\d\d))?",
        ),
    )
)
_CLOCK = re.compile(
    r"(?<![\w.,/:-])(?:at\s+|um\s+|à\s+|a\s+las\s+)?"
    r"(?:(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d))?\s*(?P<half>am|pm|a\.m\.|p\.m\.|uhr|h|o'clock)"
    r"(?P<after>[0-5]\d)?|(?P<hour2>\d{1,2}):(?P<minute2>[0-5]\d))(?![\w/]|[.,:]\d)"
)
_HOURS = {
    name: number
    for number, names in enumerate(
        (
            "one eins ein",
            "two zwei",
            "three drei",
            "four vier",
            "five fünf",
            "six sechs",
            "seven sieben",
            "eight acht",
            "nine neun",
            "ten zehn",
            "eleven elf",
            "twelve zwölf",
        ),
        1,
    )
    for name in names.split()
}
_SPOKEN = re.compile(
    r"(?<![\w.,/:-])(?:(?:at|around|about|um|gegen)\s+)?"
    r"(?P<part>half past|quarter past|quarter to|halb|viertel nach|viertel vor)\s+"
    rf"(?P<hour>1[0-2]|[1-9]|{_any(_HOURS)})(?![\w/]|[.,:]\d)"
)
_MINUTES = {
    "half past": 30,
    "quarter past": 15,
    "quarter to": -15,
    "halb": -30,  # German "halb drei" is half an hour before three.
    "viertel nach": 15,
    "viertel vor": -15,
}
_RANGE = re.compile(
    r"\s*,?\s*(?:between|from|zwischen|von|entre)\s+(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d))?"
    r"\s*(?P<half>am|pm)?\s*(?:and|to|till|until|und|bis|et|y|-)\s+"
    r"(?P<last>\d{1,2})(?::[0-5]\d)?\s*(?P<half2>am|pm|uhr|h)?(?![\w/%€$]|[.,:]\d)"
)
_SOON = re.compile(
    r"(?<![\w.,/:-])in\s+(?P<count>\d{1,2}|an|one|two|three|einer|zwei)\s+"
    r"(?P<unit>hours?|minutes?|stunden?|minuten)(?![\w-])"
)
_TO_DAY = re.compile(r"\s*,?\s*(?:(?:on|am|this|next|le|el)\s+)?\Z")
_OFFICE_OPENS = 7
"""Without am or pm an hour before this is meant after noon: nobody proposes a call at five."""

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
        day = _day_of_loose_clock(found, start, end, lowered, now)
        value = datetime.combine(day, clock, now.tzinfo)
        taken.append((start, end))
        found.append(Time(text[start:end], (start, end), Precision.MINUTE, value))
    for match in _SPOKEN.finditer(lowered):
        start, end = match.span()
        if any(start < e and s < end for s, e in taken) or len(found) >= MAX_TIMES:
            continue
        day = _day_of_loose_clock(found, start, end, lowered, now)
        value = datetime.combine(day, _spoken(match), now.tzinfo)
        taken.append((start, end))
        found.append(Time(text[start:end], (start, end), Precision.MINUTE, value))
    for match in _SOON.finditer(lowered):
        start, end = match.span()
        if any(start < e and s < end for s, e in taken) or len(found) >= MAX_TIMES:
            continue
        given = match["count"]
        count = int(given) if given.isdigit() else _NUMBERS[given]
        step = timedelta(hours=1) if match["unit"][0] in "hs" else timedelta(minutes=1)
        taken.append((start, end))
        found.append(Time(text[start:end], (start, end), Precision.MINUTE, now + count * step))
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
            return Precision.DAY, _next_day_of_month(
                int(given["day"] or given["before_clock"]), today
            )
        if name == "weekday_ordinal":
            return Precision.DAY, _next_day_of_month(int(given["day"]), today)
        if name == "slashed":
            if given["lead"] is None and given["year"] is None and given["clock"] is None:
                return None
            first, second = int(given["first"]), int(given["second"])
            if max(first, second) <= 12 and first != second:
                return None  # Day or month first? Nobody can say.
            month, day = (first, second) if first <= 12 else (second, first)
            return Precision.DAY, _coming(given["year"], month, day, today)
        if name in {"week_after_next", "fortnight"}:
            ahead = 14 if name == "fortnight" else 14 - today.weekday()
            return Precision.WEEK, today + timedelta(ahead)
        if name == "after_feast":
            if given["feast"] == "new year":
                return Precision.WEEK, date(today.year + 1, 1, 2)
            return Precision.WEEK, _coming(None, 12, 27, today)
        if name == "half_year":
            return Precision.QUARTER, date(
                int(given["year"]), 1 if given["half"] == "first" else 7, 1
            )
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
    spoken = _SPOKEN.match(text, near.end() if near else base)
    if spoken:
        value = datetime.combine(day, _spoken(spoken), now.tzinfo)
        return spoken.end(), Precision.MINUTE, value
    span = _RANGE.match(text, base)
    if span and int(span["hour"]) < 24 and int(span["last"]) < 25:
        half = span["half"] or (span["half2"] if span["half2"] in {"am", "pm"} else None)
        hour = _hour(int(span["hour"]), half)
        value = datetime.combine(day, time(hour, int(span["minute"] or 0)), now.tzinfo)
        return span.end(), Precision.MINUTE, value
    noon = re.compile(r"\s*,?\s*at noon(?!\w)").match(text, base)
    if noon:
        return noon.end(), Precision.MINUTE, datetime.combine(day, time(12), now.tzinfo)
    bare = _BARE_CLOCK.match(text, base)
    if bare and int(bare["hour"]) < 24:
        value = datetime.combine(day, time(int(bare["hour"])), now.tzinfo)
        return bare.end(), Precision.MINUTE, value
    return base, precision, midnight


def _hour(hour: int, half: str | None) -> int:
    if half in {"am", "pm"} and 1 <= hour <= 12:
        return hour % 12 + (12 if half == "pm" else 0)
    return hour + 12 if half is None and 1 <= hour < _OFFICE_OPENS else hour


def _spoken(match: re.Match[str]) -> time:
    given = match["hour"]
    hour = _hour(int(given) if given.isdigit() else _HOURS[given], None)
    minutes = (hour * 60 + _MINUTES[match["part"]]) % (24 * 60)
    return time(minutes // 60, minutes % 60)


def _clock(match: re.Match[str]) -> time | None:
    hour = int(match["hour"] or match["hour2"])
    minute = int(match["minute"] or match["minute2"] or match["after"] or 0)
    half = (match["half"] or "").replace(".", "")
    if half in {"am", "pm"}:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    if half == "o'clock":
        hour = _hour(hour, None)
    if hour > 23 or (match["half"] == "h" and match["after"] is None and hour > 23):
        return None
    return time(hour, minute)


def _day_of_loose_clock(found: list[Time], start: int, end: int, text: str, now: datetime) -> date:
    """A clock time belongs to the day that follows it at once, else to the last one before it."""
    for one in found:
        follows = one.span[0] >= end and one.precision is not Precision.MINUTE
        if follows and _TO_DAY.match(text[end : one.span[0]]):
            return one.value.date()
    before = [one for one in found if one.span[1] <= start and one.span[1] >= start - 60]
    if before:
        return max(before, key=lambda one: one.span[1]).value.date()
    return now.date()

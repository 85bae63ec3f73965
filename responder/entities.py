"""Things that a reply names: times, phones, amounts, seats, addresses, links, people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from responder.times import find_times

MAX_CHARACTERS = 20_000
MAX_OF_A_KIND = 20


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing at a place in the text; `value` is its plain form."""

    kind: str
    text: str
    span: tuple[int, int]
    value: str


_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}(?![\w-])")
_URL = re.compile(r"\bhttps?://[^\s<>\"']{1,500}[^\s<>\"'.,;:!?)]")
_AMOUNT = re.compile(
    r"(?<![\w.,])(?:(?P<sign>[€$£])\s?(?P<a>\d[\d.,]{0,12})|(?P<b>\d[\d.,]{0,12})\s?"
    r"(?P<unit>€|\$|£|euros?|eur|usd|dollars?|chf|gbp|pounds?)(?!\w))(?P<k>k\b)?",
    re.IGNORECASE,
)
_SEATS = re.compile(
    r"(?<![\w.,])(?P<n>\d{1,6})\s+(?:users?|seats?|people|employees|staff|licen[cs]es|leute|"
    r"mitarbeiter\w*|nutzer|personnes|utilisateurs|usuarios|personas|colleagues)\b",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"(?:contact|talk to|write to|speak to|speak with|reach out to|ask for|copying in|copying|"
    r"looping in|adding|colleague|boss|partner|manager|call|Kollegin|Kollegen|Kollege|Frau|Herrn?|"
    r"Mr|Mrs|Ms|Dr|collègue|compañer[oa])\.?,?\s+"
    r"(?P<name>[A-ZÄÖÜÉÈÁÍÓÚÑ][\w'-]{1,30}(?:\s[A-ZÄÖÜÉÈÁÍÓÚÑ][\w'-]{1,30}){0,2})"
)


def find_entities(text: str, now: datetime, *, region: str = "DE") -> list[Entity]:
    """What the text names, in order; `region` reads phone numbers without a country code."""
    text = text[:MAX_CHARACTERS]
    found = [
        Entity("time", one.text, one.span, f"{one.value.isoformat()}/{one.precision}")
        for one in find_times(text, now)[:MAX_OF_A_KIND]
    ]
    for part in (_emails(text), _urls(text), _amounts(text), _seats(text), _people(text)):
        found += [entity for entity, _ in zip(part, range(MAX_OF_A_KIND), strict=False)]
    taken = [entity.span for entity in found]
    for entity in _phones(text, region):
        if not any(entity.span[0] < e and s < entity.span[1] for s, e in taken):
            found.append(entity)
    return sorted(found, key=lambda entity: (entity.span, entity.kind))


def _emails(text: str) -> Iterator[Entity]:
    for match in _EMAIL.finditer(text):
        yield Entity("email", match[0], match.span(), match[0].lower())


def _urls(text: str) -> Iterator[Entity]:
    for match in _URL.finditer(text):
        yield Entity("url", match[0], match.span(), match[0])


def _amounts(text: str) -> Iterator[Entity]:
    for match in _AMOUNT.finditer(text):
        digits = re.sub(r"[.,](?=\d{3}(?:\D|$))", "", match["a"] or match["b"]).rstrip(".,")
        unit = (match["sign"] or match["unit"]).lower()
        yield Entity("amount", match[0], match.span(), f"{digits}{match['k'] or ''} {unit}")


def _seats(text: str) -> Iterator[Entity]:
    for match in _SEATS.finditer(text):
        yield Entity("seats", match[0], match.span(), match["n"])


def _people(text: str) -> Iterator[Entity]:
    for match in _PERSON.finditer(text):
        yield Entity("person", match["name"], match.span("name"), match["name"])


def _phones(text: str, region: str) -> Iterator[Entity]:
    import phonenumbers  # 50 MB of tables: only the process that reads pays.

    matcher = phonenumbers.PhoneNumberMatcher(text, region, max_tries=200)
    for match, _ in zip(matcher, range(MAX_OF_A_KIND), strict=False):
        value = phonenumbers.format_number(match.number, phonenumbers.PhoneNumberFormat.E164)
        yield Entity("phone", match.raw_string, (match.start, match.end), value)

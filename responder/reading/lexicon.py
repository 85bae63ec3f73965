"""Phrases that say what a reply means, found with their places in the text.

Whole words only; `*` in a phrase stands for one to three words. A phrase in a sentence that negates
or merely asks about it does not count: "please don't remove me", "can readers unsubscribe?". What
was taken back is told too, so that the model's opinion of it can be held down: an address that is
suppressed by mistake is lost.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from responder.reading.labels import LABELS

MAX_CHARACTERS = 20_000

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_NEGATION = re.compile(
    r"(?:\b(?:not|never|no|nicht|kein\w*|pas|jamais|nunca|non)|n't)\s+(?:\w+\s+){0,1}\Z"
)
_DENIED = re.compile(
    r"(?:\b(?:do not|did not|never|no need to|need not|not mean to|meant to|by accident|"
    r"möchte mich nicht|nicht|ne veux pas me|no quiero)|n't|accidentally)\s+"
    r"(?:(?:want|have|need|mean|asked?|you|to)\s+){0,3}\Z"
)
_BY_MISTAKE = re.compile(r"\b(?:by accident|by mistake|accidentally|versehentlich|par erreur)\b")
_REQUEST = re.compile(
    r"\b(?:(?:can|could|will|would|won't|why (?:do|are|can't|won't)) you|(?:can|could) i be)\b|"
    r"\bplease\b|\bbitte\b|\bhow (?:do|can|could) (?:i|we) (?:unsubscribe|opt out)\W*\Z|\bstill\b"
)
_ABOUT = re.compile(
    r"\b(?:cost|fee|price|happens|if (?:we|i|somebody|someone|a)|your (?:tool|system))\b"
)
SUPPRESSING = frozenset({"unsubscribe"})
STATED = frozenset({"objection_competitor", "objection_no_need", "left_company"})
"""Meanings that a question does not have: "what is different from what we use today?"."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A phrase at a place; `span` counts characters of the text that was read."""

    intent: str
    phrase: str
    weight: float
    span: tuple[int, int]


@cache
def _phrases() -> tuple[tuple[str, str, float, re.Pattern[str]], ...]:
    path = resources.files("responder.reading").joinpath("data", "lexicon.toml")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = set(table) - set(LABELS)
    if unknown:
        raise ValueError(f"lexicon.toml: {sorted(unknown)} are not labels")
    return tuple(
        (intent, phrase, float(entry["weight"]), _pattern(phrase))
        for intent, entry in table.items()
        for phrase in entry["phrases"]
    )


def _pattern(phrase: str) -> re.Pattern[str]:
    words = re.escape(phrase).replace(r"\*\ ", r"(?:[\w'-]+\s+){1,3}")
    return re.compile(rf"(?<!\w){words}(?!\w)")


def hits(text: str) -> list[Hit]:
    """All phrases that count, in the order of the text; none stands inside a longer one."""
    return found(text)[0]


def found(text: str) -> tuple[list[Hit], frozenset[str]]:
    """The phrases that count, and the intents whose phrases were all negated or asked about."""
    lowered = text[:MAX_CHARACTERS].replace("’", "'").lower()
    if len(lowered) != len(text[:MAX_CHARACTERS]):
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text[:MAX_CHARACTERS])
        lowered = lowered.replace("’", "'")
    back: set[str] = set()
    ordered = sorted(_all(lowered, back), key=lambda hit: (hit.span[0], -hit.span[1]))
    kept: list[Hit] = []
    for hit in ordered:
        inside = any(
            other.intent == hit.intent
            and other.span[0] <= hit.span[0]
            and hit.span[1] <= other.span[1]
            for other in kept
        )
        if not inside:
            kept.append(hit)
    return kept, frozenset(back - {hit.intent for hit in kept})


def _all(lowered: str, back: set[str]) -> Iterator[Hit]:
    sentences = [match.span() for match in _SENTENCE.finditer(lowered)]
    for intent, phrase, weight, pattern in _phrases():
        if phrase.partition("*")[0] not in lowered:
            continue
        for match in pattern.finditer(lowered):
            start = next((s for s, e in sentences if s <= match.start() < e), 0)
            end = next((e for s, e in sentences if s <= match.start() < e), len(lowered))
            if _taken_back(intent, lowered[start : match.start()], lowered[start:end]):
                back.add(intent)
            else:
                yield Hit(intent, phrase, weight, match.span())


def _taken_back(intent: str, before: str, sentence: str) -> bool:
    asks = sentence.rstrip().endswith("?")
    if intent in SUPPRESSING:
        if _DENIED.search(before) or _BY_MISTAKE.search(sentence):
            return True
        return asks and (not _REQUEST.search(sentence) or bool(_ABOUT.search(sentence)))
    return (asks and intent in STATED) or bool(_NEGATION.search(before))

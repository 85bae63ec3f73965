"""Phrases that say what a reply means, found with their places in the text.

Whole words only. A phrase in a sentence that negates or merely asks about it does not count:
"I did not unsubscribe", "how can I unsubscribe people from my own list?".
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
    r"\b(?:not|n't|never|no|nicht|kein\w*|pas|jamais|nunca|non)\s+(?:\w+\s+){0,1}\Z"
)
_DENIED = re.compile(
    r"\b(?:did not|didn't|don't want to|do not want to|please do not|please don't|"
    r"möchte mich nicht|ne veux pas me|no quiero)\s+(?:\w+\s+){0,2}\Z"
)
_ASKED = re.compile(r"\b(?:how (?:can|do|could)|is there a way|does your|can your|wie kann)\b")
SUPPRESSING = frozenset({"unsubscribe"})


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
        (intent, phrase, float(entry["weight"]), re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)"))
        for intent, entry in table.items()
        for phrase in entry["phrases"]
    )


def hits(text: str) -> list[Hit]:
    """All phrases that count, in the order of the text; none stands inside a longer one."""
    lowered = text[:MAX_CHARACTERS].replace("’", "'").lower()
    if len(lowered) != len(text[:MAX_CHARACTERS]):
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text[:MAX_CHARACTERS])
        lowered = lowered.replace("’", "'")
    found = sorted(_all(lowered), key=lambda hit: (hit.span[0], -hit.span[1]))
    kept: list[Hit] = []
    for hit in found:
        inside = any(
            other.intent == hit.intent
            and other.span[0] <= hit.span[0]
            and hit.span[1] <= other.span[1]
            for other in kept
        )
        if not inside:
            kept.append(hit)
    return kept


def _all(lowered: str) -> Iterator[Hit]:
    sentences = [match.span() for match in _SENTENCE.finditer(lowered)]
    for intent, phrase, weight, pattern in _phrases():
        if phrase not in lowered:
            continue
        for match in pattern.finditer(lowered):
            start = next((s for s, e in sentences if s <= match.start() < e), 0)
            end = next((e for s, e in sentences if s <= match.start() < e), len(lowered))
            if not _taken_back(intent, lowered[start : match.start()], lowered[start:end]):
                yield Hit(intent, phrase, weight, match.span())


def _taken_back(intent: str, before: str, sentence: str) -> bool:
    if intent in SUPPRESSING:
        if _DENIED.search(before):
            return True
        return bool(_ASKED.search(sentence)) and sentence.rstrip().endswith("?")
    return bool(_NEGATION.search(before))

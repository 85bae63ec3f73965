"""Which passage of the library answers a question: descriptors first, then words and meaning.

A score is between 0 and 1. Meaning is a function that can be changed (`Similar`): the one here
compares content words and pieces of words, and an encoder's cosine fits in its place.

Pure.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Similar = Callable[[str, Sequence[str]], Sequence[float]]
"""How much each of the other texts means what the first one means, from 0 to 1."""

SURE = 0.28
"""From this similarity a passage with the right descriptor answers a question."""

SURE_ALONE = 0.5
"""The same without a descriptor that says so."""

MAX_TEXT = 2000
"""Characters of a text that are compared."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+")

_EMPTY = frozenset(
    """
    a about all also am an and any are as at be been but by can could did do does for from get had
    has have hello hi how i if in into is it its let like may me might more my no not of on one or
    our out please regards should so some tell thank thanks that the their them then there these
    they this to too us very was we well were what when where which who will with would you your
    der die das den dem ein eine einen ist sind und oder wie was wann wo wir ihr sie ich es bitte
    danke haben hat kann koennen könnte fuer für mit von zu auf im in nicht
    le la les un une des du de et ou est sont que quel quelle comment nous vous je il merci pour
    avec dans pas el los las una uno y o es son qué cómo cuál por con para gracias usted
    """.split()
)
"""Words that say nothing about what is asked for."""

_CONCEPTS = {
    "price": "price prices pricing priced cost costs quote quotation fee fees expensive charge "
    "charges preis preise kosten kostet prix coûte coûtent tarif tarifs precio precios cuesta",
    "meeting": "meet meeting appointment visit call treffen termin besuch rencontrer "
    "rendez réunion reunión cita llamar",
    "noise": "loud noise noisy quiet decibel decibels laut lärm leise bruit bruyant ruido",
    "warranty": "warranty guarantee garantie gewährleistung garantía",
    "privacy": "privacy data gdpr dsgvo rgpd datenschutz daten données datos",
}
_HOW_MUCH = re.compile(r"\b(?:how much|wie teuer|wie viel|combien|cuánto)\b")
_CONCEPT_OF = {word: concept for concept, words in _CONCEPTS.items() for word in words.split()}


@dataclass(frozen=True, slots=True)
class Match:
    """A passage for a question: its place in the list that was given, how well it fits and why."""

    place: int
    score: float
    sure: bool
    why: str


def content_words(text: str) -> list[str]:
    """The words of a text that carry its meaning, folded and with synonyms made one."""
    folded = unicodedata.normalize("NFKC", text[:MAX_TEXT]).casefold()
    folded = re.sub(
        r"\bhow much\b|\bwie teuer\b|\bwie viel\b|\bcombien\b|\bcuánto\b", "price", folded
    )
    words = [_CONCEPT_OF.get(word, word) for word in _WORD.findall(folded)]
    return [word for word in words if word not in _EMPTY]


def similarity(text: str, others: Sequence[str]) -> list[float]:
    """How alike texts are: the cosine of their content words and, for spelling, of trigrams."""
    words, pieces = _parts(text)
    found = []
    for other in others:
        other_words, other_pieces = _parts(other)
        found.append(0.7 * _angle(words, other_words) + 0.3 * _angle(pieces, other_pieces))
    return found


def rank(
    question: str,
    passages: Sequence[Any],
    *,
    need: str = "",
    similar: Similar = similarity,
) -> list[Match]:
    """The passages in the order in which they answer `question`; `need` is the intent behind it.

    A passage has `title`, `text`, `asks` and `descriptors`. Passages that have nothing to do with
    the question are left out.
    """
    found = []
    for place, passage in enumerate(passages):
        asks = [str(ask) for ask in passage.asks or ()]
        texts = [*asks, str(passage.title), str(passage.text)]
        scores = list(similar(question, texts))
        best = max(scores, default=0.0)
        described = bool(need) and need in needs_of(passage.descriptors)
        if best <= 0.0 and not described:
            continue
        sure = best >= (SURE if described else SURE_ALONE)
        score = min(1.0, best + (0.3 if described else 0.0))
        like = texts[scores.index(best)] if scores and best > 0 else ""
        why = "; ".join(
            part
            for part in (
                f'its descriptor need is "{need}"' if described else "",
                f'it is like "{like[:80]}" ({best:.2f})' if like else "",
            )
            if part
        )
        found.append(Match(place, round(score, 4), sure, why))
    return sorted(found, key=lambda match: (not match.sure, -match.score, match.place))


def needs_of(descriptors: Mapping[str, Any] | None) -> frozenset[str]:
    """The intents that a passage says it serves, in its descriptor `need` (one or a list)."""
    value = (descriptors or {}).get("need", ())
    return frozenset([value] if isinstance(value, str) else map(str, _listed(value)))


def word_score(words: Sequence[str], title: str, rest: str) -> float:
    """How well an item fits typed words: all must occur; the title counts three times."""
    in_title, anywhere = title.casefold(), f"{title}\n{rest}".casefold()
    if not all(word in anywhere for word in words):
        return 0.0
    return 1.0 + sum(
        3.0 if word in in_title else min(anywhere.count(word), 5) / 5 for word in words
    )


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def _parts(text: str) -> tuple[frozenset[str], frozenset[str]]:
    words = frozenset(content_words(text))
    pieces = (word[at : at + 3] for word in words for at in range(max(1, len(word) - 2)))
    return words, frozenset(pieces)


def _angle(one: frozenset[str], other: frozenset[str]) -> float:
    if not one or not other:
        return 0.0
    return len(one & other) / math.sqrt(len(one) * len(other))

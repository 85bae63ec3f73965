"""Reads a reply: the model's certainties and the lexicon's phrases, united, with the evidence.

A phrase raises its meaning to at least its weight, both agreeing raise it further, and the model's
other guesses then count less. Where the model is weak (another language than English) it counts
less too, and what stays unsure is said to be unsure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from responder.entities import Entity, find_entities
from responder.reading import lexicon, ngrams
from responder.reading.encoder import Encoder
from responder.reading.head import Head, join
from responder.reading.labels import LABELS

MODEL = Path(__file__).with_name("model") / "head.npz"
ABSTAIN_BELOW = 0.4
LEARNT = frozenset({"en", "de", "fr", "es"})
FOREIGN_TRUST = 0.6
"""How much the model's certainty counts in a language of which it learnt no reply."""

TAKEN_BACK_AT_MOST = 0.4
"""How sure the model may be of a request to stop whose words were negated or only asked about: sure
enough to show it to a person, not enough to suppress an address."""

SUREST = 0.99
"""Nothing that was read is certain."""

SHORT_LETTERS = 20
MAX_SENTENCES = 8
MAX_CHARACTERS = 8000

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_HEADER_INTENT = {"bounce": "bounce", "auto_reply": "out_of_office"}
_POSITIVE = ("interested", "meeting_request", "question_pricing", "question_product")
_NEGATIVE = ("not_interested", "complaint", "unsubscribe", "objection_price", "objection_no_need")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an intent is believed; `span` is None for the model's opinion."""

    intent: str
    source: str
    weight: float
    phrase: str = ""
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply means."""

    intents: Mapping[str, float]
    top: str
    abstain: bool
    why_abstain: str
    entities: tuple[Entity, ...]
    evidence: tuple[Evidence, ...]
    language: str
    sentiment: float
    urgency: float
    model_version: str


class Reader:
    """A loaded model; one call at a time."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        self._encoder = encoder
        self._head = head

    @classmethod
    def load(cls, model_dir: Path | None = None) -> Reader:
        """The shipped model, or another encoder's folder with a head of its own (`head.npz`)."""
        head = MODEL if model_dir is None else model_dir / "head.npz"
        return cls(Encoder.load(model_dir), Head.load(head if head.is_file() else MODEL))

    def read(
        self,
        text: str,
        *,
        subject: str = "",
        context: str = "",
        now: datetime | None = None,
        headers_hint: str | None = None,
    ) -> Reading:
        """The reading of one reply; `text` is the author's own words, `now` the mail's time."""
        return self.read_many([text], subjects=[subject], now=now, headers_hint=headers_hint)[0]

    def read_many(
        self,
        texts: Sequence[str],
        *,
        subjects: Sequence[str] | None = None,
        now: datetime | None = None,
        headers_hint: str | None = None,
    ) -> list[Reading]:
        """The readings of several replies in one go."""
        texts = [text[:MAX_CHARACTERS] for text in texts]
        given = [
            text if text.strip() else subject[:200]
            for text, subject in zip(texts, subjects or [""] * len(texts), strict=True)
        ]
        rows = self._certainties(given)
        at = now or datetime.now(UTC)
        return [
            self._unite(text, row, at, headers_hint) for text, row in zip(given, rows, strict=True)
        ]

    def _certainties(self, texts: Sequence[str]) -> list[list[float]]:
        """Whole text and surest sentence, half each: several intents rarely share a sentence."""
        parts = [_sentences(text) for text in texts]
        pieces = [*texts, *(sentence for part in parts for sentence in part)]
        judged = self._head.certainties(join(self._encoder.encode(pieces), ngrams.features(pieces)))
        rows, place = [], len(texts)
        for row, part in zip(judged, parts, strict=False):
            if part:
                surest = judged[place : place + len(part)].max(axis=0)
                row = (row + surest) / 2
            place += len(part)
            rows.append([float(value) for value in row])
        return rows

    def _unite(
        self, text: str, row: list[float], now: datetime, headers_hint: str | None
    ) -> Reading:
        language = detect_language(text)
        trust = 1.0 if language in LEARNT else FOREIGN_TRUST
        certainty = {label: trust * value for label, value in zip(LABELS, row, strict=True)}
        phrases, taken_back = lexicon.found(text)
        for label in taken_back & lexicon.SUPPRESSING:
            certainty[label] = min(certainty[label], TAKEN_BACK_AT_MOST)
        evidence = [
            Evidence(label, "model", round(value, 3))
            for label, value in sorted(certainty.items(), key=lambda one: -one[1])[:3]
        ]
        for hit in phrases:
            evidence.append(Evidence(hit.intent, "lexicon", hit.weight, hit.phrase, hit.span))
        strongest: dict[str, float] = {}
        for one in evidence:
            if one.source == "lexicon":
                strongest[one.intent] = max(strongest.get(one.intent, 0.0), one.weight)
        rest = 1.0 - max(strongest.values(), default=0.0) * 0.7
        for label in certainty:
            weight = strongest.get(label, 0.0)
            model = certainty[label]
            united = weight + model * (1 - weight) if weight else model * rest
            certainty[label] = min(united, SUREST)
        if headers_hint in _HEADER_INTENT:
            label = _HEADER_INTENT[headers_hint]
            certainty = {name: 0.1 * value for name, value in certainty.items()} | {label: 0.99}
            evidence.insert(0, Evidence(label, "header", 0.99, headers_hint))
        top = max(certainty, key=lambda label: certainty[label])
        why = _why_unsure(text, certainty[top], language)
        return Reading(
            intents={label: round(value, 4) for label, value in certainty.items()},
            top=top,
            abstain=bool(why),
            why_abstain=why,
            entities=tuple(find_entities(text, now)),
            evidence=tuple(evidence),
            language=language,
            sentiment=_sentiment(certainty),
            urgency=_urgency(text),
            model_version=self._head.version,
        )


def _sentences(text: str) -> list[str]:
    """The first sentences of a text that has several; more are read with the whole only."""
    found = [one for one in _SENTENCE_END.split(text) if len(one.strip()) >= 4]
    return found[:MAX_SENTENCES] if len(found) > 1 else []


def _why_unsure(text: str, certainty: float, language: str) -> str:
    if not text.strip():
        return "there are no words to read"
    if certainty >= ABSTAIN_BELOW:
        return ""
    if language not in LEARNT:
        return f"the text seems to be {language}, which the model knows only by its phrases"
    return f"no meaning is surer than {certainty:.2f}; {ABSTAIN_BELOW} is asked for"


def _sentiment(certainty: Mapping[str, float]) -> float:
    good = sum(certainty[label] for label in (*_POSITIVE, "acknowledgement"))
    bad = sum(certainty[label] for label in _NEGATIVE)
    return round(max(-1.0, min(1.0, good - bad)), 3)


def _urgency(text: str) -> float:
    words = (
        "asap",
        "urgent",
        "immediately",
        "today",
        "right away",
        "dringend",
        "sofort",
        "urgente",
    )
    lowered = text.lower()
    return round(min(1.0, 0.5 * sum(word in lowered for word in words)), 2)


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(["en", "de", "fr", "es", "it", "nl", "pt", "sv", "da", "pl"])
    return identifier


def detect_language(text: str) -> str:
    """The language's ISO 639-1 code; too few letters count as English."""
    if sum(c.isalpha() for c in text) < SHORT_LETTERS:
        return "en"
    language, certainty = _detector().classify(text[:2000])
    return str(language) if certainty >= 0.6 else "en"

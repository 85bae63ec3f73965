"""Writes the draft of an answer from the library; every sentence names its source.

A draft is an opening, a passage for each need, a next step and the rep's signature. Nothing is
made up: what is not in a template of this file, in the library or in a slot that code fills (names)
isn't said. A need for which there is nothing becomes a visible gap for the rep to fill.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from content.matching import Match, Similar, needs_of, rank, similarity

GAP_MARK = "[not in the library:"
MAX_GAP = 200
MAX_SUBJECT = 300

LabelOf = Callable[[str], str]
"""The intent of one question of a reply that has several."""

_LATER = frozenset({"interested", "meeting_request"})
"""Needs for which the next step alone is an answer, if the library has no passage."""

_OPENINGS: Mapping[str, tuple[str, ...]] = {
    "en": ("Thank you for your reply.", "Thank you for writing back.", "Good to hear from you."),
    "de": ("Vielen Dank für Ihre Antwort.", "Danke für Ihre Nachricht."),
    "fr": ("Merci beaucoup pour votre réponse.", "Merci pour votre message."),
    "es": ("Muchas gracias por su respuesta.", "Gracias por su mensaje."),
}
_GREETINGS = {"en": "Hello", "de": "Guten Tag", "fr": "Bonjour", "es": "Hola"}
_CLOSINGS = {
    "en": "Best regards",
    "de": "Freundliche Grüße",
    "fr": "Cordialement",
    "es": "Saludos cordiales",
}
_STEPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "meeting_request": {
        "en": (
            "Which times suit you best?",
            "Please send me two or three times that suit you.",
        ),
        "de": ("Welche Zeiten passen Ihnen am besten?",),
        "fr": ("Quels moments vous conviennent le mieux ?",),
        "es": ("¿Qué horas le convienen más?",),
    },
    "interested": {
        "en": ("Shall we find a time to talk about it?", "When may I call you about it?"),
        "de": ("Wollen wir einen Termin finden, um darüber zu sprechen?",),
        "fr": ("Voulez-vous que nous trouvions un moment pour en parler ?",),
        "es": ("¿Buscamos un momento para hablarlo?",),
    },
    "question": {
        "en": ("Is there anything else that you would like to know?", "Does that help you?"),
        "de": ("Möchten Sie sonst noch etwas wissen?",),
        "fr": ("Souhaitez-vous savoir autre chose ?",),
        "es": ("¿Hay algo más que quiera saber?",),
    },
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and where it comes from: `template:opening.en.0` or `content:price@2`."""

    text: str
    source: str
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """As it is kept with the draft."""
        return {"text": self.text, "source": self.source, "why": self.why}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to answer: the needs that were decided on, and the questions as they were asked."""

    needs: Sequence[str]
    text: str
    questions: Sequence[str]
    subject: str
    language: str
    first_name: str
    rep_name: str
    company_name: str
    sent_before: Sequence[str] = ()


@dataclass(slots=True)
class Composed:
    """A draft that a person has to look at."""

    subject: str
    text: str
    language: str
    sentences: list[Sentence]
    gaps: list[str] = field(default_factory=list)


def compose(
    wanted: Wanted,
    passages: Sequence[Any],
    *,
    similar: Similar = similarity,
    label_of: LabelOf | None = None,
) -> Composed:
    """The draft. A passage has key, version, language, title, text, asks and descriptors."""
    language = _language(wanted.language, passages)
    offered = [item for item in passages if item.language == language]
    said = {_bare(s) for text in wanted.sent_before for s in sentences_of(text)}
    writer = _Writer(said)
    writer.line(_greeting(wanted.first_name, language), f"template:greeting.{language}")
    writer.paragraph()
    writer.first_new(_OPENINGS[language], f"template:opening.{language}")
    writer.paragraph()
    for need, question in _asked(wanted, label_of):
        _answer(writer, need, question, wanted, offered, similar)
    step = next((need for need in ("meeting_request", "interested") if need in wanted.needs), None)
    writer.first_new(
        _STEPS[step or "question"][language], f"template:step.{step or 'question'}.{language}"
    )
    writer.paragraph()
    writer.line(f"{_CLOSINGS[language]},", f"template:closing.{language}")
    writer.line(wanted.rep_name, "slot:rep.name")
    writer.line(wanted.company_name, "slot:company.name")
    return Composed(
        reply_subject(wanted.subject), writer.text(), language, writer.sentences, writer.gaps
    )


def reply_subject(subject: str) -> str:
    """The subject of an answer: one "Re:", whatever marks the mail programs have put there."""
    bare = re.sub(
        r"^(?:\s*(?:re|aw|antw|sv|vs|ref|rép|fwd?|wg)(?:\[\d+\])?\s*:\s*)+",
        "",
        " ".join(subject.split())[:MAX_SUBJECT],
        flags=re.IGNORECASE,
    )
    return f"Re: {bare}".strip()


def sentences_of(text: str) -> list[str]:
    """The sentences of a text. Decimal numbers and abbreviations with one letter stay whole."""
    found = re.split(r"(?<=[.!?])(?<!\b\w\.)\s+(?=\S)|\n+", text)
    return [" ".join(part.split()) for part in found if part.strip()]


class _Writer:
    """Collects sentences into paragraphs, and says none twice."""

    def __init__(self, said: set[str]) -> None:
        self.said = set(said)
        self.sentences: list[Sentence] = []
        self.gaps: list[str] = []
        self._paragraphs: list[list[str]] = [[]]

    def line(self, text: str, source: str) -> None:
        """A line of its own, such as the greeting; these may recur from mail to mail."""
        if text.strip():
            self.sentences.append(Sentence(text, source))
            self._paragraphs[-1].append(text + "\n")

    def first_new(self, variants: Iterable[str], source: str) -> None:
        """The first variant that this person has not had; none if they had all."""
        for number, text in enumerate(variants):
            if self.say(text, f"{source}.{number}"):
                return

    def say(self, text: str, source: str, why: str = "") -> bool:
        """Adds a sentence unless it was said before, here or in an earlier mail."""
        if _bare(text) in self.said:
            return False
        self.said.add(_bare(text))
        self.sentences.append(Sentence(text, source, why))
        self._paragraphs[-1].append(text + " ")
        return True

    def gap(self, question: str) -> None:
        """A place where the rep has to write something."""
        question = " ".join(question.replace("[", "(").replace("]", ")").split())[:MAX_GAP]
        if question not in self.gaps:
            self.gaps.append(question)
            self.paragraph()
            self._paragraphs[-1].append(f"{GAP_MARK} {question}]")
            self.sentences.append(Sentence(f"{GAP_MARK} {question}]", "gap"))
            self.paragraph()

    def paragraph(self) -> None:
        if self._paragraphs[-1]:
            self._paragraphs.append([])

    def text(self) -> str:
        blocks = ("".join(parts).strip() for parts in self._paragraphs)
        return "\n\n".join(block for block in blocks if block) + "\n"


def _answer(
    writer: _Writer,
    need: str,
    question: str,
    wanted: Wanted,
    offered: Sequence[Any],
    similar: Similar,
) -> None:
    asked = question or wanted.text
    matches = rank(asked, offered, need=need, similar=similar)
    fitting = [match for match in matches if _fits(match, need, question, offered)]
    if not fitting:
        if need not in _LATER or question:
            writer.gap(question or need.replace("_", " "))
        return
    for match in fitting:
        item = offered[match.place]
        source = f"content:{item.key}@{item.version}"
        fresh = [
            writer.say(sentence, source, match.why) for sentence in sentences_of(str(item.text))
        ]
        if any(fresh):
            writer.paragraph()
            return
        if any(sentence.source == source for sentence in writer.sentences):
            return  # The same passage answers two questions of this mail.
    writer.gap(f"{question or need.replace('_', ' ')} (they had our passage on it before)")


def _fits(match: Match, need: str, question: str, offered: Sequence[Any]) -> bool:
    """A sure match; or, where no question was put in words, what the library has for the need."""
    described = need in needs_of(offered[match.place].descriptors)
    return match.sure or (described and (not question or need in _LATER))


def _asked(wanted: Wanted, label_of: LabelOf | None) -> list[tuple[str, str]]:
    """Pairs of need and question; every question belongs to a need, and no need is left out."""
    pairs = []
    questions_kinds = [need for need in wanted.needs if need.startswith("question_")]
    first = (questions_kinds or list(wanted.needs) or ["question_product"])[0]
    for question in wanted.questions:
        need = first
        if label_of is not None and len(wanted.needs) > 1:
            label = label_of(question)
            need = label if label in wanted.needs else first
        pairs.append((need, question))
    covered = {need for need, _ in pairs}
    # What is wanted without a question mark ("please send me your terms").
    pairs += [(need, "") for need in wanted.needs if need not in covered]
    return pairs


def _language(language: str, passages: Sequence[Any]) -> str:
    has = any(item.language == language for item in passages)
    return language if has and language in _OPENINGS else "en"


def _greeting(first_name: str, language: str) -> str:
    name = " ".join(first_name.split())[:60]
    return f"{_GREETINGS[language]} {name}," if name else f"{_GREETINGS[language]},"


def _bare(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.casefold()))

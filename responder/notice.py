"""The mails to a rep: a draft to approve, what was decided, why an answer did not count.

Pure. They are sent as they stand (no merge fields), since they quote what strangers wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_QUOTED = 6_000
"""Characters of the reply that are quoted; all of it is in the console."""

HOW = """How to answer this mail:
  ok               sends the draft as it stands
  your own words   are sent instead of the draft
  no, and why      sends nothing
"""
HOW_GAPS = """The draft has gaps and can't be sent as it stands. How to answer this mail:
  your own words   are sent instead of the draft
  no, and why      sends nothing
"""

_HEADLINE = {
    "suppress": "does not want any more mail; the address is suppressed",
    "escalate": "complains and speaks of the law; the address is suppressed",
    "refer": "names somebody else",
    "stop": "was taken out of the sequence",
    "ask_rep": "wrote something that a person has to judge",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a notice tells: who wrote what, what was decided, and why."""

    person: str
    address: str
    written_by: str
    subject: str
    words: str
    intents: Mapping[str, float]
    decision: str
    why: Sequence[str]


def for_approval(
    told: Told, draft: str, sources: Sequence[str], gaps: Sequence[str]
) -> tuple[str, str]:
    """Subject and text of the mail that asks for approval."""
    text = [
        HOW_GAPS if gaps else HOW,
        f"The draft for {told.person}:",
        _framed(draft),
        *([f"Not in the library: {gap}" for gap in gaps] + [""] if gaps else []),
        *_original(told),
        *_reasons(told),
    ]
    if sources:
        text += ["", "Where its sentences come from:", *(f"  {source}" for source in sources)]
    return f"Draft for {told.person}: {told.subject}"[:200], "\n".join(text) + "\n"


def for_information(told: Told) -> tuple[str, str]:
    """Subject and text of the mail that only tells what happened."""
    headline = f"{told.person} {_HEADLINE.get(told.decision, 'wrote')}"
    text = [f"{headline}.", "", *_original(told), *_reasons(told)]
    return headline[:200], "\n".join(text) + "\n"


def for_refusal(subject: str, reason: str) -> tuple[str, str]:
    """Subject and text of the mail that says why an answer about a draft did not count."""
    text = (
        f"Your answer about this draft did not count, and nothing was sent because of it.\n\n"
        f"{reason}\n\n{HOW}"
    )
    return f"Did not count: {subject}"[:200], text


def _original(told: Told) -> list[str]:
    words = told.words.strip()
    quoted = [f"> {line}" for line in words[:MAX_QUOTED].splitlines()]
    if len(words) > MAX_QUOTED:
        quoted.append("> […]")
    lines = [f"{told.person} <{told.address}> wrote ({told.subject}):", *quoted, ""]
    if told.written_by.lower() != told.address.lower():
        lines += [f"It came from {told.written_by}; an answer goes to {told.address}.", ""]
    return lines


def _reasons(told: Told) -> list[str]:
    surest = sorted(told.intents.items(), key=lambda one: -one[1])[:3]
    meaning = ", ".join(f"{label.replace('_', ' ')} ({value:.2f})" for label, value in surest)
    return [f"What it means: {meaning or 'unknown'}", "Why:", *(f"  {line}" for line in told.why)]


def _framed(draft: str) -> str:
    return "\n".join(["", *(f"    {line}".rstrip() for line in draft.strip().splitlines()), ""])

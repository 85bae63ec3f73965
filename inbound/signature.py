"""Where the author's words end and the signature, the telephone's footer or the small print begin.

A closing ("Best regards, Ann") is reported as signature and also stays in the reply, because
people say it; a delimiter, contact details and disclaimers do not stay. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from inbound.boundary import rule
from inbound.languages import fold, tables

LONGEST = 18
"""Lines a signature may have; something longer is text."""

_DELIMITER = re.compile(r"^\s{0,2}(?:--|—|––|-- ?-|_{2,60}|-{3,60}|={5,60}|\*{5,60})\s*$")
_DETAIL = re.compile(
    r"(?:https?://|www\.)\S|[\w.+-]{1,64}@[\w-]{1,63}\.\w|"
    r"(?:^|[\s:|,.])(?:\+|00|\(?0)\d[\d\s()./\-]{6,20}|\(\d{3}\)\s?\d{3}|\b\d{3}[-.]\d{3}[-.]\d{4}\b",
    re.I,
)
_LABELLED = re.compile(
    r"^(?:t|m|f|p|o|tel|tél|telefon|telefono|teléfono|phone|mobile|mobil|cell|fax|office|direct|"
    r"email|e-mail|mail|web|www|skype|address|adresse|mob|móvil|handy|gsm|тел|моб)\s?[.:|]",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Signed:
    """Text split from its signature."""

    text: str
    signature: str
    certainty: float
    disclaimer: str = ""


def split_signature(text: str, sender_name: str = "") -> Signed:
    """The author's words and the signature under them."""
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    lines, disclaimer = _without_disclaimer(lines)
    lines, footer = _without_footer(lines)
    found = (
        _delimited(lines, sender_name) or _closed(lines, sender_name) or _named(lines, sender_name)
    )
    if found is None:
        signature = "\n".join(footer).strip()
        return Signed(_joined(lines), signature, 0.9 if signature else 0.0, disclaimer)
    start, keep, certainty = found
    signature = "\n".join([*lines[start:], *footer]).strip()
    return Signed(_joined(lines[:keep]), signature, certainty, disclaimer)


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines).strip("\n").rstrip()


def mobile_footer(line: str) -> bool:
    """Whether a telephone or an app wrote the line: "Sent from my …"."""
    folded = fold(line[:160]).strip(" \t*_-–—<>[]()|.\"'")
    if not 4 < len(folded) < 120:
        return False
    for phrase in tables().sent_from:
        if folded.startswith(phrase):
            return len(folded) < len(phrase) + 60 and not folded.endswith("?")
        if len(phrase) > 9 and folded.endswith(phrase):
            return True
    return False


def _without_footer(lines: list[str]) -> tuple[list[str], list[str]]:
    for back in range(1, min(len(lines), 8) + 1):
        if mobile_footer(lines[-back]):
            start = len(lines) - back
            rest = [line for line in lines[start + 1 :] if line.strip()]
            if len(rest) > 4 or any(len(line) > 120 for line in rest):
                break
            while start and (not lines[start - 1].strip() or rule(lines[start - 1])):
                start -= 1
            if start and mobile_footer(lines[start - 1]):
                start -= 1
            cut = lines[start:]
            if start and lines[start - 1].strip() in ("--", "—"):
                start -= 1
            kept = lines[:start]
            while kept and not kept[-1].strip():
                kept.pop()
            return kept, cut
    return lines, []


def _without_disclaimer(lines: list[str]) -> tuple[list[str], str]:
    """The lines above the small print; it starts a paragraph and nothing personal follows it."""
    starts = tables().disclaimer
    low = max(0, len(lines) - 60)
    for index in range(low, len(lines)):
        folded = fold(lines[index][:400]).strip(" *_-")
        if len(folded) < 12:
            continue
        begins = any(folded.startswith(phrase) for phrase in starts)
        inside = len(folded) > 90 and any(phrase in folded for phrase in starts)
        if not (begins or inside):
            continue
        first_of_paragraph = index == 0 or not lines[index - 1].strip() or rule(lines[index - 1])
        if not first_of_paragraph or index == 0:
            continue
        start = index
        while start and (not lines[start - 1].strip() or rule(lines[start - 1])):
            start -= 1
        if start:
            return lines[:start], "\n".join(lines[start:]).strip()
    return lines, ""


def _delimited(lines: Sequence[str], sender_name: str) -> tuple[int, int, float] | None:
    """A line of dashes with a short block under it (the `-- ` of RFC 3676 §4.3, and its kin)."""
    for index in range(len(lines) - 1, max(-1, len(lines) - LONGEST - 3), -1):
        if not _DELIMITER.match(lines[index][:80]):
            continue
        below = [line for line in lines[index + 1 :] if line.strip()]
        usual = lines[index].strip() in ("--", "—")
        if not below:
            if usual:
                return index, index, 0.9
            continue
        if len(below) <= LONGEST and (usual or all(len(line) < 120 for line in below)):
            told = any(_detail(line) for line in below) or _names(below[0], sender_name)
            if not usual and not told:
                continue  # A drawn line between two paragraphs; what follows is text.
            return index, index, 0.95 if usual else 0.75
    return None


def _detail(line: str) -> bool:
    return bool(_DETAIL.search(line[:300]) or _LABELLED.match(line[:100].strip(" *")))


def _closing(line: str) -> bool:
    folded = fold(line[:80]).strip(" \t*_-–—.,!:;")
    words = tables().closing
    return 0 < len(folded) < 60 and (
        folded in words or (folded.partition(",")[0].strip() in words and len(folded) < 45)
    )


def _closed(lines: Sequence[str], sender_name: str) -> tuple[int, int, float] | None:
    """A polite closing with a name below, then perhaps contact details."""
    for index in range(max(0, len(lines) - LONGEST), len(lines)):
        if not _closing(lines[index]):
            continue
        below = [line for line in lines[index + 1 :] if line.strip()]
        if len(below) > LONGEST or any(len(line) > 160 for line in below):
            continue
        if (
            below
            and (len(below[0].split()) > 7 or below[0].rstrip().endswith((".", "?", ";")))
            and not _names(below[0], sender_name)
        ):
            continue
        if len(below) > 4 and not any(_detail(line) for line in below):
            continue
        keep = len(lines)
        details = any(_detail(line) for line in below[1:])
        if details:
            keep = _after_name(lines, index, sender_name)
        return index, keep, 0.85 if details else 0.7
    return None


def _after_name(lines: Sequence[str], closing: int, sender_name: str) -> int:
    """The end of closing plus name; the contact details start there."""
    index = closing + 1
    while index < len(lines) and not lines[index].strip():
        index += 1
    if index < len(lines) and not _detail(lines[index]):
        name = lines[index].strip()
        if _names(name, sender_name) or len(name.split()) <= 3:
            return index + 1
    return closing + 1


def _names(line: str, sender_name: str) -> bool:
    wanted = {word for word in fold(sender_name).replace(",", " ").split() if len(word) > 1}
    here = set(fold(line[:120]).replace(",", " ").replace(".", " ").split())
    return bool(wanted & here)


def _named(lines: Sequence[str], sender_name: str) -> tuple[int, int, float] | None:
    """The sender's own name alone on a line in a last paragraph with contact details, or a dash."""
    details = 0
    for index in range(len(lines) - 1, max(-1, len(lines) - LONGEST), -1):
        text = lines[index].strip()
        if len(text) > 120:
            break
        if _detail(text):
            details += 1
        short = 0 < len(text.split()) <= 4 and not text.endswith(("?", ":", "!"))
        if short and sender_name and _names(text, sender_name) and not _detail(text):
            if index == 0:
                break
            if details:
                above = lines[index - 1].strip()
                if index > 1 and 0 < len(above.split()) <= 4 and _names(above, sender_name):
                    index -= 1  # The firm bears the family's name; the person stands above.
                return index, index, 0.8
            if index == len(lines) - 1 and not lines[index - 1].strip():
                return index, len(lines), 0.6
        match = re.match(
            r"^[-–—]\s?([A-ZÀ-ÞА-Я][\w.'’-]{1,30}(?: [A-ZÀ-ÞА-Я][\w.'’-]{1,30}){0,2})$", text
        )
        if match and index == len(lines) - 1 and index > 0:
            return index, index, 0.7
    return None

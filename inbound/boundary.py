"""Where an older message begins inside a newer one: attribution lines, separators, header blocks.

Mail programs write these in the language of their owner; the words come from `languages.toml`. A
line is looked at a fixed number of times with rules that never go back, so time is linear in the
text whatever the text is (others' one-regex-per-language splitters hang). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from inbound.headers import Mailbox, addresses
from inbound.languages import fold, tables
from inbound.lines import MAX_LINE, Line

ATTRIBUTION_LINES = 5
ATTRIBUTION_CHARACTERS = 500
HEADER_LINES = 60

_EMAIL = re.compile(r"[^\s<>()\[\]\",;:]{1,64}@[^\s<>()\[\]\",;:]{1,200}")
_TIME = re.compile(r"\b\d{1,2}[:.h]\d{2}\b")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b|(?:19|20)\d\d\s?[年년.]")
_DAY = re.compile(r"\b\d{1,2}[./-]\d{1,2}[./-](?:\d{2}|\d{4})\b|\b\d{4}-\d\d-\d\d\b")
_DASHES = re.compile(r"^[\s>*_=#|~-]*[-_=*~#]{2,}\s*(.{2,100}?)\s*[-_=*~#]{2,}[\s:]*$")
_RULE = re.compile(r"^\s*[_\-=*~─━—]{5,}\s*$")


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """Headers copied above an older message; `start` to `end` are the lines they take."""

    start: int
    end: int
    fields: dict[str, str]
    """Field (`from`, `to`, `cc`, `subject`, `date`) to its text as it stands there."""

    @property
    def sender(self) -> Mailbox | None:
        return next(iter(people(self.fields.get("from", ""))), None)


@dataclass(frozen=True, slots=True)
class Attribution:
    """A line (or several) such as "On Monday Ann wrote:"."""

    start: int
    end: int
    text: str
    strong: bool
    """It says so by itself; a weak one counts only above quoted lines."""


def people(text: str) -> tuple[Mailbox, ...]:
    """The mailboxes of a copied header; a bare name gives a mailbox without an address."""
    text = text.replace("[mailto:", "<").replace("]", ">" if "[mailto:" in text else "]")
    text = text.replace("<mailto:", "<").replace("mailto:", "").strip("* \t")
    if ";" in text:  # Outlook separates by semicolon and writes "Doe, Ann".
        pieces = [piece for piece in text.split(";")[:500] if piece.strip()]
        if len(pieces) > 1:
            return tuple(box for piece in pieces for box in people(piece))
    separated = text.replace(";", ",")
    found = addresses(separated)
    found = tuple(
        Mailbox(box.name.strip("*' \""), box.address.strip("*").removeprefix("mailto:"))
        for box in found
    )
    if found:
        if "@" not in separated.split(",", 1)[0] and "," in text and text.count("@") == 1:
            # `Doe, Ann <ann@x.test>`: the comma stands inside the name.
            match = _EMAIL.search(text)
            if match is not None:
                name = text[: match.start()].strip(" <\"'([")
                if ";" not in name and len(name) < 100:
                    return (Mailbox(name, found[-1].address),)
        return found
    names = [piece.strip(" \"'*") for piece in text.split(";")]
    return tuple(Mailbox(name, "") for name in names if name and len(name) < 200)


def rule(text: str) -> bool:
    """Whether the line is nothing but a drawn line."""
    return bool(_RULE.match(text[:MAX_LINE]))


def separator(line: Line) -> str:
    """`original` or `forwarded` if the line says that an older message follows, else empty."""
    text = line.text[:200].strip()
    if not 4 <= len(text) <= 160:
        return ""
    words = tables()
    match = _DASHES.match(text)
    inner = match[1] if match is not None else ""
    bare = fold(inner or text).strip(" -_=*~#:>：\t,.|+")
    if not bare:
        return ""
    if bare in words.forwarded:
        return "forwarded"
    if inner:
        if bare in words.original:
            return "original"
        for phrase in words.forwarded:
            if phrase in bare and len(phrase) > 6:
                return "forwarded"
        for phrase in words.original:
            if bare.startswith(phrase):
                return "original"
        return ""
    if bare in words.original and (text.startswith("-") or len(bare) > 9):
        return "original"
    if fold(text).startswith("----- forwarded by ") or bare.startswith("forwarded message from"):
        return "forwarded"
    return ""


@lru_cache(maxsize=4096)
def label(text: str) -> tuple[tuple[str, ...], str]:
    """The fields a line's label may name and the value behind it; no fields if it has no label."""
    text = text[:MAX_LINE].strip().lstrip("*>_ \t|•").replace("：", ":", 1)
    head, colon, _ = text[:60].partition(":")
    if not colon:
        return (), ""
    name = fold(head).strip(" \t*_\u00a0").rstrip()
    fields = tables().labels.get(name, ())
    if not fields:
        return (), ""
    return fields, text[len(head) + 1 :].strip().strip("*").strip()


def header_block(lines: Sequence[Line], start: int, *, least: int = 3) -> HeaderBlock | None:
    """The block of copied headers that begins at `start`, if at least `least` fields stand there.

    A sender must be among them. Values may be folded, and HTML puts empty lines in between.
    """
    if not label(lines[start].text)[0]:
        return None
    fields: dict[str, str] = {}
    extra = 0
    current = ""
    end = index = start
    last = min(len(lines), start + HEADER_LINES)
    while index < last:
        text = lines[index].text
        if not text.strip():
            following = index + 1
            if following < last and not lines[following].text.strip():
                following += 1
            known = following < last and label(lines[following].text)[0]
            fresh = known and any(one not in fields for one in known)
            if not fresh or ("from" not in fields and len(fields) > 2):
                break
            index = following
            continue
        possible, value = label(text)
        field = next((one for one in possible if one not in fields), "")
        if field == "reply_to" or (possible and not field):
            if field:
                extra += 1
            elif "subject" in fields and "from" in fields and "date" in fields:
                break  # A second block, or the text itself begins with such a word.
            current = ""
            end = index + 1
        elif field:
            fields[field] = value
            current = field
            end = index + 1
        elif current and _continues(fields[current], text, current):
            fields[current] = f"{fields[current]} {text.strip()}".strip()[:8192]
            end = index + 1
        else:
            break
        index += 1
    if "from" not in fields or len(fields) < least:
        return None
    if least <= 2 and not fields["from"]:
        return None
    return HeaderBlock(start, end, fields)


def _continues(value: str, text: str, field: str) -> bool:
    """Whether `text` goes on with a header value that was folded."""
    if not value:
        return len(text) < 300
    if field in ("to", "cc"):
        return (
            value.endswith((",", ";"))
            or text[:1] in " \t"
            or (value.count("<") > value.count(">"))
            or text.strip().startswith("<")
        )
    if field == "from":
        stripped = text.strip()
        return (stripped.startswith(("<", "[mailto:")) and "@" in stripped) or (
            value.count("<") > value.count(">")
        )
    return text[:1] in " \t" and field == "subject" and len(value) > 40


def dated(text: str) -> bool:
    """Whether a date or a time of day stands in the text."""
    return bool(_YEAR.search(text) or _DAY.search(text) or _TIME.search(text))


def attribution(lines: Sequence[Line], start: int) -> Attribution | None:
    """The attribution that begins at `start`, over at most five lines, if there is one."""
    first = lines[start].text[:ATTRIBUTION_CHARACTERS].strip()
    if lines[start].mark == "attribution":
        end = start
        while end < len(lines) and lines[end].mark == "attribution" and end < start + 8:
            end += 1
        return Attribution(start, end, _joined(lines, start, end), strong=True)
    if len(first) < 4:
        return None
    depth = lines[start].depth
    joined = ""
    plausible = _opens(first)
    for count in range(ATTRIBUTION_LINES):
        index = start + count
        if index >= len(lines) or lines[index].depth != depth:
            return None
        text = lines[index].text.strip()
        if not text or len(joined) + len(text) > ATTRIBUTION_CHARACTERS:
            return None
        joined = f"{joined} {text}".strip()
        judged = _judge(joined)
        if judged and (count == 0 or plausible):
            return Attribution(start, index + 1, joined, strong=judged == "strong")
        if not plausible:
            return None
    return None


def _joined(lines: Sequence[Line], start: int, end: int) -> str:
    return " ".join(line.text.strip() for line in lines[start:end] if not line.blank)


def _opens(text: str) -> bool:
    """Whether a line may be the first of an attribution that goes on below."""
    folded = fold(text)
    words = tables()
    first, _, rest = folded.partition(" ")
    second = rest.partition(" ")[0]
    known = first in words.openers or f"{first} {second}" in words.openers
    digits = any(character.isdigit() for character in text)
    return (known and (digits or "@" in text)) or dated(text) or text.startswith('"')


def _judge(text: str) -> str:
    """`strong`, `weak` or empty: how much the joined lines look like an attribution."""
    folded = fold(text).strip()
    closed = folded.rstrip("-_ >*").endswith((":", "："))
    folded = folded.rstrip(":： \t*>-_.")
    if not folded:
        return ""
    verb_at, verb = _verb(folded)
    has_email = bool(_EMAIL.search(folded))
    has_date = dated(folded)
    if verb_at >= 0:
        after = folded[verb_at + len(verb) :].strip(" :,(")
        near_end = not after or (len(after) < 80 and (dated(after) or "@" in after or closed))
        if near_end and (has_date or has_email) and (closed or not after):
            return "strong" if closed or len(text) < 250 else "weak"
        if near_end and closed and len(text) < 120:
            return "weak"
        return ""
    if not closed:
        return ""
    if has_email and has_date:
        return "strong" if "<" in folded or "@" in folded.split()[-1] else "weak"
    return "weak" if (has_email or has_date) and len(text) < 250 else ""


def _verb(folded: str) -> tuple[int, str]:
    """The last place where somebody is said to have written, and the words that say it."""
    best = -1
    found = ""
    for verb in tables().wrote:
        at = folded.rfind(verb)
        if at < 0 or at < best:
            continue
        end = at + len(verb)
        alphabetic = verb[-1].isalpha() and ord(verb[-1]) < 0x600
        if alphabetic and (
            (at > 0 and folded[at - 1].isalpha()) or (end < len(folded) and folded[end].isalpha())
        ):
            continue
        if at > best or len(verb) > len(found):
            best, found = at, verb
    return best, found

"""Header fields as people meant them: encoded words, parameters, addresses, dates, identifiers.

RFC 5322, RFC 2047 and RFC 2231, with the slips of real senders repaired: encoded words glued
together or cut inside a character, raw UTF-8, spaces inside an encoded word, quoted encoded words.
Pure; every function answers for any text and none raises.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from inbound import charset

MAX_ADDRESSES = 1000
"""Mailboxes read from one header; a list longer than this is no person's mail."""

_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]{0,20000}(?:\?(?!=)[^?]{0,2000}){0,3})\?=")
_ADDRESS = re.compile(r"[^\s<>()\[\]\",;:@|]{1,128}@[^\s<>()\[\]\",;:@|]{1,255}")
_MESSAGE_ID = re.compile(r"<([^<>\s]{1,990})>")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Somebody in an address header; the address is as written but for surrounding signs."""

    name: str
    address: str


def decode_words(value: str) -> str:
    """`value` with its RFC 2047 encoded words decoded."""
    if "=?" not in value:
        return _readable(value)
    out: list[str] = []
    pending: list[tuple[str, bytes]] = []
    end = 0

    def flush() -> None:
        # Words of one charset are joined before decoding: senders cut them inside a character.
        for name, raw in pending:
            out.append(charset.decode(raw, name)[0])
        pending.clear()

    for match in _WORD.finditer(value):
        between = value[end : match.start()]
        if between.strip() or not pending:
            flush()
            out.append(_readable(between))
        name = match[1].split("*", 1)[0].lower()
        raw = _word_bytes(match[2], match[3])
        if pending and pending[-1][0] == name:
            pending[-1] = (name, pending[-1][1] + raw)
        else:
            pending.append((name, raw))
        end = match.end()
    flush()
    out.append(_readable(value[end:]))
    return "".join(out)


def _word_bytes(encoding: str, text: str) -> bytes:
    if encoding in "bB":
        return base64_bytes(text.encode("ascii", "ignore"))
    return binascii.a2b_qp(text.replace("_", " ").encode("utf-8", "surrogateescape"), header=False)


def base64_bytes(text: bytes) -> bytes:
    """Base64 with whatever does not belong left out and the padding put right."""
    cleaned = re.sub(rb"[^A-Za-z0-9+/]", b"", text)
    if len(cleaned) % 4 == 1:
        cleaned = cleaned[:-1]
    try:
        return base64.b64decode(cleaned + b"=" * (-len(cleaned) % 4))
    except (binascii.Error, ValueError):
        return b""


def _readable(value: str) -> str:
    """Raw 8-bit bytes of a header, carried as surrogates, as the text they spell."""
    if value.isascii():
        return value
    try:
        return charset.decode(value.encode("utf-8", "surrogateescape"))[0]
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode("utf-8")


def tidy(value: str) -> str:
    """One line: folding undone, control characters and doubled white space gone."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def addresses(value: str) -> tuple[Mailbox, ...]:
    """The mailboxes of a raw address header, in order; groups are opened, comments are names."""
    found: list[Mailbox] = []
    for piece in _split_list(value[:65536]):
        mailbox = _mailbox(piece)
        if mailbox is not None:
            found.append(mailbox)
        if len(found) >= MAX_ADDRESSES:
            break
    return tuple(found)


def _split_list(value: str) -> list[str]:
    pieces: list[str] = []
    current: list[str] = []
    quoted = angle = False
    depth = 0
    escaped = False
    for character in value:
        if escaped:
            escaped = False
        elif character == "\\" and (quoted or depth):
            escaped = True
        elif character == '"' and not depth:
            quoted = not quoted
        elif quoted:
            pass
        elif character == "(":
            depth += 1
        elif character == ")" and depth:
            depth -= 1
        elif depth:
            pass
        elif character == "<":
            angle = True
        elif character == ">":
            angle = False
        elif character in ",;" and not angle:
            pieces.append("".join(current))
            current = []
            continue
        current.append(character)
    pieces.append("".join(current))
    if quoted and len(pieces) == 1 and value.count("@") > 1:
        return value.replace('"', "").split(",")  # An unclosed quote swallowed the list.
    return [piece for piece in pieces if piece.strip()]


def _mailbox(piece: str) -> Mailbox | None:
    piece = tidy(decode_words(piece)).replace("mailto:", "")
    start, close = piece.rfind("<"), piece.rfind(">")
    if start >= 0:
        inner = piece[start + 1 : close if close > start else len(piece)]
        address = inner.strip().strip("\"'")
        name = piece[:start]
        nested = re.search(r"<([^<>]*@[^<>]*)", name)
        if nested:  # `Ann <ann@x.test<mailto:ann@x.test>>`, as Outlook copies it.
            address, name = nested[1].strip(), name[: nested.start()]
        if "@" not in address and "@" in name:
            match = _ADDRESS.search(name)
            address = match[0] if match else address
    else:
        match = _ADDRESS.search(piece)
        if match is None:
            return None
        address = match[0]
        name = (piece[: match.start()] + " " + piece[match.end() :]).strip(" :()[]'\"")
        if ":" in name:
            name = name.rpartition(":")[2]  # A group's name is nobody's.
    address = address.split(":")[-1] if address.startswith("@") else address
    if not address:
        return None
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    name = name.replace('\\"', '"').replace("\\\\", "\\").strip(" \"'[(")
    return Mailbox(name, address.strip(".,;'\"[]"))


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """A header such as Content-Type: its main value in lower case and its parameters.

    RFC 2231 continuations and charsets are joined, RFC 2047 words (not allowed there, common all
    the same) are decoded.
    """
    pieces = _split_parameters(value[:65536])
    main = pieces[0].strip().lower() if pieces else ""
    plain: dict[str, str] = {}
    parts: dict[str, dict[int, tuple[bool, str]]] = {}
    for piece in pieces[1:200]:
        key, equals, content = piece.partition("=")
        key, content = key.strip().lower(), content.strip()
        if not equals or not key:
            continue
        if len(content) > 1 and content[0] == '"':
            content = content[1 : content.rfind('"') if content.rfind('"') > 0 else None]
            content = content.replace('\\"', '"').replace("\\\\", "\\")
        name, star, rest = key.partition("*")
        if not star:
            plain.setdefault(name, tidy(decode_words(content)))
            continue
        number = rest.rstrip("*")
        index = int(number) if number.isdecimal() and len(number) < 4 else 0
        parts.setdefault(name, {})[index] = (rest.endswith("*") or not rest, content)
    for name, sections in parts.items():
        plain[name] = _joined(sections)
    return main, plain


def _joined(sections: dict[int, tuple[bool, str]]) -> str:
    declared = ""
    raw = b""
    for order, index in enumerate(sorted(sections)):
        encoded, content = sections[index]
        if encoded and order == 0 and content.count("'") >= 2:
            declared, _, content = content.split("'", 2)
        data = content.encode("utf-8", "surrogateescape")
        raw += unquote_to_bytes(data) if encoded else data
    return tidy(charset.decode(raw, declared)[0])


def _split_parameters(value: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    quoted = False
    for index, character in enumerate(value):
        if character == '"' and (index == 0 or value[index - 1] != "\\"):
            quoted = not quoted
        elif character == ";" and not quoted:
            pieces.append(value[start:index])
            start = index + 1
    pieces.append(value[start:])
    return pieces


def message_ids(value: str) -> tuple[str, ...]:
    """The identifiers in Message-ID, In-Reply-To or References, without angle brackets."""
    found = _MESSAGE_ID.findall(value[:65536])
    if not found:
        found = [word.strip("<>,;") for word in value[:2000].split() if "@" in word]
    return tuple(dict.fromkeys(found))


def date(value: str) -> datetime | None:
    """The moment a Date header names, in UTC, or None if it names none."""
    value = tidy(value)[:200]
    if not value:
        return None
    for candidate in (value, value.split("(", 1)[0], re.sub(r"^[^\d]*", "", value)):
        try:
            when = parsedate_to_datetime(candidate)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    try:
        when = datetime.fromisoformat(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None

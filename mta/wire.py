"""What SMTP clients write, read: commands, paths, parameters, and the message after DATA.

CRLF is the one line end there is. A bare CR or LF is refused with a 5xx that says so, because other
servers take it for the end of a line and read a second message out of one (SMTP smuggling).

Pure, and linear in the length of what it reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE = 64 << 10
"""RFC 5322 §2.1.1 allows 998; what comes is longer now and then, and harmless to us."""

MAX_HEADER = 512 << 10
MAX_HOPS = 100
"""Received fields, after which it is a loop (RFC 5321 §6.3)."""

MAX_BOUNDARIES = 50
MAX_DELIMITERS = 4000
"""Of a message that we have to take apart: depth and parts, counted without parsing."""

_PATH = re.compile(r"(FROM|TO):[ ]{0,3}<([^<>]{0,512})>(?: +(.{0,1000}))?\Z", re.IGNORECASE)
_SOURCE_ROUTE = re.compile(r"@[^:]{1,400}:")
_PARAMETER = re.compile(r"([A-Za-z0-9-]{1,40})(?:=([!-<>-~]{1,400}))?\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2}){1,300}\Z")
_ORIGINAL = re.compile(r"([A-Za-z0-9-]{1,30});(.{1,300})\Z")

_NESTING = re.compile(rb"multipart|message", re.IGNORECASE)
"""Without one of these in its header a message is one part."""

NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


@dataclass(frozen=True, slots=True)
class Path:
    """The address of MAIL or RCPT and its parameters by upper-case name."""

    address: str
    parameters: dict[str, str]


def path_of(keyword: str, arg: str) -> Path | None:
    """Address and parameters of MAIL or RCPT; None if it is not well formed."""
    found = _PATH.match(arg)
    if found is None or found[1].upper() != keyword:
        return None
    address = found[2]
    if address[:1] == "@":
        address = _SOURCE_ROUTE.sub("", address, count=1)
    parameters: dict[str, str] = {}
    for word in (found[3] or "").split():
        parameter = _PARAMETER.match(word)
        if parameter is None or parameter[1].upper() in parameters:
            return None
        parameters[parameter[1].upper()] = parameter[2] or ""
    return Path(address, parameters)


def xtext(text: str) -> str | None:
    """What an xtext stands for (RFC 3461 §4); None if it is none, or hides control characters."""
    if not _XTEXT.match(text):
        return None
    plain = re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)
    return plain if plain.isprintable() else None


def notify_of(value: str) -> tuple[str, ...] | None:
    """NOTIFY's words (RFC 3461 §4.1); None if they are none."""
    words = tuple(value.upper().split(","))
    if words == ("NEVER",):
        return words
    return words if words and set(words) <= NOTIFY and len(set(words)) == len(words) else None


def original_of(value: str) -> str | None:
    """ORCPT as `type;address` with its xtext read (RFC 3461 §4.2); None if it is not one."""
    found = _ORIGINAL.match(value)
    address = xtext(found[2]) if found else None
    return None if found is None or address is None else f"{found[1].lower()};{address}"


def judge_content(content: bytes, *, taken_apart: bool = False) -> str:
    """Empty if the message is well formed as far as SMTP goes, otherwise the refusal.

    `taken_apart` if we have to read its MIME structure to send it on.
    """
    bare = content.replace(b"\r\n", b"")
    if b"\n" in bare:
        return "550 5.6.0 The message has a bare LF; lines end with CRLF (RFC 5321 2.3.8)"
    if b"\r" in bare:
        return "550 5.6.0 The message has a bare CR; lines end with CRLF (RFC 5321 2.3.8)"
    if b"\0" in bare:
        return "550 5.6.0 The message has a NUL character (RFC 5321 4.5.2)"
    if len(content) > MAX_LINE and max(map(len, content.split(b"\r\n"))) > MAX_LINE:
        return f"550 5.6.0 The message has a line of more than {MAX_LINE} bytes"
    end = content.find(b"\r\n\r\n")
    head = content[:end] if end >= 0 else content
    if len(head) > MAX_HEADER:
        return f"550 5.6.0 The header has more than {MAX_HEADER} bytes"
    if head[:9].lower() == b"received:" or b"\r\nReceived:" in head:
        hops = sum(line[:9].lower() == b"received:" for line in head.split(b"\r\n"))
        if hops > MAX_HOPS:
            return "554 5.4.6 The message has been through too many servers: a loop"
    if taken_apart and b"/" in head and _NESTING.search(head):
        if content.lower().count(b"boundary") > MAX_BOUNDARIES:
            return f"554 5.6.0 The message has parts within parts, more than {MAX_BOUNDARIES} deep"
        if content.count(b"\r\n--") > MAX_DELIMITERS:
            return "554 5.6.0 The message has too many parts"
    return ""


def unstuffed(content: bytes) -> bytes:
    """What DATA carried, without the dots that were put in front (RFC 5321 §4.5.2)."""
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(b"\r\n..", b"\r\n.") if b"\r\n.." in content else content


def shown(text: str) -> str:
    """Text of the client's, safe to say back."""
    return "".join(c for c in text if c.isprintable())[:400]

"""What the header of a submitted message says about sending it.

Read by hand from the bytes: `email.utils` takes longer for three addresses than a whole session
does for the rest. What is unusual goes to the library.

Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import getaddresses

from mail.address import parse_address
from mail.errors import PermanentError

MAX_FIELDS = 2000
MAX_LISTED = 20
"""Fields To and Cc that names are taken from."""

_SIMPLE = re.compile(r'\s*(?:([A-Za-z0-9][A-Za-z0-9 .\'-]{0,80}?)\s*<([^<>()",;:\s]{3,254})>)\s*\Z')
_BARE = re.compile(r'\s*<?([^<>()",;:\s]{3,254})>?\s*\Z')
_SEEN = frozenset(
    (
        b"from",
        b"to",
        b"cc",
        b"subject",
        b"in-reply-to",
        b"references",
        b"x-waypost-kind",
        b"x-waypost-merge",
        b"x-waypost-campaign",
        b"auto-submitted",
    )
)


@dataclass(frozen=True, slots=True)
class Head:
    """Who sends it as whom, and how. `names` are those of its recipients by canonical address."""

    sender: str
    sender_name: str
    subject: str
    in_reply_to: str
    references: str
    bulk: bool
    merge: bool
    campaign: str
    automatic: bool
    names: dict[str, str] = field(default_factory=dict)


def read_head(raw: bytes) -> Head:
    """Reads the header of a message. Raises `PermanentError` if it can't be sent."""
    fields = _fields(raw)
    senders = [pair for value in fields.get(b"from", []) for pair in _mailboxes(value)]
    if len(senders) != 1 or parse_address(senders[0][1]) is None:
        raise PermanentError("the message needs one From header with one address")
    names: dict[str, str] = {}
    for value in [*fields.get(b"to", []), *fields.get(b"cc", [])][:MAX_LISTED]:
        for name, address in _mailboxes(value):
            if name and (parsed := parse_address(address)) is not None:
                names.setdefault(parsed.canonical, _decoded(name))

    def first(name: bytes) -> str:
        values = fields.get(name)
        return values[0].strip() if values else ""

    return Head(
        sender=senders[0][1],
        sender_name=_decoded(senders[0][0]),
        subject=_decoded(first(b"subject")),
        in_reply_to=first(b"in-reply-to"),
        references=first(b"references"),
        bulk=first(b"x-waypost-kind").lower() == "bulk",
        merge=first(b"x-waypost-merge").lower() == "yes",
        campaign=_decoded(first(b"x-waypost-campaign"))[:200],
        automatic=first(b"auto-submitted").lower() not in {"", "no"},
        names=names,
    )


def _fields(raw: bytes) -> dict[bytes, list[str]]:
    """The fields that matter here, unfolded; bytes that are not UTF-8 become U+FFFD."""
    head = raw.partition(b"\r\n\r\n")[0]
    if b"\r\n " in head or b"\r\n\t" in head:
        head = head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    found: dict[bytes, list[str]] = {}
    for line in head.split(b"\r\n", MAX_FIELDS)[:MAX_FIELDS]:
        name, colon, value = line.partition(b":")
        low = name.strip().lower()
        if colon and low in _SEEN:
            found.setdefault(low, []).append(value.decode("utf-8", "replace"))
    return found


def _mailboxes(value: str) -> list[tuple[str, str]]:
    """Names and addresses of a field."""
    if simple := _SIMPLE.match(value):
        return [(simple[1], simple[2])]
    if bare := _BARE.match(value):
        return [("", bare[1])]
    return getaddresses([value[:100_000]])


def _decoded(text: str) -> str:
    """RFC 2047 words as text; what can't be decoded stays as it was written."""
    text = text.strip()
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text[:4000])))
    except (HeaderParseError, LookupError, ValueError, UnicodeError):
        return text

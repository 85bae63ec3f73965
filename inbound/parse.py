"""A raw message as its parts: who, when, about what, the words, what is attached or reported.

Any bytes give a `ParsedMessage`; what could not be understood is said in `defects` and the rest is
there. The tree is split here rather than by `email.parser`, because the limits must hold *while*
splitting: that parser recurses once per level and builds an object for each of 20,000 parts before
anybody can look (docs/decisions/0002-message-parsing.md). RFC 5322, 2045, 2046, 3462.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from inbound import charset, headers
from inbound.headers import Mailbox

MAX_DEPTH = 50
MAX_PARTS = 1000
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 2000
MAX_MESSAGE_BYTES = 50 * 1024 * 1024
MAX_TEXT = 256 * 1024
"""Characters of a text that the rules look at."""

_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
_UNPLACED = re.compile(
    rb"^--([^\s-][^\r\n]{0,100}|-{1,40}[^\s-][^\r\n]{0,100})\r?\nContent-", re.I | re.M
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is not the message's own text."""

    name: str
    content_type: str
    content: bytes
    content_id: str = ""

    @property
    def size_bytes(self) -> int:
        return len(self.content)


@dataclass(frozen=True, slots=True)
class ReportPart:
    """A machine-readable part: delivery status, feedback report, disposition, original headers."""

    content_type: str
    text: str
    groups: tuple[tuple[tuple[str, str], ...], ...]
    """Its header groups, decoded, separated by empty lines in the part."""


@dataclass(frozen=True)
class ParsedMessage:
    """One message. Getters answer for every message; what is missing is empty or None."""

    headers: tuple[tuple[str, str], ...]
    """Name in lower case and raw unfolded value (8-bit bytes as surrogates)."""
    content_type: str = "text/plain"
    text: str = ""
    html: str = ""
    attachments: tuple[Attachment, ...] = ()
    nested: tuple[ParsedMessage, ...] = ()
    reports: tuple[ReportPart, ...] = ()
    defects: tuple[str, ...] = ()
    size_bytes: int = 0
    report_type: str = ""
    content_types: tuple[str, ...] = field(default=(), repr=False)

    def raw_header(self, name: str) -> str:
        name = name.lower()
        return next((value for key, value in self.headers if key == name), "")

    def header(self, name: str) -> str:
        """The first header of that name as readable text on one line; empty if there is none."""
        return headers.tidy(headers.decode_words(self.raw_header(name)))

    def all(self, name: str) -> tuple[str, ...]:
        """Every header of that name as readable text."""
        name = name.lower()
        return tuple(
            headers.tidy(headers.decode_words(value)) for key, value in self.headers if key == name
        )

    def _addresses(self, name: str) -> tuple[Mailbox, ...]:
        values = [value for key, value in self.headers if key == name]
        return headers.addresses(", ".join(values)) if values else ()

    @cached_property
    def sender(self) -> Mailbox | None:
        """Who wrote it: the first of From, else Sender."""
        return next(iter(self.from_ or self._addresses("sender")), None)

    @cached_property
    def from_(self) -> tuple[Mailbox, ...]:
        return self._addresses("from")

    @cached_property
    def to(self) -> tuple[Mailbox, ...]:
        return self._addresses("to")

    @cached_property
    def cc(self) -> tuple[Mailbox, ...]:
        return self._addresses("cc")

    @cached_property
    def reply_to(self) -> tuple[Mailbox, ...]:
        return self._addresses("reply-to")

    @cached_property
    def subject(self) -> str:
        return self.header("subject")

    @cached_property
    def date(self) -> datetime | None:
        """When it was written, in UTC; falls back to the newest Received header."""
        when = headers.date(self.raw_header("date"))
        if when is None:
            when = headers.date(self.raw_header("received").rpartition(";")[2])
        return when

    @cached_property
    def message_id(self) -> str:
        return next(iter(headers.message_ids(self.raw_header("message-id"))), "")

    @cached_property
    def in_reply_to(self) -> tuple[str, ...]:
        return headers.message_ids(self.raw_header("in-reply-to"))

    @cached_property
    def references(self) -> tuple[str, ...]:
        return headers.message_ids(self.raw_header("references"))

    @cached_property
    def null_sender(self) -> bool:
        """Whether the envelope sender was `<>`, as bounces and many absence notes have it."""
        return self.raw_header("return-path").strip() == "<>"


def parse(raw: bytes) -> ParsedMessage:
    """The message `raw` spells. Never raises."""
    builder = _Builder()
    size = len(raw)
    if size > MAX_MESSAGE_BYTES:
        builder.defect(f"only the first {MAX_MESSAGE_BYTES} bytes of {size} were read")
        raw = raw[:MAX_MESSAGE_BYTES]
    if b"\n" not in raw and b"\r" in raw:
        raw = raw.replace(b"\r", b"\n")
        builder.defect("lines end with CR alone")
    return builder.message(raw, depth=0, size=size)


class _Leaves:
    """What the walk over one message collects; a nested message has leaves of its own."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.html: list[str] = []
        self.attachments: list[Attachment] = []
        self.nested: list[ParsedMessage] = []
        self.reports: list[ReportPart] = []
        self.types: list[str] = []


class _Builder:
    def __init__(self) -> None:
        self.parts = 0
        self.work = 0
        self.defects: dict[str, None] = {}

    def defect(self, text: str) -> None:
        if len(self.defects) < 50:
            self.defects.setdefault(text)

    def message(self, raw: bytes, depth: int, size: int) -> ParsedMessage:
        fields, body = split_headers(raw, self.defect)
        leaves = _Leaves()
        self._walk(fields, body, depth, leaves, alternative=False)
        declared = next((value for name, value in fields if name == "content-type"), "")
        kind, given = headers.parameters(declared)
        return ParsedMessage(
            headers=tuple(fields),
            content_type=kind or "text/plain",
            text="\n".join(leaves.text)[:MAX_TEXT],
            html="\n".join(leaves.html)[: 4 * MAX_TEXT],
            attachments=tuple(leaves.attachments),
            nested=tuple(leaves.nested),
            reports=tuple(leaves.reports),
            defects=tuple(self.defects) if depth == 0 else (),
            size_bytes=size,
            report_type=given.get("report-type", "").lower(),
            content_types=tuple(leaves.types),
        )

    def _walk(
        self,
        fields: list[tuple[str, str]],
        body: bytes,
        depth: int,
        leaves: _Leaves,
        *,
        alternative: bool,
        digest: bool = False,
    ) -> None:
        self.parts += 1
        if self.parts > MAX_PARTS:
            self.defect(f"more than {MAX_PARTS} parts: the rest was not opened")
            return
        if depth > MAX_DEPTH:
            self.defect(f"parts nested deeper than {MAX_DEPTH}: the rest was not opened")
            return
        lookup = dict(reversed(fields))
        kind, given = headers.parameters(lookup.get("content-type", ""))
        if "/" not in kind:
            if kind:
                self.defect(f"content type {kind[:40]!r} is none")
            kind = "message/rfc822" if digest else "text/plain"
        leaves.types.append(kind)
        if kind.startswith("multipart/"):
            self._multipart(kind, given, body, depth, leaves)
            return
        encoding = headers.tidy(lookup.get("content-transfer-encoding", "")).lower()
        self.work += len(body)
        content = transfer_decoded(body, encoding, self.defect)
        disposition, extra = headers.parameters(lookup.get("content-disposition", ""))
        name = extra.get("filename") or given.get("name", "")
        if kind in ("message/rfc822", "message/global"):
            self.work += len(content)
            if self.work > 4 * MAX_MESSAGE_BYTES:
                self.defect("messages within messages: the rest was not opened")
            elif depth + 1 <= MAX_DEPTH:
                leaves.nested.append(self.message(content.lstrip(b"\r\n"), depth + 1, len(content)))
            else:
                self.defect(f"parts nested deeper than {MAX_DEPTH}: the rest was not opened")
            return
        if kind in _REPORTS:
            text, _ = charset.decode(content[:MAX_TEXT], given.get("charset", ""))
            leaves.reports.append(ReportPart(kind, text, tuple(_groups(text, self.defect))))
            return
        content_id = lookup.get("content-id", "").strip(" <>")
        shown = disposition != "attachment" and not (name and disposition and leaves.types[:-1])
        if (kind == "text/plain" and shown) or (kind == "text/html" and shown):
            text, overruled = charset.decode(content[: 8 * MAX_TEXT], given.get("charset", ""))
            if overruled:
                self.defect(f"charset {given.get('charset', '')[:40]!r} was wrong")
            text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
            (leaves.text if kind == "text/plain" else leaves.html).append(text)
            return
        leaves.attachments.append(Attachment(name, kind, content, content_id))

    def _multipart(
        self, kind: str, given: dict[str, str], body: bytes, depth: int, leaves: _Leaves
    ) -> None:
        boundary = given.get("boundary", "").encode("utf-8", "surrogateescape")
        self.work += len(body)
        if self.work > 20 * MAX_MESSAGE_BYTES:
            self.defect("parts within parts: the rest was not opened")
            return
        pieces = list(split_parts(body, boundary, MAX_PARTS + 1)) if boundary else []
        if not pieces:
            match = _UNPLACED.search(body[: 4 * MAX_HEADER_BYTES])
            if match is not None:
                self.defect("the boundary was missing or wrong; another was found")
                pieces = list(split_parts(body, match[1].strip(), MAX_PARTS + 1))
        if not pieces:
            self.defect("a multipart without parts was read as text")
            self._walk([("content-type", "text/plain")], body, depth + 1, leaves, alternative=False)
            return
        for piece in pieces:
            if self.parts > MAX_PARTS:
                self.defect(f"more than {MAX_PARTS} parts: the rest was not opened")
                return
            fields, content = split_headers(piece, self.defect, part=True)
            self._walk(
                fields,
                content,
                depth + 1,
                leaves,
                alternative=kind == "multipart/alternative",
                digest=kind == "multipart/digest",
            )


_REPORTS = frozenset(
    {
        "message/delivery-status",
        "message/global-delivery-status",
        "message/feedback-report",
        "message/disposition-notification",
        "text/rfc822-headers",
        "message/global-headers",
        "text/calendar",
    }
)


def split_headers(
    raw: bytes, defect: Callable[[str], None], *, part: bool = False
) -> tuple[list[tuple[str, str]], bytes]:
    """Header fields (lower-case name, unfolded value) and the body of an entity."""
    fields: list[tuple[str, str]] = []
    name = ""
    value: list[bytes] = []
    length = 0
    position = 0
    strange = 0

    def finish() -> None:
        if name and len(fields) < MAX_HEADERS:
            joined = b" ".join(piece.strip(b" \t\r") for piece in value).strip()
            fields.append((name, joined.decode("utf-8", "surrogateescape")))

    end = len(raw)
    while position < end:
        stop = raw.find(b"\n", position)
        stop = end if stop < 0 else stop
        line = raw[position : min(stop, position + MAX_HEADER_BYTES)].rstrip(b"\r")
        if stop - position > MAX_HEADER_BYTES:
            defect(f"a header line longer than {MAX_HEADER_BYTES} bytes was cut")
        following = stop + 1
        if not line.strip():
            if not fields and not name and not part and following < end:
                position = following  # Empty lines before the first header are nobody's body.
                strange += 1
                if strange < 20:
                    continue
            finish()
            return fields, raw[following:]
        match = _FIELD.match(line)
        if line[:1] in b" \t" and name:
            length += len(line)
            if length <= MAX_HEADER_BYTES:
                value.append(line)
            else:
                defect(f"a header longer than {MAX_HEADER_BYTES} bytes was cut")
        elif match is not None:
            finish()
            name = match[1].decode("ascii").lower()
            value = [line[match.end() :]]
            length = len(line)
        elif not fields and not name and line.startswith((b"From ", b">From ")):
            pass  # The envelope line of an mbox file.
        else:
            strange += 1
            rest = raw[following : following + 2000].split(b"\n")[:3]
            if strange > 20 or not any(_FIELD.match(one) for one in rest if one.strip()):
                defect("the headers end without an empty line")
                finish()
                return fields, raw[position:]
            defect("a line among the headers is none")
        position = following
    finish()
    return fields, b""


def split_parts(body: bytes, boundary: bytes, limit: int) -> Iterator[bytes]:
    """The parts of a multipart body, at most `limit`; a missing last delimiter is forgiven."""
    mark = b"--" + boundary.rstrip()
    start = -1
    position = body.find(mark)
    count = 0
    while position >= 0:
        after = position + len(mark)
        stop = body.find(b"\n", after, after + 400)
        if stop < 0:
            stop = len(body) if len(body) - after < 400 else after
        tail = body[after:stop].strip()
        at_line_start = position == 0 or body[position - 1] in b"\r\n"
        closing = tail.startswith(b"--")
        if at_line_start and (not tail or closing):
            if start >= 0:
                yield _without_last_break(body[start:position])
                count += 1
                if count >= limit:
                    return
            if closing:
                return
            start = min(stop + 1, len(body))
        position = body.find(mark, after)
    if start >= 0 and body[start:].strip():
        yield body[start:]


def _without_last_break(piece: bytes) -> bytes:
    if piece.endswith(b"\r\n"):
        return piece[:-2]
    return piece[:-1] if piece.endswith(b"\n") else piece


def transfer_decoded(body: bytes, encoding: str, defect: Callable[[str], None]) -> bytes:
    """`body` with its Content-Transfer-Encoding undone as well as it can be."""
    if encoding.startswith("quoted") or encoding == "qp":
        return binascii.a2b_qp(body)
    if encoding.startswith("base64") or encoding in ("b", "base-64"):
        if body and sum(body[:400].count(sign) for sign in b" <>.,") > len(body[:400]) // 8:
            defect("a part labelled base64 is plain text")
            return body
        return headers.base64_bytes(body)
    if encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
        return _uudecoded(body)
    return body


def _uudecoded(body: bytes) -> bytes:
    out: list[bytes] = []
    begun = False
    for line in body.split(b"\n"):
        line = line.rstrip(b"\r")
        if not begun:
            begun = line.startswith(b"begin ")
            continue
        if line.strip() in (b"end", b"`", b""):
            continue
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            size = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                out.append(binascii.a2b_uu(line[:size]))
            except binascii.Error:
                continue
    return b"".join(out)


def _groups(text: str, defect: Callable[[str], None]) -> Iterator[tuple[tuple[str, str], ...]]:
    """The header groups of a report part, separated by empty lines (RFC 3464 §2.1)."""
    block: list[str] = []
    for line in [*text.replace("\r", "").split("\n")[:50_000], ""]:
        if line.strip():
            block.append(line)
            continue
        if block:
            raw = "\n".join(block).encode("utf-8", "surrogateescape") + b"\n\n"
            fields, _ = split_headers(raw, defect)
            if fields:
                yield tuple(
                    (name, headers.tidy(headers.decode_words(value))) for name, value in fields
                )
            block = []

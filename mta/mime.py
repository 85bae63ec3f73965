"""Writes header fields and bodies as mail wants them, and takes a submitted message apart.

What goes out is plain ASCII with CRLF and short lines, whatever came in: it survives every server
on the way, needs no 8BITMIME and leaves DKIM's canonical form little to do. Written by hand rather
than with `email.message`, which costs more per message than signing it.

Pure, and bounded in parts and depth.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message as Headers
from typing import Literal

MAX_PARTS = 200
MAX_DEPTH = 12
LINE = 76

Slot = Literal["text", "html"]

_QUOTED = re.compile(r'[()<>\[\]:;@\\,."]')
_TOKEN = re.compile(r"[A-Za-z0-9-]+\Z")


def text_field(name: str, value: str) -> bytes:
    """An unstructured field such as Subject, folded; other than ASCII as RFC 2047 has it."""
    if value.isascii() and all(len(word) < 900 for word in value.split(" ")):
        return _fold(name, value.split(" "))
    return _fold(name, encoded_words(value))


def ids_field(name: str, ids: Iterable[str]) -> bytes:
    """A field of message ids, each on a line of its own where they are many."""
    return _fold(name, list(ids))


def mailbox_field(name: str, display: str, address: str) -> bytes:
    """From, To and the like with one mailbox (RFC 5322 §3.4)."""
    local, _, domain = address.rpartition("@")
    spec = f"{local}@{domain.encode('idna').decode('ascii') if not domain.isascii() else domain}"
    if not display or display == address:
        return _fold(name, [spec])
    return _fold(name, [*_phrase(display), f"<{spec}>"])


def encoded_words(text: str) -> list[str]:
    """RFC 2047 §2 encoded words of at most 75 characters, never cut within a character."""
    words: list[str] = []
    piece = b""
    for char in text:
        raw = char.encode("utf-8", "replace")
        if len(piece) + len(raw) > 42:
            words.append(_word(piece))
            piece = b""
        piece += raw
    return [*words, _word(piece)] if piece or not words else words


def encode_text(text: str) -> tuple[str, bytes]:
    """The transfer encoding for this text and its bytes, with CRLF and lines within limits."""
    raw = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
    if not raw.endswith(b"\n"):
        raw += b"\n"
    wide = sum(byte > 127 for byte in raw) if not raw.isascii() else 0
    if wide * 4 > len(raw):
        return "base64", _base64(raw.replace(b"\n", b"\r\n"))
    plain = wide == 0 and b"\x00" not in raw and b" \n" not in raw and b"\t\n" not in raw
    if plain and max(map(len, raw.split(b"\n"))) <= 200:
        return "7bit", raw.replace(b"\n", b"\r\n")
    quoted = binascii.b2a_qp(raw, quotetabs=False, istext=True)
    return "quoted-printable", quoted.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def leaf(content_type: str, text: str) -> bytes:
    """A whole text part: its fields, an empty line, its body."""
    encoding, body = encode_text(text)
    head = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode("ascii") + body


def alternative(boundary: str, parts: Iterable[bytes]) -> bytes:
    """Parts that say the same in several forms, plainest first (RFC 2046 §5.1.4)."""
    return multipart("multipart/alternative", boundary, parts)


def multipart(kind: str, boundary: str, parts: Iterable[bytes]) -> bytes:
    """Whole parts as one (RFC 2046 §5.1); `kind` may carry further parameters."""
    head = f'Content-Type: {kind};\r\n boundary="{boundary}"\r\n\r\n'.encode()
    mark = f"--{boundary}".encode()
    inner = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return head + inner + mark + b"--\r\n"


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a rewritten text goes, and the content type it has."""

    slot: Slot
    content_type: str


@dataclass(slots=True)
class Skeleton:
    """A submitted message with gaps for its text and HTML; everything else is constant."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    parts: list[bytes | Gap] = field(default_factory=list)
    text: str = ""
    html: str = ""

    def fill(self, text: str, html: str) -> bytes:
        """The content fields and the body."""
        texts = {"text": text, "html": html}
        return b"".join(
            part if isinstance(part, bytes) else leaf(part.content_type, texts[part.slot])
            for part in self.parts
        )


def take_apart(raw: bytes) -> Skeleton:
    """What of a submitted message stays and what is written anew for each recipient."""
    skeleton = Skeleton()
    _Walk(skeleton).entity(raw, depth=0)
    return skeleton


def read_fields(head: bytes) -> list[tuple[str, str]]:
    """Header fields unfolded; bytes that are not UTF-8 become U+FFFD."""
    text = head.decode("utf-8", "replace")
    unfolded = re.sub(r"\r\n(?=[ \t])", "", text)
    fields = []
    for line in unfolded.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and _TOKEN.match(name.strip()):
            fields.append((name.strip(), value.strip()))
    return fields


def split_head(raw: bytes) -> tuple[bytes, bytes]:
    """Header block without the line end after it, and body."""
    if raw.startswith(b"\r\n"):
        return b"", raw[2:]
    head, _, body = raw.partition(b"\r\n\r\n")
    return head, body


class _Walk:
    def __init__(self, skeleton: Skeleton) -> None:
        self._to = skeleton
        self._parts = 0

    def entity(self, raw: bytes, *, depth: int, sealed: bool = False) -> None:
        self._parts += 1
        head, body = split_head(raw)
        fields = read_fields(head)
        content = [(n, v) for n, v in fields if n.lower().startswith("content-")]
        if depth == 0:
            self._to.fields = [(n, v) for n, v in fields if (n, v) not in content]
        probe = Headers()
        for name, value in content:
            if name not in probe:
                probe[name] = value
        kind = probe.get_content_type()
        boundary = probe.get_boundary()
        deep = depth >= MAX_DEPTH or self._parts >= MAX_PARTS
        if kind == "multipart/signed" and not sealed and boundary and not deep:
            sealed = True
        if kind.startswith("multipart/") and boundary and not deep and not sealed:
            self._multipart(content, body, boundary, depth)
        elif sealed or kind.startswith(("multipart/", "message/")):
            self._constant(content, body)
        else:
            self._leaf(probe, content, kind, body)

    def _multipart(
        self, content: list[tuple[str, str]], body: bytes, boundary: str, depth: int
    ) -> None:
        marks = re.compile(
            rb"(?:\A|\r\n)--" + re.escape(boundary.encode("utf-8", "replace"))
            + rb"(--)?[ \t]*(?=\r\n|\Z)"
        )  # fmt: skip
        pieces, start, ended = [], -1, False
        for found in marks.finditer(body):
            if start >= 0:
                pieces.append(body[start : found.start()])
            start = found.end() + 2
            if found[1]:
                ended = True
                break
        if not ended and 0 <= start < len(body):
            pieces.append(body[start:])
        if not pieces:
            self._constant(content, body)
            return
        mark = b"--" + boundary.encode("utf-8", "replace")
        self._add(_head(content) + b"\r\n")
        for piece in pieces:
            self._add(mark + b"\r\n")
            self.entity(piece, depth=depth + 1)
            self._add(b"\r\n")
        self._add(mark + b"--\r\n")

    def _leaf(self, probe: Headers, content: list[tuple[str, str]], kind: str, body: bytes) -> None:
        attached = (probe.get_content_disposition() or "inline") == "attachment"
        slot: Slot | None = None
        if not attached and kind == "text/plain" and not self._to.text:
            slot = "text"
        elif not attached and kind == "text/html" and not self._to.html:
            slot = "html"
        decoded = _decoded(probe, body) if slot else None
        if slot is None or decoded is None:
            self._constant(content, body)
            return
        if slot == "text":
            self._to.text = decoded
        else:
            self._to.html = decoded
        flowed = str(probe.get_param("format", "")).lower() == "flowed"
        self._to.parts.append(
            Gap(slot, f"{kind}; charset=utf-8" + ("; format=flowed" if flowed else ""))
        )

    def _constant(self, content: list[tuple[str, str]], body: bytes) -> None:
        short = max(map(len, body.split(b"\r\n")), default=0) <= 998
        inner = any(
            n.lower() == "content-type" and v.lower().startswith(("multipart/", "message/"))
            for n, v in content
        )
        if (not body.isascii() or not short) and not inner:
            content = [(n, v) for n, v in content if n.lower() != "content-transfer-encoding"]
            content.append(("Content-Transfer-Encoding", "base64"))
            body = _base64(body)
        self._add(_head(content) + b"\r\n" + body)

    def _add(self, data: bytes) -> None:
        parts = self._to.parts
        if parts and isinstance(parts[-1], bytes):
            parts[-1] += data
        else:
            parts.append(data)


def _decoded(probe: Headers, body: bytes) -> str | None:
    """The text of a part, or None if its encoding or character set is not known."""
    encoding = str(probe.get("Content-Transfer-Encoding", "7bit")).strip().lower()
    try:
        if encoding == "base64":
            body = base64.b64decode(body)
        elif encoding == "quoted-printable":
            body = binascii.a2b_qp(body)
        elif encoding not in {"7bit", "8bit", "binary"}:
            return None
        return body.decode(probe.get_content_charset() or "utf-8", "replace")
    except (LookupError, ValueError, UnicodeError):
        return None


def _head(content: list[tuple[str, str]]) -> bytes:
    return b"".join(text_field(name, value) for name, value in content)


def _phrase(display: str) -> list[str]:
    if not display.isascii():
        return encoded_words(display)
    if _QUOTED.search(display):
        escaped = display.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'.split(" ")
    return display.split(" ")


def _word(piece: bytes) -> str:
    return f"=?utf-8?B?{base64.b64encode(piece).decode('ascii')}?="


def _fold(name: str, words: list[str]) -> bytes:
    line = f"{name}:"
    lines = []
    for word in words:
        if len(line) + 1 + len(word) > LINE and line.strip() and not line.endswith(":"):
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n"


def _base64(raw: bytes) -> bytes:
    return base64.encodebytes(raw).replace(b"\n", b"\r\n")

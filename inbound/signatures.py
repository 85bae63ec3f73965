"""Whether the DKIM signatures of a message hold (RFC 6376, RFC 8301, RFC 8463).

dkimpy does the verifying; alone it is not safe on strangers' mail, so this module is the only one
that calls it. What is mended here: its relaxed canonicalisation takes time that grows with the
square of a run of spaces (99 s for 200 kB), so a linear one takes its place; whatever it raises
becomes a result; headers, keys and signatures are bounded before it sees them; and a signature that
covers only part of the body (`l=`), uses SHA-1, a short key, or leaves From out does not count.

Pure: the keys come as an argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dkim
import dkim.canonicalization
from dkim.util import InvalidTagValueList, parse_tag_value

MAX_SIGNATURES = 8
"""Signatures looked at in one message; RFC 6376 §6.1 lets a verifier limit its work."""

MAX_HEADER_BYTES = 256 * 1024
MAX_HEADER_LINES = 4000
MAX_SIGNATURE_BYTES = 8 * 1024
MAX_KEY_RECORD = 8 * 1024
LEAST_KEY_BITS = 1024
"""RFC 8301 §3.2."""

LARGEST_KEY_BITS = 8192
_LONG_GAP = re.compile(rb"\s{64}")
_SELECTOR = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,250}[a-z0-9_])?\Z")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature and what became of it: pass, fail, permerror, temperror, policy (RFC 8601)."""

    domain: str
    selector: str
    result: str
    reason: str = ""


def relaxed_body(body: bytes) -> bytes:
    """The relaxed canonical form of a body (RFC 6376 §3.4.4), in linear time."""
    body = re.sub(rb"[\t ]+", b" ", body).replace(b" \r\n", b"\r\n")
    if body.endswith(b" "):
        body = body[:-1]
    stripped = body.rstrip(b"\r\n")
    rest = body[len(stripped) :]
    end = len(rest)
    while rest.endswith(b"\r\n", 0, end):  # A bare CR or LF is content, not an empty line.
        end -= 2
    kept = stripped + rest[:end]
    return kept + b"\r\n" if kept else b""


dkim.canonicalization.Relaxed.canonicalize_body = staticmethod(relaxed_body)


def signatures_of(raw: bytes) -> list[tuple[str, str]]:
    """Domain and selector of each signature, topmost first: whose keys `verify` wants to see.

    An empty domain stands for a signature that can't be read.
    """
    return [
        (_text(tags, b"d"), _text(tags, b"s")) if not problem else ("", "")
        for tags, problem in _fields(raw)
    ]


def key_name(domain: str, selector: str) -> str:
    """Where the key of a signature is published (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def verify(raw: bytes, keys: Mapping[str, str | None]) -> list[Signature]:
    """The result of each signature; `keys` has the record by name, None if we could not ask."""
    fields = _fields(raw)
    if not fields:
        return []
    try:
        message: Any = dkim.DKIM(raw, minkey=LEAST_KEY_BITS)
    except Exception as error:  # Whatever it stumbles over, the message is not signed for us.
        return [Signature("", "", "permerror", f"the message can't be read: {_say(error)}")]
    found = []
    for index, (tags, problem) in enumerate(fields):
        if problem:
            found.append(Signature("", "", "permerror", problem))
            continue
        domain, selector = _text(tags, b"d"), _text(tags, b"s")
        result, reason = _judge(message, index, tags, keys.get(key_name(domain, selector), ""))
        found.append(Signature(domain, selector, result, reason))
    return found


def _judge(
    message: Any, index: int, tags: Mapping[bytes, bytes], record: str | None
) -> tuple[str, str]:
    if record is None:
        return "temperror", "the key could not be asked for"
    if not record:
        return "permerror", "no key is published"
    refused = _refuse(tags) or _refuse_key(record)
    if refused:
        return "policy", refused
    try:
        good = message.verify(index, dnsfunc=lambda name, timeout=5: record.encode("ascii"))
    except dkim.ValidationError as error:
        return "fail", _say(error)
    except Exception as error:  # IndexError, MessageFormatError, AssertionError … all escape.
        return "permerror", _say(error)
    if not good:
        return "fail", "the signature does not fit"
    if b"l" in tags and not _covers_all(message, tags):
        return "policy", "only part of the body is signed (l=)"
    return "pass", ""


def _refuse(tags: Mapping[bytes, bytes]) -> str:
    if tags.get(b"a", b"") not in (b"rsa-sha256", b"ed25519-sha256"):
        return "the algorithm is not safe or not known (RFC 8301)"
    names = [name.strip().lower() for name in tags.get(b"h", b"").split(b":")]
    if b"from" not in names:
        return "From is not signed"
    if len(names) > 500:
        return "the signature names more than 500 headers"
    return ""


def _refuse_key(record: str) -> str:
    """Why a key may not be used; also keeps numbers out that would take seconds to reckon with."""
    if len(record) > MAX_KEY_RECORD or not record.isascii():
        return "the key record is too long or not ASCII"
    try:
        key, bits, kind, _ = dkim.evaluate_pk(b"", record.encode("ascii"))
    except Exception as error:
        return f"the key can't be read: {_say(error)}"
    if kind == b"ed25519":
        return ""
    if not isinstance(key, dict) or not isinstance(bits, int):
        return "the key can't be read"
    if bits < LEAST_KEY_BITS:
        return f"the key has only {bits} bits"
    if bits > LARGEST_KEY_BITS or not 3 <= key["publicExponent"] < 1 << 33:
        return "the key is larger than any honest one"
    return ""


def _covers_all(message: Any, tags: Mapping[bytes, bytes]) -> bool:
    try:
        policy = dkim.canonicalization.CanonicalizationPolicy.from_c_value(tags.get(b"c"))
        return int(tags[b"l"]) >= len(policy.canonicalize_body(message.body))
    except Exception:
        return False


def _fields(raw: bytes) -> list[tuple[dict[bytes, bytes], str]]:
    """The tags of each signature header, or what is wrong with it."""
    end = min((at for at in (raw.find(b"\r\n\r\n"), raw.find(b"\n\n")) if at >= 0), default=-1)
    head = raw[: end if end >= 0 else len(raw)]
    if b"dkim-signature" not in head[: 4 * MAX_HEADER_BYTES].lower():
        return []
    if len(head) > MAX_HEADER_BYTES or head.count(b"\n") > MAX_HEADER_LINES:
        return [({}, "the headers are too large to check")]
    try:
        fields, _ = dkim.rfc822_parse(head + b"\r\n\r\n")
    except Exception as error:
        return [({}, f"the headers can't be read: {_say(error)}")]
    values = [value for name, value in fields if name.lower() == b"dkim-signature"]
    return [_tags(value) for value in values[:MAX_SIGNATURES]]


def _tags(value: bytes) -> tuple[dict[bytes, bytes], str]:
    if len(value) > MAX_SIGNATURE_BYTES or _LONG_GAP.search(value):
        return {}, "the signature is too long"
    try:
        tags = parse_tag_value(value)
    except InvalidTagValueList as error:
        return {}, f"the signature can't be read: {_say(error)}"
    for name in (b"d", b"s"):
        if not _SELECTOR.match(_text(tags, name)):
            return {}, f"{name.decode()}= is missing or no name"
    return tags, ""


def _text(tags: Mapping[bytes, bytes], name: bytes) -> str:
    return tags.get(name, b"").decode("ascii", "replace").lower()


def _say(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]

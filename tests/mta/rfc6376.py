"""A second DKIM verifier, written from the text of RFC 6376 and RFC 8463 and from nothing else.

It shares no code with `mta.signing`: canonical forms are made here byte by byte and line by line,
as the RFC describes them, slow and plain. Relaxed/relaxed and SHA-256 only, as our signer makes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

Field = tuple[bytes, bytes]
"""A header field: its name as written, and everything after the colon without the last CRLF."""

WSP = b" \t"
FWS = b" \t\r\n"


def take_apart(message: bytes) -> tuple[list[Field], bytes]:
    """Header fields and body (RFC 5322 §2.1): lines end in CRLF, the empty line is in between."""
    lines: list[bytes] = []
    at = 0
    while True:
        end = message.find(b"\r\n", at)
        if end < 0:
            lines.append(message[at:])
            body = b""
            break
        if end == at:
            body = message[at + 2 :]
            break
        lines.append(message[at:end])
        at = end + 2
    fields: list[Field] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, value + b"\r\n" + line)
        elif b":" in line:
            name, _, value = line.partition(b":")
            fields.append((name, value))
    return fields, body


def relaxed_header(name: bytes, value: bytes) -> bytes:
    """RFC 6376 §3.4.2, its six steps in order; no CRLF at the end."""
    name = bytes(b + 32 if 65 <= b <= 90 else b for b in name)
    unfolded = bytearray()
    index = 0
    while index < len(value):
        if value[index : index + 2] == b"\r\n" and value[index + 2 : index + 3] in (b" ", b"\t"):
            index += 2
            continue
        unfolded.append(value[index])
        index += 1
    single = bytearray()
    for byte in unfolded:
        if byte in WSP:
            if not single or single[-1:] != b" ":
                single += b" "
        else:
            single.append(byte)
    kept = bytes(single)
    while kept[-1:] == b" ":
        kept = kept[:-1]
    while kept[:1] == b" ":
        kept = kept[1:]
    while name[-1:] in (b" ", b"\t"):
        name = name[:-1]
    return name + b":" + kept


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.4: line by line."""
    done: list[bytes] = []
    lines = body.split(b"\r\n")
    unfinished = lines.pop()  # Empty where the body ends in CRLF.
    for line in [*lines, unfinished] if unfinished else lines:
        single = bytearray()
        for byte in line:
            if byte in WSP:
                if single[-1:] != b" ":
                    single += b" "
            else:
                single.append(byte)
        done.append(bytes(single[:-1] if single[-1:] == b" " else single))
    while done and done[-1] == b"":
        done.pop()
    return b"".join(line + b"\r\n" for line in done)


def read_tags(value: bytes) -> dict[bytes, bytes]:
    """RFC 6376 §3.2; white space around names and values does not count."""
    tags: dict[bytes, bytes] = {}
    for part in value.split(b";"):
        name, equals, text = part.partition(b"=")
        if not equals:
            assert not part.strip(FWS), part
            continue
        assert name.strip(FWS) not in tags, "a tag stands twice"
        tags[name.strip(FWS)] = text.strip(FWS)
    return tags


def without_signature(value: bytes) -> bytes:
    """The field's value with `b=` emptied (RFC 6376 §3.5)."""
    parts = value.split(b";")
    for index, part in enumerate(parts):
        if part.partition(b"=")[0].strip(FWS) == b"b":
            parts[index] = part.partition(b"=")[0] + b"="
    return b";".join(parts)


def squeezed(value: bytes) -> bytes:
    """Base64 may be folded anywhere."""
    return bytes(byte for byte in value if byte not in FWS)


def verify(message: bytes, record: Callable[[str], str]) -> list[str]:
    """For each DKIM-Signature, topmost first: "pass", or why not."""
    fields, body = take_apart(message)
    return [
        _verify_one(fields, body, index, record)
        for index, (name, _) in enumerate(fields)
        if name.strip(WSP).lower() == b"dkim-signature"
    ]


def _verify_one(fields: list[Field], body: bytes, index: int, record: Callable[[str], str]) -> str:
    tags = read_tags(fields[index][1])
    if tags[b"v"] != b"1" or tags.get(b"c") != b"relaxed/relaxed":
        return "version or canonicalisation"
    digest = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
    if digest != squeezed(tags[b"bh"]):
        return "body hash"
    signed = [one.strip(FWS).lower() for one in tags[b"h"].split(b":")]
    if b"from" not in signed:
        return "From is not signed"
    below: dict[bytes, list[Field]] = {}
    for field in fields:
        below.setdefault(field[0].strip(WSP).lower(), []).append(field)
    data = b""
    for name in signed:  # From the bottom up; one too many is the empty string (§5.4.2).
        if below.get(name):
            data += relaxed_header(*below[name].pop()) + b"\r\n"
    own_name, own_value = fields[index]
    data += relaxed_header(own_name, without_signature(own_value))
    where = f"{tags[b's'].decode()}._domainkey.{tags[b'd'].decode()}"
    return _check(tags, data, read_tags(record(where).encode()))


def _check(tags: dict[bytes, bytes], data: bytes, key: dict[bytes, bytes]) -> str:
    raw = base64.b64decode(squeezed(key[b"p"]), validate=True)
    signature = base64.b64decode(squeezed(tags[b"b"]), validate=True)
    try:
        if tags[b"a"] == b"ed25519-sha256":
            assert key[b"k"] == b"ed25519"
            public = ed25519.Ed25519PublicKey.from_public_bytes(raw)
            public.verify(signature, hashlib.sha256(data).digest())
        else:
            assert (tags[b"a"], key[b"k"]) == (b"rsa-sha256", b"rsa")
            loaded = load_der_public_key(raw)
            assert isinstance(loaded, rsa.RSAPublicKey)
            loaded.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return "signature"
    return "pass"

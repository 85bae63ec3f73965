"""DKIM signatures (RFC 6376) with RSA-SHA-256 and Ed25519 (RFC 8463), made side by side.

A lean signer for mail that we made ourselves: keys are decoded once, the body is hashed once for
both signatures, and canonical forms are made by `bytes.replace`, where anything has to change at
all, instead of by regular expressions over the whole body. Relaxed/relaxed, because servers on the
way fold headers.

Every header of `OVERSIGNED` is signed once more than it is there, so that nobody can add another
one to a signed message and replay it (RFC 6376 §8.15). Signing is repeatable: RSA with PKCS#1 v1.5
and Ed25519 give the same signature for the same message and time.

Pure but for the library that signs eight at a time, where there is one (`mta.multibuffer`).
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from mail.errors import ConfigError
from mta import metrics
from mta.multibuffer import LEAST, Lanes, LanesError, lanes_for

OVERSIGNED = (b"from", b"subject", b"to", b"date", b"reply-to", b"list-unsubscribe")

_SIGNED = frozenset(
    (
        *OVERSIGNED,
        b"cc",
        b"message-id",
        b"in-reply-to",
        b"references",
        b"mime-version",
        b"content-type",
        b"content-transfer-encoding",
        b"list-unsubscribe-post",
        b"list-id",
        b"auto-submitted",
    )
)
"""What RFC 6376 §5.4.1 recommends, and what RFC 8058 §4 asks for."""


_SECONDS = {name: metrics.sign_seconds(name) for name in ("rsa-sha256", "ed25519-sha256")}


class Signer(Protocol):
    """Puts signatures in front of a message; what comes after DKIM will be another one."""

    def sign(self, message: bytes, at: datetime) -> bytes:
        """The header fields to put in front of `message`, each with its line end."""
        ...

    def sign_all(self, messages: Sequence[tuple[bytes, datetime]]) -> list[bytes]:
        """The same for several, which may be quicker together."""
        ...


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One key pair's private half, decoded, and the selector under which the other half is."""

    selector: str
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @property
    def algorithm(self) -> str:
        """As the `a=` tag has it."""
        return "rsa-sha256" if isinstance(self.key, rsa.RSAPrivateKey) else "ed25519-sha256"

    def signature(self, data: bytes) -> bytes:
        """RSA signs the data; Ed25519 the data's SHA-256 (RFC 8463 §3)."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(hashlib.sha256(data).digest())


def load_key(selector: str, pem: str) -> DkimKey:
    """Decodes a PEM, which takes OpenSSL a millisecond: keep the result."""
    key = serialization.load_pem_private_key(pem.encode("ascii"), password=None)
    if not isinstance(key, (rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)):
        raise ConfigError(f"The key of selector {selector} is neither RSA nor Ed25519.")
    return DkimKey(selector, key)


class DkimSigner:
    """Signs for one domain with each of its keys."""

    def __init__(self, domain: str, keys: tuple[DkimKey, ...]) -> None:
        self._domain = domain
        self._keys = keys
        self._lanes: dict[str, Lanes] = {}
        for key in keys:
            if isinstance(key.key, rsa.RSAPrivateKey) and (lanes := lanes_for(key.key)):
                self._lanes[key.selector] = lanes

    def sign(self, message: bytes, at: datetime) -> bytes:
        """The DKIM-Signature fields. `message` has CRLF line ends."""
        return self.sign_all([(message, at)])[0]

    def sign_all(self, messages: Sequence[tuple[bytes, datetime]]) -> list[bytes]:
        """The fields of each message, all RSA signatures side by side where the processor can."""
        drafts = [self._draft(message, at) for message, at in messages]
        made = [b""] * len(drafts)
        for place, key in enumerate(self._keys):
            datas = [draft[place][1] for draft in drafts]
            started = time.perf_counter()
            signatures = self._signatures(key, datas)
            took = (time.perf_counter() - started) / max(len(datas), 1)
            _SECONDS[key.algorithm].observe(took, len(datas))
            for index, raw in enumerate(signatures):
                signature = base64.b64encode(raw)
                lines = (signature[i : i + 72] for i in range(0, len(signature), 72))
                unsigned = drafts[index][place][0]
                made[index] += b"DKIM-Signature:" + unsigned + b"\r\n\t".join(lines) + b"\r\n"
        return made

    def _signatures(self, key: DkimKey, datas: Sequence[bytes]) -> list[bytes]:
        lanes = self._lanes.get(key.selector)
        if lanes is not None and len(datas) >= LEAST:
            try:
                return lanes.signatures(datas)
            except LanesError:  # Whatever is wrong with it stays wrong.
                self._lanes.pop(key.selector, None)
        return [key.signature(data) for data in datas]

    def _draft(self, message: bytes, at: datetime) -> list[tuple[bytes, bytes]]:
        """For each key the field without its signature, and what has to be signed."""
        head, separator, body = message.partition(b"\r\n\r\n")
        if not separator:
            body = b""
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
        names, signed = _chosen(_fields(head))
        drafts = []
        for key in self._keys:
            unsigned = self._unsigned(key, names, body_hash, int(at.timestamp()))
            drafts.append((unsigned, signed + relaxed_field(b"DKIM-Signature", unsigned)))
        return drafts

    def _unsigned(self, key: DkimKey, names: list[bytes], body_hash: bytes, at: int) -> bytes:
        lines = [b""]
        for name in names:
            if len(lines[-1]) + len(name) > 68:
                lines.append(b"")
            lines[-1] += (b":" if lines[-1] or len(lines) > 1 else b"") + name
        head = (
            f" v=1; a={key.algorithm}; c=relaxed/relaxed; d={self._domain};\r\n"
            f"\ts={key.selector}; t={at};\r\n\th="
        )
        middle = b"\r\n\t".join(lines)
        return head.encode("ascii") + middle + b";\r\n\tbh=" + body_hash + b";\r\n\tb="


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """One header field in relaxed form (RFC 6376 §3.4.2), without a line end."""
    words = value.replace(b"\r\n", b"").replace(b"\t", b" ").split(b" ")
    return name.strip(b" \t").lower() + b":" + b" ".join(word for word in words if word)


def relaxed_body(body: bytes) -> bytes:
    """A body in relaxed form (RFC 6376 §3.4.4): linear, and quick where nothing has to change."""
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    while b"  " in body:  # Each round halves the longest run.
        body = body.replace(b"  ", b" ")
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    body = body.removesuffix(b" ")
    end = len(body)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[:end] + b"\r\n" if end else b""


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Names and unfolded values of the header fields, from first to last."""
    fields: list[tuple[bytes, bytes]] = []
    unfolded = head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
    for line in unfolded.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name, value))
    return fields


def _chosen(fields: list[tuple[bytes, bytes]]) -> tuple[list[bytes], bytes]:
    """Which names stand in `h=`, and the canonical fields they cover, last ones first.

    Of fields that are there more than once, the lowest is signed first (RFC 6376 §5.4.2).
    """
    names: list[bytes] = []
    covered: list[bytes] = []
    for name, value in reversed(fields):
        low = name.strip(b" \t").lower()
        if low in _SIGNED:
            names.append(low)
            covered.append(relaxed_field(name, value) + b"\r\n")
    names.extend(OVERSIGNED)
    return names, b"".join(covered)

"""SCRAM-SHA-256 on the server's side (RFC 5802, RFC 7677): a password proved, never sent.

Without channel binding: what binds to TLS 1.3 (RFC 9266) is not offered by Python's ssl.
Pure but for the random nonce and salt, which can be given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

ITERATIONS = 10_000
"""RFC 7677 §4 asks for 4096 at least; our passwords are random, so more would gain nothing."""

MAX_MESSAGE = 2048

_FIRST = re.compile(
    r"(?P<head>[ny],(?:a=(?:[^,=]|=2C|=3D){1,200})?,)"
    r"(?P<bare>n=(?P<name>(?:[^,=]|=2C|=3D){1,200}),r=(?P<nonce>[!-+\--~]{8,200}))\Z"
)
_FINAL = re.compile(
    r"(?P<unproved>c=(?P<binding>[A-Za-z0-9+/=]{1,400}),r=(?P<nonce>[!-+\--~]{8,400}))"
    r",p=(?P<proof>[A-Za-z0-9+/=]{1,100})\Z"
)


class ScramError(ValueError):
    """The client's message is not well formed, or its proof is wrong."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is stored instead of the password: good for checking, not for signing in."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        """Iterations and base64 of the rest, with `$` between."""
        parts = (self.salt, self.stored_key, self.server_key)
        return "$".join([str(self.iterations), *map(_b64, parts)])


def parse_verifier(text: str) -> Verifier:
    """The reverse of `str`. Raises `ScramError`."""
    try:
        iterations, *parts = text.split("$")
        salt, stored, server = (base64.b64decode(part, validate=True) for part in parts)
        return Verifier(salt, int(iterations), stored, server)
    except ValueError:
        raise ScramError("a stored verifier can't be read") from None


def make_verifier(
    password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS
) -> Verifier:
    """The verifier of a password of ASCII characters, which ours are (SASLprep changes nothing)."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return Verifier(salt, iterations, stored, _hmac(salted, b"Server Key"))


def decoy(login: str, secret: bytes) -> Verifier:
    """A verifier that fits no password, always the same for a login, so that nobody learns which
    logins there are."""
    salt = _hmac(secret, login.encode())[:16]
    return Verifier(salt, ITERATIONS, secrets.token_bytes(32), secrets.token_bytes(32))


class ScramExchange:
    """One sign-in: `login` is known after the first message, and proved after `finish`."""

    def __init__(self, first: bytes, *, nonce: str = "") -> None:
        """`first` is the client's first message. Raises `ScramError`."""
        found = _FIRST.match(_text(first))
        if found is None:
            raise ScramError("the first SCRAM message is not well formed")
        self.login = found["name"].replace("=2C", ",").replace("=3D", "=")
        self._head = found["head"].encode()
        self._bare = found["bare"]
        self._nonce = found["nonce"] + (nonce or secrets.token_urlsafe(18))
        self._verifier: Verifier | None = None
        self._challenge = ""

    def challenge(self, verifier: Verifier) -> bytes:
        """The server's first message."""
        self._verifier = verifier
        salt = _b64(verifier.salt)
        self._challenge = f"r={self._nonce},s={salt},i={verifier.iterations}"
        return self._challenge.encode()

    def finish(self, final: bytes) -> bytes:
        """The server's proof that it knows the password too. Raises `ScramError`."""
        found = _FINAL.match(_text(final))
        assert self._verifier is not None
        if found is None:
            raise ScramError("the final SCRAM message is not well formed")
        try:
            binding = base64.b64decode(found["binding"], validate=True)
            proof = base64.b64decode(found["proof"], validate=True)
        except binascii.Error:
            raise ScramError("the final SCRAM message has bad base64") from None
        signed = f"{self._bare},{self._challenge},{found['unproved']}".encode()
        signature = _hmac(self._verifier.stored_key, signed)
        if binding != self._head or found["nonce"] != self._nonce or len(proof) != len(signature):
            raise ScramError("the final SCRAM message does not belong to the first")
        key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(key).digest(), self._verifier.stored_key):
            raise ScramError("wrong password")
        return b"v=" + _b64(_hmac(self._verifier.server_key, signed)).encode()


def _text(message: bytes) -> str:
    try:
        return message[: MAX_MESSAGE + 1].decode("utf-8") if len(message) <= MAX_MESSAGE else ""
    except UnicodeDecodeError:
        return ""


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

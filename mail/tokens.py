"""Signed strings in links and addresses that tie what comes back to what was sent.

A token names a company, one row of ours (a message, a draft, an invitation) and a slot (which link
of the message), and nothing about a person. It is checked without a database: an HMAC-SHA-256, cut
to 80 bits (RFC 2104 §5 allows half of the hash at the least for general use; a forger here has one
online guess per request and gains one wrong click), covers every field.

    byte 0     version (high four bits) and key id (low four)
    byte 1     kind
    bytes 2–5  company number        6–21 subject (UUID)       22–23 slot
    bytes 24–33 MAC

Written as lower-case base32 in local parts, which mail servers may fold to either case, and as
base64url in links. A local part takes 57 of the 64 octets that RFC 5321 §4.5.3.1.1 allows.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from uuid import UUID

_VERSION = 1
_MAC_BYTES = 10
_BODY_BYTES = 24


class TokenKind(IntEnum):
    """What a token may be used for; a token of one kind is refused where another is wanted."""

    REPLY = 1
    BOUNCE = 2
    FORWARD = 3
    APPROVAL = 4
    UNSUBSCRIBE = 5
    CLICK = 6
    OPEN = 7
    SHARE = 8
    CONSENT = 9
    PREFERENCES = 10
    FORM = 11
    PRESENTATION = 12


LOCAL_PREFIX: Mapping[TokenKind, str] = {
    TokenKind.REPLY: "r-",
    TokenKind.BOUNCE: "b-",
    TokenKind.FORWARD: "f-",
    TokenKind.APPROVAL: "a-",
    TokenKind.UNSUBSCRIBE: "u-",
}
"""Kinds that travel in addresses, and how their local parts begin."""

_KIND_OF_PREFIX = {prefix: kind for kind, prefix in LOCAL_PREFIX.items()}


class TokenProblem(StrEnum):
    """Why a string is not a token of ours."""

    NOT_A_TOKEN = "not a token"
    UNKNOWN_KEY = "made with a key we do not have"
    FORGED = "the signature does not fit"
    WRONG_KIND = "a token for something else"


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token says."""

    kind: TokenKind
    company: int
    subject: UUID
    slot: int = 0


class TokenKeys:
    """Makes and checks tokens with a ring of secret keys, so that keys can be changed."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        """`keys` by id (0–15), each of 32 bytes or more; new tokens use the key `current`."""
        if current not in keys:
            raise ValueError(f"no key has the id {current}")
        for key_id, key in keys.items():
            if not 0 <= key_id <= 15 or len(key) < 32:
                raise ValueError(f"key {key_id}: ids go from 0 to 15, keys have 32 bytes or more")
        self._keys = dict(keys)
        self._current = current

    def local_part(self, token: Token) -> str:
        """`token` as a local part, such as `r-aeaq…`."""
        text = base64.b32encode(self._signed(token)).decode("ascii").rstrip("=").lower()
        return LOCAL_PREFIX[token.kind] + text

    def in_link(self, token: Token) -> str:
        """`token` for a URL path."""
        return base64.urlsafe_b64encode(self._signed(token)).decode("ascii").rstrip("=")

    def read_local_part(self, local: str) -> Token | TokenProblem:
        """The token that a local part carries, in any case."""
        local = local.lower()
        kind = _KIND_OF_PREFIX.get(local[:2])
        if kind is None or not local.isascii() or len(local) > 64:
            return TokenProblem.NOT_A_TOKEN
        text = local[2:].upper()
        try:
            raw = base64.b32decode(text + "=" * (-len(text) % 8))
        except (binascii.Error, ValueError):
            return TokenProblem.NOT_A_TOKEN
        if base64.b32encode(raw).decode("ascii").rstrip("=") != text:
            return TokenProblem.FORGED  # Unused bits of the last character were changed.
        return self._check(raw, kind)

    def read_link(self, text: str, kind: TokenKind) -> Token | TokenProblem:
        """The token of this kind that a URL path carries."""
        if not text.isascii() or len(text) > 64:
            return TokenProblem.NOT_A_TOKEN
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return TokenProblem.NOT_A_TOKEN
        if base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=") != text:
            return TokenProblem.FORGED
        return self._check(raw, kind)

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """Keys of 32 bytes for another use of the ring, the current one first.

        From what is made with them nothing follows for tokens, or for another purpose.
        """
        ids = [self._current, *(key_id for key_id in self._keys if key_id != self._current)]
        label = f"waypost {purpose}".encode()
        return tuple(hmac.digest(self._keys[key_id], label, "sha256") for key_id in ids)

    def _signed(self, token: Token) -> bytes:
        body = (
            bytes((_VERSION << 4 | self._current, token.kind))
            + token.company.to_bytes(4, "big")
            + token.subject.bytes
            + token.slot.to_bytes(2, "big")
        )
        return body + self._mac(self._current, body)

    def _mac(self, key_id: int, body: bytes) -> bytes:
        return hmac.digest(self._keys[key_id], body, "sha256")[:_MAC_BYTES]

    def _check(self, raw: bytes, kind: TokenKind) -> Token | TokenProblem:
        if len(raw) != _BODY_BYTES + _MAC_BYTES or raw[0] >> 4 != _VERSION:
            return TokenProblem.NOT_A_TOKEN
        key_id = raw[0] & 15
        if key_id not in self._keys:
            return TokenProblem.UNKNOWN_KEY
        body, mac = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        if not hmac.compare_digest(mac, self._mac(key_id, body)):
            return TokenProblem.FORGED
        if raw[1] != kind:
            return TokenProblem.WRONG_KIND
        return Token(
            kind,
            int.from_bytes(body[2:6], "big"),
            UUID(bytes=body[6:22]),
            int.from_bytes(body[22:24], "big"),
        )

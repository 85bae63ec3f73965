"""Mailbox addresses as SMTP carries them (RFC 5321 §4.1.2, RFC 6531 for UTF-8).

Pure, and linear in the length of what it reads.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

MAX_LOCAL_BYTES = 64
"""RFC 5321 §4.5.3.1.1."""

MAX_ADDRESS_BYTES = 254
"""The path limit of RFC 5321 §4.5.3.1.3 less its angle brackets."""

_PLAIN = re.compile(
    r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}){0,31})@"
    r"([A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?){1,40})\Z"
)
"""Nearly all addresses there are, which are read in one go."""

_ATEXT = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~")

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@({_LABEL}(?:\.{_LABEL})+)\Z")
"""What nearly all addresses look like, read in one go."""


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox. `local` keeps its case, `domain` is lower-case and may be non-ASCII."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def canonical(self) -> str:
        """The form that is compared and looked up: everything in lower case."""
        return f"{self.local.lower()}@{self.domain}"

    @property
    def is_ascii(self) -> bool:
        """Whether it can travel without SMTPUTF8 (an IDN domain can be sent as A-labels)."""
        return self.local.isascii()


def parse_address(text: str) -> Address | None:
    """The mailbox that `text` spells, or None if it is not one.

    Takes a bare `local@domain`; a quoted local part is kept with its quotes. No display names.
    """
    plain = _PLAIN.match(text) if len(text) <= MAX_ADDRESS_BYTES else None
    if plain is not None and plain.end(1) <= MAX_LOCAL_BYTES:
        return Address(plain[1], plain[2].lower())
    text = text.strip()
    if len(text) <= MAX_ADDRESS_BYTES and (plain := _PLAIN.match(text)):
        return Address(plain[1], plain[2].lower()) if len(plain[1]) <= MAX_LOCAL_BYTES else None
    if not text or len(text.encode("utf-8", "surrogateescape")) > MAX_ADDRESS_BYTES:
        return None
    local, at, domain = text.rpartition("@")
    if not at or not local or len(local.encode("utf-8", "surrogateescape")) > MAX_LOCAL_BYTES:
        return None
    if not _is_domain(domain) or not _is_local(local):
        return None
    return Address(local, domain.lower())


def _is_local(local: str) -> bool:
    if local.startswith('"'):
        inner = local[1:-1]
        bad = any(c < " " or c == "\x7f" for c in inner)
        return len(local) > 2 and local.endswith('"') and '"' not in inner and not bad
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return False
    return all(c in _ATEXT or c == "." or (ord(c) > 127 and c.isprintable()) for c in local)


def _is_domain(domain: str) -> bool:
    labels = domain.split(".")
    if len(labels) < 2:
        return False
    return all(
        0 < len(label) <= 63
        and not label.startswith("-")
        and not label.endswith("-")
        and all(c.isalnum() or c == "-" for c in label)
        for label in labels
    )

"""Return paths for mail that we pass on for others: the Sender Rewriting Scheme.

Mail passed on with its first return path fails SPF, since we are not a server of that domain. So it
leaves with a return path of ours in which the first one is written, and what comes back there is
sent on to it (Meng Wong 2003, Shevek 2004; the form is that of libsrs2 and postsrsd):

    SRS0=hash=day=first.domain=local@ours       SRS1=hash=first.forwarder==rest@ours

The second form is for a return path that another forwarder has rewritten: it leads back to that one
in a single step. The hash is an HMAC-SHA-256 of everything behind it and of the company, cut to 40
bits: a guess costs an SMTP conversation each, and a hit would send one bounce to one address. It is
compared without regard to case, which servers on the way may change. `day` is two base32 digits, so
that addresses end; SRS1 has none, because the first forwarder's own ends.

Pure.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mail.address import MAX_LOCAL_BYTES, Address, parse_address

LASTS = timedelta(days=21)
"""A bounce that comes later than this is about nothing that anybody still waits for."""

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DAY = 86_400
_ROUND = len(_DIGITS) ** 2
_HASH_BYTES = 5
_HASH_CHARS = 8
_SRS = re.compile(r"SRS([01])[=+-](.*)\Z", re.IGNORECASE | re.DOTALL)


class SrsProblem(StrEnum):
    """Why an address leads nowhere."""

    NOT_SRS = "not a rewritten address"
    FORGED = "the hash does not fit"
    EXPIRED = "the address has expired"


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Rewrites return paths and reads them back. `keys`: the first makes, any of them is good."""

    keys: tuple[bytes, ...]
    lasts: timedelta = LASTS

    def forward(self, sender: str, domain: str, company: int, now: datetime) -> str | None:
        """The return path at our `domain` for mail that came with the return path `sender`.

        The null return path stays null. None if there is no way to write it: no address, a quoted
        local part, or a result longer than RFC 5321 §4.5.3.1.1 allows.
        """
        if not sender:
            return ""
        address = parse_address(sender)
        if address is None or address.local.startswith('"'):
            return None
        written = _SRS.match(address.local)
        if written is None:
            host = _ascii(address.domain)
            rest = f"{_day(now)}={host}={address.local}"
            local = f"SRS0={self._hash('0', rest, company)}={rest}"
        else:
            rest = self._behind_us(written, address)
            local = f"SRS1={self._hash('1', rest, company)}={rest}"
        if len(local.encode("utf-8")) > MAX_LOCAL_BYTES:
            return None
        rewritten = parse_address(f"{local}@{domain}")
        return str(rewritten) if rewritten is not None else None

    def reverse(self, local: str, company: int, now: datetime) -> str | SrsProblem:
        """The address that one of our rewritten local parts stands for."""
        found = _SRS.match(local)
        if found is None or len(local.encode("utf-8", "surrogateescape")) > MAX_LOCAL_BYTES:
            return SrsProblem.NOT_SRS
        given, _, rest = found[2].partition("=")
        if len(given) != _HASH_CHARS or not rest:
            return SrsProblem.NOT_SRS
        form = found[1]
        fits = [
            hmac.compare_digest(_hashed(key, form, rest, company).encode(), _upper(given))
            for key in self.keys
        ]
        if not any(fits):
            return SrsProblem.FORGED
        return self._first(rest, now) if form == "0" else _first_forwarder(rest)

    def _first(self, rest: str, now: datetime) -> str | SrsProblem:
        day, _, rest = rest.partition("=")
        host, _, local = rest.partition("=")
        address = parse_address(f"{local}@{host}")
        if len(day) != 2 or address is None:
            return SrsProblem.NOT_SRS
        number = 0
        for digit in day.upper():
            at = _DIGITS.find(digit)
            if at < 0:
                return SrsProblem.NOT_SRS
            number = number * len(_DIGITS) + at
        age = (int(now.timestamp()) // _DAY - number) % _ROUND
        # Clocks of our machines may differ: an address of tomorrow is one of today.
        return str(address) if age <= self.lasts.days or age == _ROUND - 1 else SrsProblem.EXPIRED

    def _hash(self, form: str, rest: str, company: int) -> str:
        return _hashed(self.keys[0], form, rest, company)

    @staticmethod
    def _behind_us(written: re.Match[str], address: Address) -> str:
        """What SRS1 says: the first forwarder, and what stands behind `SRS0` in its address."""
        if written[1] == "0":
            separator = address.local[4]
            return f"{_ascii(address.domain)}={separator}{written[2]}"
        _, _, rest = written[2].partition("=")  # The second forwarder's hash is nothing to us.
        return rest


def is_rewritten(address: str) -> bool:
    """Whether an address or a local part has the form, whoever made it."""
    return _SRS.match(address) is not None


def _first_forwarder(rest: str) -> str | SrsProblem:
    host, _, behind = rest.partition("=")
    address = parse_address(f"SRS0{behind}@{host}")
    if address is None or not _SRS.match(address.local):
        return SrsProblem.NOT_SRS
    return str(address)


def _hashed(key: bytes, form: str, rest: str, company: int) -> str:
    said = f"{form}\0{company}\0{rest.lower()}".encode("utf-8", "surrogateescape")
    return base64.b32encode(hmac.digest(key, said, "sha256")[:_HASH_BYTES]).decode("ascii")


def _day(now: datetime) -> str:
    number = int(now.timestamp()) // _DAY % _ROUND
    return _DIGITS[number // len(_DIGITS)] + _DIGITS[number % len(_DIGITS)]


def _upper(text: str) -> bytes:
    return text.upper().encode("utf-8", "surrogateescape")


def _ascii(domain: str) -> str:
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain

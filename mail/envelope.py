"""Who a message is from and for, apart from what its header says (RFC 5321 §2.3.1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT. `notify` and `original` are RFC 3461's NOTIFY and ORCPT, empty if not given."""

    address: str
    notify: tuple[str, ...] = ()
    original: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """MAIL and its RCPTs.

    `sender` is empty for the null return path. `ret` and `envelope_id` are RFC 3461's RET and
    ENVID; `require_tls` is RFC 8689's REQUIRETLS; `body` is 7BIT or 8BITMIME.
    """

    sender: str
    recipients: tuple[Recipient, ...] = ()
    body: str = ""
    utf8: bool = False
    require_tls: bool = False
    ret: str = ""
    envelope_id: str = ""

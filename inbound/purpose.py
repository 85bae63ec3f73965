"""What becomes of an arrived message: the kind of mail it is and the way it came, taken together.

The address says what a message is for (an approval, a wish to stop, a bounce), its content says
what it is. Machines never approve, unsubscribe or forward. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from inbound.analysis import Analysis
from inbound.headers import Mailbox
from inbound.kind import Kind
from mail.address import parse_address
from mail.tokens import Token, TokenKind

MAX_HOPS = 50
"""Received headers. RFC 5321 §6.3 has relays allow 100 and more; few mails pass 20."""

MAX_PEOPLE = 50


class Purpose(StrEnum):
    """What is done with a message."""

    APPROVAL = "approval"
    BOUNCE = "bounce"
    DELAYED = "delayed"
    COMPLAINT = "complaint"
    ABSENCE = "absence"
    AUTOMATIC = "automatic"
    UNSUBSCRIBE = "unsubscribe"
    FORWARD = "forward"
    REPLY = "reply"
    LOOP = "loop"
    REPORT = "report"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a forward reached. `address` is canonical; `where` it was found."""

    address: str
    name: str
    where: str


def purpose_of(
    analysis: Analysis, tokens: Sequence[Token], *, passed_on: bool, null_sender: bool
) -> Purpose:
    """What to do. `passed_on`: our address is only in copy (see `only_in_copy`)."""
    kinds = {token.kind for token in tokens}
    kind = analysis.verdict.kind
    parsed = analysis.parsed
    if len(parsed.all("received")) > MAX_HOPS:
        return Purpose.LOOP
    simple = {
        Kind.BOUNCE: Purpose.BOUNCE,
        Kind.DELAYED: Purpose.DELAYED,
        Kind.COMPLAINT: Purpose.COMPLAINT,
        Kind.DMARC_REPORT: Purpose.REPORT,
        Kind.TLS_REPORT: Purpose.REPORT,
    }
    if kind in simple:
        return simple[kind]
    automatic = parsed.header("auto-submitted").lower().split(";")[0].strip() not in ("", "no")
    if kind is Kind.AUTO_REPLY:
        absent = analysis.auto_reply is None or analysis.auto_reply.absence
        return Purpose.ABSENCE if absent else Purpose.AUTOMATIC
    if automatic:
        return Purpose.AUTOMATIC
    if TokenKind.APPROVAL in kinds:
        return Purpose.APPROVAL
    if TokenKind.UNSUBSCRIBE in kinds:
        return Purpose.UNSUBSCRIBE
    if kind is Kind.OTHER:
        # Whatever the empty sender sends to a return path speaks of a delivery.
        to_path = TokenKind.BOUNCE in kinds and null_sender
        return Purpose.BOUNCE if to_path else Purpose.OTHER
    if kind is Kind.FORWARD or passed_on or TokenKind.FORWARD in kinds:
        return Purpose.FORWARD
    return Purpose.REPLY


def only_in_copy(to: Sequence[Mailbox], ours: Callable[[str], bool]) -> bool:
    """Whether a message went to other people with us in Cc (or Bcc): then it was passed on."""
    return bool(to) and not any(ours(mailbox.address) for mailbox in to)


def people_reached(
    analysis: Analysis, ours: Callable[[str], bool], *, but: Iterable[str]
) -> list[Person]:
    """The people whom a forward reached, with where they were found.

    Our own addresses and those in `but` (who forwarded, who wrote first) are left out.
    """
    parsed = analysis.parsed
    places = [("To", parsed.to), ("Cc", parsed.cc)]
    if analysis.forward is not None:
        forward = analysis.forward
        sender = (forward.sender,) if forward.sender else ()
        places += [
            ("forwarded From", (*sender, *forward.hops)),
            ("forwarded To", forward.to),
            ("forwarded Cc", forward.cc),
        ]
    left_out = {address.lower() for address in but}
    found: dict[str, Person] = {}
    for where, mailboxes in places:
        for mailbox in mailboxes:
            address = parse_address(mailbox.address)
            if address is None or address.canonical in left_out or ours(address.canonical):
                continue
            found.setdefault(
                address.canonical, Person(address.canonical, mailbox.name[:100], where)
            )
    return list(found.values())[:MAX_PEOPLE]

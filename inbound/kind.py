"""What kind of mail this is, decided before anything is cut from it.

Report parts first, then evidence of a bounce, a complaint, an absence, another machine; what is
left is a person's. The order matters: many bounces call themselves automatic answers, and a person
who quotes a bounce is a person. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inbound.auto_reply import AutoReply
from inbound.bounce import BounceReport
from inbound.complaint import Complaint
from inbound.forward import Forward
from inbound.languages import fold
from inbound.parse import ParsedMessage


class Kind(StrEnum):
    """The kinds of mail that come back."""

    REPLY = "reply"
    FORWARD = "forward"
    BOUNCE = "bounce"
    DELAYED = "delayed"
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto_reply"
    UNSUBSCRIBE = "unsubscribe"
    DMARC_REPORT = "dmarc_report"
    TLS_REPORT = "tls_report"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A kind, how sure that is (0 to 1), and why."""

    kind: Kind
    certainty: float
    reasons: tuple[str, ...]


def machine_kind(
    message: ParsedMessage, bounces: BounceReport | None, complaint: Complaint | None
) -> Verdict | None:
    """The verdict for reports, complaints and bounces, or None if it is none of them."""
    if message.report_type == "tlsrpt" or any("tlsrpt" in kind for kind in message.content_types):
        return Verdict(Kind.TLS_REPORT, 0.98, ("it is a TLS report (RFC 8460)",))
    if complaint is not None:
        return Verdict(Kind.COMPLAINT, 0.98, (f"a feedback report: {complaint.feedback_type}",))
    if _dmarc(message):
        return Verdict(Kind.DMARC_REPORT, 0.95, ("it carries a DMARC aggregate report",))
    if bounces is not None:
        if bounces.success:
            return Verdict(Kind.OTHER, bounces.certainty, ("it reports a delivery that went well",))
        failed = [bounce for bounce in bounces.bounces if not bounce.delayed]
        kind = Kind.BOUNCE if failed or not bounces.bounces else Kind.DELAYED
        return Verdict(kind, bounces.certainty, bounces.reasons)
    if message.report_type == "disposition-notification":
        return Verdict(Kind.OTHER, 0.95, ("it is a read receipt (RFC 8098)",))
    if any(part.content_type == "message/disposition-notification" for part in message.reports):
        return Verdict(Kind.OTHER, 0.95, ("it is a read receipt (RFC 8098)",))
    return None


def _dmarc(message: ParsedMessage) -> bool:
    subject = fold(message.subject)
    named = any(
        attachment.name.count("!") >= 2
        and attachment.name.lower().endswith((".gz", ".zip", ".xml"))
        for attachment in message.attachments
    )
    return named or ("report domain:" in subject and "submitter:" in subject)


def person_kind(
    message: ParsedMessage,
    auto_reply: AutoReply | None,
    forward: Forward | None,
    stop: str,
) -> Verdict:
    """The verdict for what is no report: an automatic answer, a list's mail, or a person's."""
    if auto_reply is not None and (forward is None or auto_reply.certainty >= 0.9):
        return Verdict(Kind.AUTO_REPLY, auto_reply.certainty, auto_reply.reasons)
    if forward is not None:
        return Verdict(Kind.FORWARD, forward.certainty, ("it passes on another message",))
    if stop:
        return Verdict(Kind.UNSUBSCRIBE, 0.9, (f"the author writes {stop!r}",))
    if message.sender is None:
        return Verdict(Kind.OTHER, 0.6, ("it names no sender",))
    answers = bool(message.in_reply_to or message.references)
    precedence = message.header("precedence").lower()
    if not answers and (precedence in ("bulk", "junk") or message.raw_header("list-unsubscribe")):
        return Verdict(Kind.OTHER, 0.8, ("bulk mail that answers nothing",))
    if answers:
        return Verdict(Kind.REPLY, 0.95, ("it answers a message",))
    return Verdict(Kind.REPLY, 0.7, ("a person seems to have written it",))

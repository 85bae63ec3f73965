"""Spam reports: somebody pressed the button. ARF (RFC 5965) and the forms that are not. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from inbound import headers
from inbound.languages import fold
from inbound.parse import ParsedMessage


@dataclass(frozen=True, slots=True)
class Complaint:
    """One report about one of our messages."""

    feedback_type: str
    original_recipient: str = ""
    original_message_id: str = ""
    user_agent: str = ""
    source_ip: str = ""


def find_complaint(message: ParsedMessage) -> Complaint | None:
    """The complaint a message carries, or None."""
    for part in message.reports:
        if part.content_type != "message/feedback-report":
            continue
        fields = {name: value for group in reversed(part.groups) for name, value in reversed(group)}
        recipient, message_id = _original(message)
        given = headers.addresses(fields.get("original-rcpt-to", ""))
        return Complaint(
            fields.get("feedback-type", "").strip().lower() or "abuse",
            given[0].address if given else recipient,
            message_id,
            fields.get("user-agent", ""),
            fields.get("source-ip", ""),
        )
    sender = message.sender.address.lower() if message.sender else ""
    subject = fold(message.subject)
    junk = subject.startswith("complaint about message from")
    if (junk or message.raw_header("x-hmxmroriginalrecipient")) and (
        "hotmail" in sender or "outlook" in sender or "microsoft" in sender or "staff@" in sender
    ):
        recipient, message_id = _original(message)
        told = headers.addresses(message.raw_header("x-hmxmroriginalrecipient"))
        return Complaint("abuse", told[0].address if told else recipient, message_id)
    if message.report_type == "feedback-report":
        recipient, message_id = _original(message)
        return Complaint("abuse", recipient, message_id)
    return None


def _original(message: ParsedMessage) -> tuple[str, str]:
    for nested in message.nested:
        to = nested.header("x-hmxmroriginalrecipient")
        told = headers.addresses(to) or nested.to
        return (told[0].address if told else ""), nested.message_id
    for part in message.reports:
        if "headers" in part.content_type and part.groups:
            fields = dict(reversed(part.groups[0]))
            told = headers.addresses(fields.get("to", ""))
            found = headers.message_ids(fields.get("message-id", ""))
            return (told[0].address if told else ""), next(iter(found), "")
    return "", ""

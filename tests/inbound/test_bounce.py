"""Reports and notes about deliveries: who, why, and for good or not."""

from __future__ import annotations

import pytest

from inbound.analysis import analyse
from inbound.bounce import classify
from tests.inbound.letters import letter, report


def test_a_delivery_report_is_read_recipient_by_recipient() -> None:
    status = (
        "Reporting-MTA: dns; mx.test\n\n"
        "Original-Recipient: rfc822;carl@there.test\nFinal-Recipient: rfc822; c.third@in.test\n"
        "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 User unknown\n\n"
        "Final-Recipient: rfc822; dora@there.test\nAction: delayed\nStatus: 4.2.2\n"
        "Diagnostic-Code: smtp; 452 4.2.2 over quota\n\n"
        "Final-Recipient: rfc822; emil@there.test\nAction: relayed\nStatus: 2.0.0\n"
    )
    found = analyse(report(status))
    assert found.verdict.kind == "bounce"
    first, second = found.bounces
    assert (first.recipient, first.status, first.code) == ("carl@there.test", "5.1.1", 550)
    assert (first.reason, first.hard, first.delayed) == ("bad_mailbox", True, False)
    assert (second.reason, second.hard, second.delayed) == ("full", False, True)
    assert found.original_message_id == "sent-1@ours.test"


def test_a_report_of_delay_only_is_kept_apart_and_of_success_is_none() -> None:
    block = "Reporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; a@b.test\nAction: {}\nStatus: {}\n"
    assert analyse(report(block.format("delayed", "4.4.1"))).verdict.kind == "delayed"
    assert analyse(report(block.format("delivered", "2.0.0"))).verdict.kind == "other"


NOTES = [
    ("failure notice",
     "Hi. This is the qmail-send program at x.test.\nI'm sorry.\n\n"
     "<carl@there.test>:\n1.2.3.4 does not like recipient.\n"
     "Remote host said: 550 5.1.1 No such user\n\n--- Below this line is a copy\n\n"
     "Return-Path: <x>\n"
     "Message-ID: <sent-2@ours.test>\n"),
    ("Mail delivery failed: returning message to sender",
     "This message was created automatically.\n"
     "A message that you sent could not be delivered. This is a permanent error:"
     "\n\n"
     "  carl@there.test\n    host mx.there.test [1.2.3.4]\n    SMTP error from remote mail server: "
     "550 5.1.1 user unknown\n\n------ This is a copy of the message\n"
     "Message-ID: <sent-2@ours.test>"),
    ("Undelivered Mail Returned to Sender", "This is the mail system at host mx.test.\n\n"
     "<carl@there.test>: host mx.there.test said: 550 5.1.1 Recipient address rejected:\n"
     "    User unknown (in reply to RCPT TO)\n\nMessage-ID: <sent-2@ours.test>\n"),
    ("Undeliverable: Offer", "Your message did not reach some or all of the recipients.\n\n"
     "carl@there.test\nThe email address you entered couldn't be found.\n"
     "#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##\n\nMessage-ID: <sent-2@ours.test>\n"),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "note"), NOTES)
def test_a_note_in_words_names_the_recipient_and_the_reason(subject: str, note: str) -> None:
    found = analyse(letter(note, subject=subject, sender="MAILER-DAEMON@mx.test", Return_Path="<>"))
    assert found.verdict.kind == "bounce"
    (bounce,) = found.bounces
    assert (bounce.recipient, bounce.status, bounce.code) == ("carl@there.test", "5.1.1", 550)
    assert (bounce.reason, bounce.hard) == ("bad_mailbox", True)
    assert found.original_message_id == "sent-2@ours.test"


@pytest.mark.parametrize(
    ("status", "code", "text", "reason"),
    [
        ("5.4.1", 550, "Recipient address rejected: Access denied", "bad_mailbox"),
        ("5.7.1", 550, "blocked using zen.spamhaus.org", "policy"),
        ("5.7.26", 550, "message does not pass DMARC", "policy"),
        ("5.2.2", 552, "mailbox full", "full"),
        ("5.3.4", 552, "message size exceeds fixed limit", "too_big"),
        ("5.1.2", None, "Host or domain name not found", "bad_domain"),
        ("5.0.0", 550, "This account has been disabled", "inactive"),
        ("4.7.0", 421, "Try again later, too many connections", "throttled"),
        ("4.4.1", None, "connection timed out", "infrastructure"),
        ("5.0.0", 554, "message looks like spam", "content"),
        ("", None, "?", "unknown"),
    ],
)
def test_the_class_comes_from_the_words_then_the_status(
    status: str, code: int | None, text: str, reason: str
) -> None:
    assert classify(status, code, text) == reason


def test_a_person_who_writes_about_a_bounce_is_a_person() -> None:
    text = (
        "My mail to carl@there.test came back: 550 5.1.1 user unknown. It could not be delivered."
    )
    found = analyse(letter(text, subject="Re: Undeliverable: Offer"))
    assert found.verdict.kind == "reply"
    assert found.bounces == ()


def test_a_complaint_names_the_recipient() -> None:
    found = analyse(
        report(
            "Feedback-Type: abuse\nVersion: 1\nOriginal-Rcpt-To: <carl@there.test>\n",
            kind="feedback-report",
        )
    )
    assert found.verdict.kind == "complaint"
    assert found.complaint is not None
    assert found.complaint.feedback_type == "abuse"
    assert found.complaint.original_recipient == "carl@there.test"
    assert found.original_message_id == "sent-1@ours.test"

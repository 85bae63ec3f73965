"""Delivery reports: who gets one, and what a program reads out of it again."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inbound.bounce import BounceReport, find_bounces
from inbound.parse import parse
from mta.notices import (
    Action,
    Origin,
    Report,
    auto_submitted,
    is_owed,
    make_dsn,
    origin_of,
)
from tests.conftest import MONDAY

ORIGINAL = (
    b"Received: from app by mail.acme.test; Mon, 23 Nov 2026 09:00:00 +0000\r\n"
    b"From: Shop <shop@acme.test>\r\nTo: ann@customer.test\r\nSubject: Your order\r\n"
    b"Message-ID: <order-1@acme.test>\r\n\r\nIt is on its way.\r\n"
)
FAILED = Report(
    action=Action.FAILED,
    recipient="ann@customer.test",
    origin=Origin("shop@acme.test"),
    submitted_at=MONDAY,
    attempted_at=MONDAY + timedelta(minutes=1),
    code=550,
    said="5.1.1 no such user here",
    reason="bad mailbox",
    remote="mx.customer.test",
    subject="Your order",
    original=ORIGINAL,
)


def dsn(report: Report = FAILED, max_returned: int = 1 << 16, **changes: Any) -> bytes:
    return make_dsn(
        replace(report, **changes),
        at=MONDAY + timedelta(hours=1),
        host="mail.acme.test",
        domain="acme.test",
        message_id="<report-1@acme.test>",
        max_returned=max_returned,
    )


def read(raw: bytes) -> EmailMessage:
    made = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(made, EmailMessage)
    return made


def bounces(raw: bytes) -> BounceReport:
    found = find_bounces(parse(raw))
    assert found is not None
    return found


def status_fields(raw: bytes) -> dict[str, str]:
    part = list(read(raw).iter_parts())[1]
    blocks = part.get_payload()
    return {name: str(value) for block in blocks for name, value in block.items()}


@pytest.mark.parametrize(
    ("notify", "action", "owed"),
    [
        ((), Action.FAILED, True),
        ((), Action.DELAYED, True),
        ((), Action.RELAYED, False),
        (("NEVER",), Action.FAILED, False),
        (("NEVER",), Action.RELAYED, False),
        (("FAILURE",), Action.FAILED, True),
        (("FAILURE",), Action.DELAYED, False),
        (("SUCCESS",), Action.FAILED, False),
        (("SUCCESS",), Action.RELAYED, True),
        (("SUCCESS", "DELAY"), Action.DELAYED, True),
        (("NEVER", "FAILURE"), Action.FAILED, False),
    ],
)
def test_notify_decides(notify: tuple[str, ...], action: Action, owed: bool) -> None:
    assert is_owed(Origin("shop@acme.test", notify), action) is owed


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("sender", ["", "<>", "nobody", "a@b@c", "x y@acme.test"])
def test_nobody_is_told_without_an_address(sender: str, action: Action) -> None:
    asked = Origin(sender.strip("<>"), ("SUCCESS", "FAILURE", "DELAY"))
    assert not is_owed(asked, action)


@pytest.mark.parametrize(
    ("said", "plain", "asked"),
    [
        ("", True, True),
        ("no", True, True),
        ("No; comment=x", True, True),
        ("auto-generated", False, True),
        ("auto-replied", False, False),
        ("Auto-Replied (vacation)", False, False),
        ("something new", False, True),
    ],
)
def test_automatic_mail_is_reported_only_when_asked(said: str, plain: bool, asked: bool) -> None:
    sender = "shop@acme.test"
    assert is_owed(Origin(sender), Action.FAILED, auto_submitted=said) is plain
    asking = Origin(sender, ("FAILURE",))
    assert is_owed(asking, Action.FAILED, auto_submitted=said) is asked


def test_one_of_several_headers_is_enough() -> None:
    raw = b"Auto-Submitted: no\r\nauto-submitted:  auto-replied\r\n\r\nx"
    assert auto_submitted(raw) == "auto-replied"
    assert auto_submitted(ORIGINAL) == ""


def test_the_envelope_is_read_back() -> None:
    kept = {
        "sender": "<shop@acme.test>",
        "notify": ["failure", "delay"],
        "original": "rfc822;ann@customer.test",
        "ret": "full",
        "id": "a+2Bb",
    }
    assert origin_of({"envelope": kept}) == Origin(
        "shop@acme.test", ("FAILURE", "DELAY"), "rfc822;ann@customer.test", "FULL", "a+2Bb"
    )
    assert origin_of({}) is None
    assert origin_of(None) is None
    assert origin_of({"envelope": {"sender": None, "notify": "x"}}) == Origin("")


def test_a_failure_is_read_by_program_and_person() -> None:
    raw = dsn(origin=Origin("shop@acme.test", original="rfc822;Ann+1@old.test", id="q=7"))
    assert raw.isascii()
    made = read(raw)
    assert made.get_content_type() == "multipart/report"
    assert made.get_param("report-type") == "delivery-status"
    assert made["To"] == "shop@acme.test"
    assert "mailer-daemon@acme.test" in made["From"]
    assert made["Auto-Submitted"] == "auto-replied"
    assert made["Subject"] == "Not delivered: Your order"
    assert made["In-Reply-To"] == made["References"] == "<order-1@acme.test>"
    assert [part.get_content_type() for part in made.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    text = next(iter(made.iter_parts())).get_content()
    assert "The mail server of customer.test knows no mailbox ann@customer.test." in text
    assert "550 5.1.1 no such user here" in text
    fields = status_fields(raw)
    assert fields["Original-Envelope-Id"] == "q=7"
    assert fields["Reporting-MTA"] == "dns; mail.acme.test"
    assert fields["Original-Recipient"] == "rfc822; Ann+1@old.test"
    assert fields["Final-Recipient"] == "rfc822; ann@customer.test"
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert fields["Remote-MTA"] == "dns; mx.customer.test"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user here"
    assert "Will-Retry-Until" not in fields


def test_our_own_reader_ties_it() -> None:
    found = bounces(dsn())
    (bounce,) = found.bounces
    assert (bounce.recipient, bounce.status, bounce.code) == ("ann@customer.test", "5.1.1", 550)
    assert bounce.hard
    assert not bounce.delayed
    assert found.original_message_id == "order-1@acme.test"
    assert found.original_recipient == "ann@customer.test"


def test_a_delay_says_until_when() -> None:
    until = MONDAY + timedelta(days=5)
    raw = dsn(action=Action.DELAYED, code=451, said="4.2.1 later", retry_until=until)
    fields = status_fields(raw)
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.2.1")
    assert fields["Will-Retry-Until"] == "Sat, 28 Nov 2026 09:00:00 +0000"
    assert bounces(raw).bounces[0].delayed
    assert "still being tried" in parse(raw).text


def test_a_success_is_no_bounce() -> None:
    raw = dsn(action=Action.RELAYED, code=250, said="2.0.0 queued")
    fields = status_fields(raw)
    assert (fields["Action"], fields["Status"]) == ("relayed", "2.0.0")
    assert bounces(raw).success


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"said": "no such user"}, "5.1.1", "knows no mailbox"),
        ({"said": "no", "reason": "other"}, "5.0.0", "refused the message"),
        ({"said": "5.7.1 spam", "reason": "policy"}, "5.7.1", "rule of its own"),
        ({"said": "5.2.2 x", "reason": "mailbox full"}, "5.2.2", "is full"),
        ({"said": "5.3.4 x", "reason": "too big"}, "5.3.4", "larger than"),
        ({"said": "4.2.2 x", "reason": "expired: asked to wait"}, "4.2.2", "is full"),
        ({"said": "gone", "code": None, "reason": "expired: no answer"}, "4.4.7", "never took it"),
        (
            {"said": "", "code": None, "remote": "", "reason": "by Bo"},
            "5.0.0",
            "taken out of the queue",
        ),
        ({"said": "", "code": None, "reason": "suppressed: asked"}, "5.7.1", "does not write to"),
        ({"said": "", "code": None, "reason": "not sent: cap {x}"}, "5.7.1", "company: cap {x}."),
        ({"said": "2.0.0 odd", "reason": "bad domain"}, "5.1.2", "no such domain"),
    ],
)
def test_the_status_and_the_words_fit(changes: dict[str, Any], status: str, words: str) -> None:
    raw = dsn(**changes)
    assert status_fields(raw)["Status"] == status
    assert words in " ".join(parse(raw).text.split())


def test_ret_decides_what_comes_back() -> None:
    full = Origin("shop@acme.test", ret="FULL")
    whole = list(read(dsn(origin=full)).iter_parts())[2]
    assert whole.get_content_type() == "message/rfc822"
    assert ORIGINAL.replace(b"\r\n", b"\n") in dsn(origin=full).replace(b"\r\n", b"\n")
    for report in (
        dsn(origin=full, max_returned=100),
        dsn(origin=full, action=Action.DELAYED),
        dsn(origin=full, original=ORIGINAL + b"x" * 1200 + b"\r\n"),
        dsn(origin=Origin("shop@acme.test", ret="HDRS")),
    ):
        part = list(read(report).iter_parts())[2]
        assert part.get_content_type() == "text/rfc822-headers"
        assert "It is on its way" not in part.get_content()
        assert "Subject: Your order" in part.get_content()


def test_a_large_header_is_cut() -> None:
    raw = b"X-Long: " + b"y" * 500 + b"\r\n"
    made = dsn(original=ORIGINAL.replace(b"\r\n\r\n", b"\r\n" + raw * 1000 + b"\r\n", 1))
    assert len(made) < 48 << 10


def test_without_the_message_there_are_two_parts() -> None:
    assert len(list(read(dsn(original=None)).iter_parts())) == 2


def test_other_letters_are_spelled_in_numbers_for_plain_mailboxes() -> None:
    raw = dsn(
        recipient="dörte@bücher.test",
        origin=Origin("shop@acme.test", original="utf-8;d\\x{F6}rte@b\\x{FC}cher.test"),
        said="5.1.1 kein Bücherfreund",
    )
    assert raw.isascii()
    fields = status_fields(raw)
    assert fields["Final-Recipient"] == r"utf-8; d\x{F6}rte@xn--bcher-kva.test"
    assert fields["Original-Recipient"] == r"utf-8; d\x{F6}rte@b\x{FC}cher.test"
    assert bounces(raw).bounces[0].recipient == "dörte@bücher.test"


def test_other_letters_stand_as_they_are_for_mailboxes_that_take_them() -> None:
    raw = dsn(recipient="dörte@bücher.test", origin=Origin("jürgen@acme.test"))
    assert b"Content-Type: message/global-delivery-status" in raw
    assert "Final-Recipient: utf-8; dörte@bücher.test".encode() in raw
    assert bounces(raw).bounces[0].recipient == "dörte@bücher.test"


def test_a_header_in_other_letters_comes_back() -> None:
    original = "Subject: Grüße aus München\r\nMessage-ID: <g@acme.test>\r\n\r\nx\r\n".encode()
    raw = dsn(original=original)
    assert raw.isascii()
    assert bounces(raw).original_message_id == "g@acme.test"
    whole = dsn(original=original, origin=Origin("shop@acme.test", ret="FULL"))
    assert b"Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n" in whole
    assert bounces(whole).original_message_id == "g@acme.test"


def test_what_others_said_makes_no_field_of_its_own() -> None:
    evil = "5.1.1 no\r\nAction: delivered\r\n\r\nFinal-Recipient: rfc822; x@y.test\u2028\x85\x1b[1m"
    raw = dsn(said=evil, remote="mx\r\nEvil: 1", subject="A\r\nBcc: all@acme.test")
    fields = status_fields(raw)
    assert fields["Action"] == "failed"
    assert fields["Final-Recipient"] == "rfc822; ann@customer.test"
    assert "Evil" not in fields
    assert read(raw)["Bcc"] is None
    assert b"\x1b" not in raw


ANY = st.text(max_size=200)


@given(said=ANY, remote=ANY, subject=ANY, recipient=ANY, orcpt=ANY, envid=ANY, reason=ANY)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_in_the_report_is_well_formed(
    said: str, remote: str, subject: str, recipient: str, orcpt: str, envid: str, reason: str
) -> None:
    origin = Origin("shop@acme.test", (), f"rfc822;{orcpt}", "FULL", envid)
    raw = dsn(
        said=said, remote=remote, subject=subject, recipient=recipient, origin=origin, reason=reason
    )
    assert raw.isascii()
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    parts = list(read(raw).iter_parts())
    assert len(parts) == 3
    assert len(parts[1].get_payload()) == 2
    assert status_fields(raw)["Action"] == "failed"
    assert bounces(raw).bounces


@given(st.binary(max_size=3000), st.sampled_from(["FULL", "HDRS", ""]))
@settings(max_examples=150, deadline=None)
def test_whatever_is_returned_the_report_is_well_formed(original: bytes, ret: str) -> None:
    raw = dsn(original=original, origin=Origin("shop@acme.test", ret=ret))
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    parts = list(read(raw).iter_parts())
    assert len(parts) == 3
    assert bounces(raw).bounces[0].status == "5.1.1"

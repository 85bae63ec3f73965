"""Any bytes become a message; the slips of real senders are mended."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inbound.analysis import analyse
from inbound.parse import MAX_PARTS, parse
from inbound.stream import as_json, explain

HEAD = b"From: Ann <ann@example.test>\nSubject: x\nMIME-Version: 1.0\n"


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b"=?utf-8?B?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe_an?= =?utf-8?Q?_alle?=", "Grüße an alle"),
        (b"=?utf-8?B?R3LD?=\n =?utf-8?B?vMOfZQ==?=", "Grüße"),  # Cut inside a character.
        (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe an alle?=", "Grüße an alle"),  # Spaces inside.
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"=?x-unknown?Q?Gr=C3=BC?=", "Grü"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?utf-8?B?R3LDvMOfZQ?=", "Grüße"),  # No padding.
    ],
)
def test_subjects_are_read_as_meant(raw: bytes, subject: str) -> None:
    assert parse(b"Subject: " + raw + b"\n\nhi").subject == subject


def test_addresses_dates_and_identifiers() -> None:
    found = parse(
        b'From: "Doe, Ann" <ann@example.test>\nTo: bo@ours.test, team: carl@there.test;\n'
        b"Cc: (the boss) dora@there.test\nDate: Mon, 16 Dec 2024 09:00:00 +0100 (CET)\n"
        b"Message-ID: <1@example.test>\nIn-Reply-To: <0@ours.test>\n"
        b"References: <a@ours.test>\n <0@ours.test>\n\nhi"
    )
    assert found.sender is not None
    assert (found.sender.name, found.sender.address) == ("Doe, Ann", "ann@example.test")
    assert [box.address for box in found.to] == ["bo@ours.test", "carl@there.test"]
    assert found.cc[0].address == "dora@there.test"
    assert found.date == datetime(2024, 12, 16, 8, tzinfo=UTC)
    assert found.message_id == "1@example.test"
    assert found.references == ("a@ours.test", "0@ours.test")


@pytest.mark.parametrize(
    ("declared", "raw"),
    [
        ("us-ascii", "Größe".encode()),
        ("utf-8", "Größe".encode("cp1252")),
        ("iso-8859-1", "Größe".encode("latin-1")),
        ("no-such-charset", "Größe".encode()),
        ("base64", "Größe".encode()),
        ("koi8-r", "Размер".encode("koi8-r")),
        ("gb2312", "尺寸".encode("gb18030")),
    ],
)
def test_a_wrong_charset_is_mended(declared: str, raw: bytes) -> None:
    head = HEAD + f"Content-Type: text/plain; charset={declared}\n\n".encode()
    assert parse(head + raw).text in ("Größe", "Размер", "尺寸")


def test_a_wrong_boundary_is_mended() -> None:
    body = (
        b"--real\nContent-Type: text/plain\n\nhello\n"
        b"--real\nContent-Type: text/html\n\n<p>x\n--real--"
    )
    found = parse(HEAD + b"Content-Type: multipart/mixed; boundary=other\n\n" + body)
    assert (found.text, found.html) == ("hello", "<p>x")
    assert found.defects


def test_attachments_keep_their_names() -> None:
    body = (
        b"--b\n\nsee\n--b\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n"
        b"Content-Disposition: attachment; filename*0*=utf-8''Gr%C3%B6; filename*1*=%C3%9Fe.pdf\n\n"
        b"SGVsbG8=\n--b--\n"
    )
    found = parse(HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + body)
    (attachment,) = found.attachments
    assert (attachment.name, attachment.content_type) == ("Größe.pdf", "application/pdf")
    assert (attachment.content, attachment.size_bytes) == (b"Hello", 5)


def nested(depth: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level)
        for level in range(depth)
    )


HOSTILE = {
    "deep": HEAD + nested(3000) + b"\nhi",
    "parts": HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 20_000,
    "header": HEAD + b"X: " + b"a" * 10_000_000 + b"\n\nhi",
    "headers": HEAD + b"X: a\n" * 200_000 + b"\nhi",
    "addresses": b"To: " + b"a@b.test, " * 100_000 + b"\n\nhi",
    "parentheses": b"From: " + b"(" * 60_000 + b"\n\nhi",
    "marks": HEAD + b"\n" + b">" * 1_000_000,
    "quotes": HEAD + b"\n" + (b"> " * 50 + b"x\n") * 20_000,
    "attributions": HEAD + b"\n" + b"On 5 Jan 2024 10:00 \n" * 20_000,
    "labels": HEAD + b"\n" + b"From: a\n" * 30_000,
    "divs": HEAD + b"Content-Type: text/html\n\n" + b"<div>" * 200_000,
    "blockquotes": HEAD + b"Content-Type: text/html\n\n" + b"<blockquote><p>a" * 50_000,
    "signs": HEAD + b"\n" + b"a@" * 200_000,
    "digits": HEAD + b"\n\n-- \n" + b"1 " * 200_000,
    "forwards": HEAD + b"Content-Type: message/rfc822\n\n" * 500 + b"x" * 1_000_000,
    "words": HEAD + b"\n" + b"hello world " * 500_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_answered_in_time(name: str) -> None:
    analyse(b"From: a@b.test\n\nWords that are enough to load the language model once.\n")
    started = time.process_time()
    found = analyse(HOSTILE[name])
    bar = 2 if sys.gettrace() is None else 10  # Measuring coverage slows it down.
    assert time.process_time() - started < bar
    as_json(found)
    explain(found)


def test_limits_are_said() -> None:
    assert any("nested deeper" in defect for defect in parse(HOSTILE["deep"]).defects)
    assert any(f"more than {MAX_PARTS}" in defect for defect in parse(HOSTILE["parts"]).defects)
    assert any("was cut" in defect for defect in parse(HOSTILE["header"]).defects)


PIECES = st.sampled_from(
    [
        b"From: a@b.test\n", b"Subject: Fwd: =?utf-8?q?=C3", b"\n", b"\n\n", b"> ", b"On ",
        b"--b\n",
        b"wrote:\n", b"Content-Type: multipart/report; boundary=b\n", b"--b--\n", b"\xff\xfe",
        b"\0",
        b"Content-Type: message/delivery-status\n\n", b"Final-Recipient: rfc822;\n",
        b"Status: 5.\n",
        b"Content-Type: text/html; charset=utf-16\n\n", b"<blockquote type=cite>", b"<hr>",
        b"-- \n",
        b"Auto-Submitted: auto-replied\nDate: Mon, 16 Dec 2024 09:00:00 +0100\n", b"31.02.2025",
        b"&#x;",
        b"Content-Transfer-Encoding: base64\n", b"Content-Type: message/rfc822\n\n", b"+49 30 ",
        b":",
        "Von: Ä\nGesendet: é\nAn: x\nBetreff: y\n".encode(),
        b"---------- Forwarded message ------\n",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=2000, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.binary(max_size=3000), st.lists(PIECES, max_size=40).map(b"".join)))
def test_no_bytes_raise(raw: bytes) -> None:
    found = analyse(raw)
    assert not any("failed" in reason and "analysis" in reason for reason in found.reasons)
    as_json(found)
    explain(found)

"""The way of a message, as its Received fields tell it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from inbound.analysis import analyse
from inbound.parse import parse
from inbound.stream import explain
from inbound.trace import hops

RAW = (
    b"Received: from mx.a.example (mx.a.example [192.0.2.1]) by mail.b.example (Postfix)\r\n"
    b"\twith ESMTPS id 1; Mon, 23 Nov 2026 09:00:05 +0000\r\n"
    b"Received: from laptop ([10.0.0.2]) by mx.a.example with ESMTPSA;\r\n"
    b" Mon, 23 Nov 2026 09:00:00 +0000\r\n"
    b"From: ann@a.example\r\nSubject: Hello\r\n\r\nHello\r\n"
)


def test_the_way_is_told_from_the_beginning() -> None:
    first, second = hops(parse(RAW))
    assert (first.by, first.delay_seconds) == ("mx.a.example", 0)
    assert second.by.startswith("mail.b.example")
    assert second.delay_seconds == 5
    assert "mx.a.example, 5 s later" not in explain(analyse(RAW))
    assert "→ mail.b.example (Postfix), 5 s later" in explain(analyse(RAW))


def test_a_message_without_a_way_has_none() -> None:
    assert hops(parse(b"From: ann@a.example\r\n\r\nHello\r\n")) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=5))
def test_no_field_raises(fields: list[str]) -> None:
    raw = b"".join(b"Received: " + f.encode("utf-8", "replace") + b"\r\n" for f in fields)
    assert len(hops(parse(raw + b"\r\nHello"))) <= 50

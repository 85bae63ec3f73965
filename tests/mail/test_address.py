"""Addresses: what SMTP may carry, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.address import MAX_ADDRESS_BYTES, Address, parse_address


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Ann@Example.TEST", "ann@example.test"),
        ("  bo+tag@sub.example.test ", "bo+tag@sub.example.test"),
        ('"two words"@example.test', '"two words"@example.test'),
        ("jörg@müller.example", "jörg@müller.example"),
        ("r-aeaqc@reply.example.test", "r-aeaqc@reply.example.test"),
    ],
)
def test_a_mailbox_is_read(text: str, canonical: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert address.canonical == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@example.test",
        "ann@",
        "ann@localhost",
        "a..b@example.test",
        ".a@example.test",
        "a b@example.test",
        "a@exa mple.test",
        "a@-example.test",
        "a@example..test",
        'a"b@example.test',
        '"a"b"@example.test',
        "a@example.test\r\nRCPT TO:<x@y.z>",
        "x" * 65 + "@example.test",
        "a@" + "b" * 64 + ".test",
        "a@" + ("b" * 60 + ".") * 5 + "test",
        "<a@example.test>",
        "a,b@example.test",
    ],
)
def test_anything_else_is_not_a_mailbox(text: str) -> None:
    assert parse_address(text) is None


@given(st.text(max_size=300))
def test_no_text_raises_and_no_address_breaks_a_line(text: str) -> None:
    address = parse_address(text)
    if address is not None:
        assert isinstance(address, Address)
        assert len(str(address).encode()) <= MAX_ADDRESS_BYTES
        assert not any(c < " " for c in str(address))
        assert parse_address(str(address)) == address

"""Signatures are checked by another implementation, dkimpy."""

from __future__ import annotations

import base64

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.signing import DkimKey, DkimSigner, relaxed_body
from tests.conftest import MONDAY

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED = ed25519.Ed25519PrivateKey.generate()
SIGNER = DkimSigner("acme.test", (DkimKey("r1", RSA), DkimKey("e1", ED)))


def published(name: bytes, timeout: int = 5) -> bytes:
    """What DNS would say about our selectors."""
    if name.startswith(b"e1."):
        raw = ED.public_key().public_bytes_raw()
        return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(raw)
    spki = RSA.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(spki)


def both_verify(message: bytes) -> bool:
    signed = SIGNER.sign(message, MONDAY) + message
    return all(dkim.DKIM(signed).verify(idx=index, dnsfunc=published) for index in (0, 1))


LETTER = (
    b"From: Bo <bo@acme.test>\r\nTo: ann@customer.test\r\nSubject:  Long   one\r\n\tfolded \r\n"
    b"Date: Mon, 23 Nov 2026 09:00:00 +0000\r\nReply-To: r-x@reply.acme.test\r\n"
    b"Message-ID: <1@acme.test>\r\nReceived: one\r\nReceived: two\r\n\r\n"
    b"Hello  there \t \r\n\r\n two\r\n\r\n\r\n"
)


def test_both_signatures_verify() -> None:
    assert both_verify(LETTER)


def test_the_same_message_gets_the_same_signatures() -> None:
    assert SIGNER.sign(LETTER, MONDAY) == SIGNER.sign(LETTER, MONDAY)


@pytest.mark.parametrize("name", [b"From", b"Subject", b"To", b"Reply-To", b"List-Unsubscribe"])
def test_another_header_can_not_be_added(name: bytes) -> None:
    signed = name + b": evil@rival.test\r\n" + SIGNER.sign(LETTER, MONDAY) + LETTER
    assert not dkim.DKIM(signed).verify(idx=0, dnsfunc=published)


def test_a_changed_body_does_not_verify() -> None:
    signed = SIGNER.sign(LETTER, MONDAY) + LETTER.replace(b"two", b"too")
    with pytest.raises(dkim.ValidationError, match="body hash mismatch"):
        dkim.DKIM(signed).verify(idx=1, dnsfunc=published)


word = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
value = st.lists(word, min_size=1, max_size=12).flatmap(
    lambda words: st.lists(
        st.sampled_from([" ", "  ", "\t", "\r\n ", " \r\n\t"]),
        min_size=len(words),
        max_size=len(words),
    ).map(lambda gaps: "".join(g + w for g, w in zip(gaps, words, strict=True)))
)
names = st.sampled_from(["Subject", "To", "Cc", "X-Odd", "References", "List-Id", "REPLY-TO"])
lines = st.lists(st.text(st.sampled_from(" \tab.="), max_size=30), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, value), max_size=8), lines)
def test_any_headers_and_body_verify(headers: list[tuple[str, str]], body: list[str]) -> None:
    head = "".join(f"{name}:{text}\r\n" for name, text in headers)
    both = f"From: bo@acme.test\r\n{head}\r\n" + "".join(f"{line}\r\n" for line in body)
    assert both_verify(both.encode())


@given(st.binary(max_size=200))
def test_a_canonical_body_stays_as_it_is(body: bytes) -> None:
    once = relaxed_body(body)
    assert relaxed_body(once) == once


def test_a_line_of_spaces_costs_no_more_than_its_length() -> None:
    assert relaxed_body(b" " * 5_000_000 + b"\r\n") == b""

"""ARC sets are checked by another implementation, dkimpy, and its sets by ours."""

from __future__ import annotations

import base64
import time

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.arc import MAX_SETS, ArcSealer, Chain, read_chain, results_line, validate
from mta.signing import DkimKey, DkimSigner
from tests.conftest import MONDAY

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY = DkimKey("r1", RSA)
SPKI = RSA.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)
RECORD = "v=DKIM1; k=rsa; p=" + base64.b64encode(SPKI).decode()
PEM = RSA.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.NoEncryption(),
)
HOSTS = ("one.test", "two.test", "three.test")
KEYS: dict[str, str | None] = {f"r1._domainkey.{host}": RECORD for host in HOSTS}

LETTER = (
    b"Received: from x\r\n\tby y; Mon, 23 Nov 2026 09:00:00 +0000\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; d=customer.test; s=x;\r\n\th=from; bh=eA==; b=eA==\r\n"
    b"From: Ann <ann@customer.test>\r\nTo: r-abc@reply.acme.test\r\n"
    b"Subject:  Re:   Hello\r\n\tagain \r\nDate: Mon, 23 Nov 2026 09:00:00 +0000\r\n"
    b"Message-ID: <1@customer.test>\r\n\r\nYes,  please \t \r\n\r\n\r\n"
)
VERDICT = {
    "spf": "pass",
    "spf_domain": "customer.test",
    "dkim": [{"domain": "customer.test", "selector": "x", "result": "pass", "reason": ""}],
    "dmarc": "pass",
}


def published(name: bytes, timeout: int = 5) -> bytes:
    return RECORD.encode()


def sealed(message: bytes, host: str, cv: str | None = None) -> bytes:
    chain = read_chain(message)
    cv = cv or validate(message, chain, KEYS)[0]
    line = results_line(f"mail.{host}", VERDICT, sender="customer.test", cv=cv)
    return ArcSealer(host, KEY, line, cv, chain).sign(message, MONDAY) + message


def judged_by_dkimpy(message: bytes) -> bytes | None:
    found: bytes | None = dkim.arc_verify(message, dnsfunc=published)[0]
    return found


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_a_chain_holds_for_both(hops: int) -> None:
    message = LETTER
    for host in HOSTS[:hops]:
        message = sealed(message, host)
        message = b"Received: by " + host.encode() + b"\r\n" + message
    assert judged_by_dkimpy(message) == b"pass"
    assert validate(message, read_chain(message), KEYS) == (
        "pass",
        f"{hops} of {hops} seals hold",
    )
    assert message.endswith(LETTER)


def test_chains_of_others_hold_and_grow() -> None:
    message = LETTER
    for number, host in enumerate(HOSTS[:2]):
        cv = b"" if number == 0 else b"; arc=pass"
        results = b"Authentication-Results: mail." + host.encode() + b"; spf=pass" + cv + b"\r\n"
        message = results + message
        lines = dkim.arc_sign(message, b"r1", host.encode(), PEM, b"mail." + host.encode())
        message = b"".join(lines) + message
    message = message.replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n")
    assert judged_by_dkimpy(message) == b"pass"
    assert validate(message, read_chain(message), KEYS)[0] == "pass"
    longer = sealed(message, HOSTS[2])
    assert judged_by_dkimpy(longer) == b"pass"
    assert len(read_chain(longer).sets) == 3


def test_dkim_in_front_does_not_hurt_the_chain() -> None:
    message = sealed(LETTER, "one.test")
    signed = DkimSigner("one.test", (KEY,)).sign(message, MONDAY) + message
    assert dkim.DKIM(signed).verify(idx=0, dnsfunc=published)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Yes,", b"No,"),
        (b"Subject:  Re:", b"Subject:  Fwd:"),
        (b"cv=none", b"cv=pass"),
        (b"spf=pass", b"spf=fail"),
        (b" i=1; a=rsa-sha256; c=", b" i=1; a=rsa-sha1; c="),
    ],
)
def test_what_was_changed_is_noticed(old: bytes, new: bytes) -> None:
    message = sealed(sealed(LETTER, "one.test"), "two.test")
    assert old in message
    changed = message.replace(old, new)
    assert validate(changed, read_chain(changed), KEYS)[0] == "fail"


def test_an_older_message_signature_may_break_but_no_seal() -> None:
    message = sealed(LETTER, "one.test").replace(b"Yes,", b"Well, yes,")
    chain = read_chain(message)
    assert validate(message, chain, KEYS)[0] == "fail"
    resealed = sealed(message, "two.test", cv="pass")  # As if the first one had held there.
    assert validate(resealed, read_chain(resealed), KEYS)[0] == "pass"
    assert judged_by_dkimpy(resealed) == b"pass"


def test_a_failed_chain_is_sealed_once_and_ends() -> None:
    broken = sealed(LETTER, "one.test").replace(b"Yes,", b"No,")
    message = sealed(broken, "two.test")
    assert b"cv=fail" in message
    chain = read_chain(message)
    assert chain.ended
    assert validate(message, chain, KEYS) == ("fail", "the chain had failed before")
    assert sealed(message, "three.test") == message


def test_keys_that_are_not_there_fail() -> None:
    message = sealed(LETTER, "one.test")
    for keys in ({}, {"r1._domainkey.one.test": None}, {"r1._domainkey.one.test": "p="}):
        assert validate(message, read_chain(message), keys)[0] == "fail"
    assert read_chain(message).key_names == ["r1._domainkey.one.test"]


def test_there_are_no_more_than_fifty_sets() -> None:
    full = Chain((), "", MAX_SETS)
    assert ArcSealer("one.test", KEY, "x", "none", full).sign(LETTER, MONDAY) == b""


def test_without_sets_there_is_no_chain() -> None:
    assert validate(LETTER, read_chain(LETTER), {}) == ("none", "there is no chain")


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.replace(b"ARC-Seal:", b"X-Seal:", 1),
        lambda m: m.replace(b" i=2;", b" i=3;"),
        lambda m: m.replace(b" i=1;", b" i=x;"),
        lambda m: m.replace(b" i=1;", b" i=51;"),
        lambda m: b"ARC-Seal: i=1; a=x\r\n" + m,
        lambda m: m.replace(b"d=one.test", b"d=one test"),
        lambda m: b"ARC-Seal: " + b"x" * 300_000 + b"\r\n" + m,
    ],
)
def test_what_is_no_chain_fails_with_a_cause(damage: object) -> None:
    message = damage(sealed(sealed(LETTER, "one.test"), "two.test"))  # type: ignore[operator]
    chain = read_chain(message)
    assert chain.problem
    assert validate(message, chain, KEYS)[0] == "fail"


def test_results_hold_nothing_but_names_and_results() -> None:
    evil = {
        "spf": "pass; dmarc=pass",
        "spf_domain": "a.test\r\nX: y",
        "dkim": [{"domain": "b.test;", "selector": "s", "result": "pass"}, {}],
        "dmarc": None,
    }
    line = results_line("mail.acme.test", evil, sender="c.test (x)", cv="none")
    assert line.split(";\r\n\t") == [
        "mail.acme.test", "spf=none", "dkim=pass", "dmarc=none", "arc=none"
    ]  # fmt: skip
    good = results_line("mail.acme.test", VERDICT, sender="customer.test", cv="none")
    assert "dkim=pass header.d=customer.test header.s=x" in good
    assert "spf=pass smtp.mailfrom=customer.test" in good
    assert "dmarc=pass header.from=customer.test" in good


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_bytes_of_strangers_do_harm(data: bytes) -> None:
    for raw in (
        data,
        b"ARC-Seal:" + data,
        b"ARC-Seal: i=1; " + data + b"\r\nARC-Message-Signature: i=1;" + data
        + b"\r\nARC-Authentication-Results: i=1;" + data + b"\r\n\r\nx",
    ):  # fmt: skip
        status, reason = validate(raw, read_chain(raw), KEYS)
        assert status in ("none", "fail")
        assert reason


@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b".", b"\xff"]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_body_can_be_sealed(pieces: list[bytes]) -> None:
    message = b"From: ann@customer.test\r\n\r\n" + b"".join(pieces)
    done = sealed(message, "one.test")
    assert validate(done, read_chain(done), KEYS)[0] == "pass"


def test_long_gaps_cost_no_time() -> None:
    message = sealed(LETTER + b" " * 2_000_000 + b"x\r\n", "one.test")
    header = b"X-Gap:" + b" " * 200_000 + b"x\r\n"
    began = time.process_time()
    assert validate(header + message, read_chain(header + message), KEYS)[0] == "pass"
    folds = b"Subject: a" + b"\r\n " * 60_000 + b"\r\n"
    read_chain(folds + message)
    assert time.process_time() - began < 2

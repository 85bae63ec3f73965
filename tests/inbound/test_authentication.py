"""Who may act: real signatures, played name servers, and the traps of RFC 8301."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence
from functools import cache

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dkim.canonicalization import compress_whitespace, strip_trailing_whitespace
from hypothesis import given
from hypothesis import strategies as st

from inbound import authentication
from inbound.authentication import (
    Envelope,
    Login,
    authenticate,
    is_aligned,
    organisational_domain,
)
from inbound.signatures import relaxed_body, verify
from mail.errors import TemporaryError
from mta.resolver import MxRecord

LETTER = (
    b"From: Ann Lee <ann@example.com>\r\n"
    b"To: r-abc@reply.ours.test\r\n"
    b"Subject: Re: Tea  \r\n"
    b"\r\n"
    b"Yes  please. \r\n\r\n\r\n"
)


class World:
    """Name servers that know what a test tells them."""

    def __init__(self, **texts: Sequence[str]) -> None:
        self.texts: dict[str, Sequence[str]] = dict(texts)
        self.hosts: dict[str, list[str]] = {}
        self.exchanges: dict[str, list[MxRecord]] = {}
        self.names: dict[str, list[str]] = {}
        self.away: set[str] = set()
        self.silences = 0
        self.asked: list[str] = []

    async def txt(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if self.silences:
            self.silences -= 1
            raise TemporaryError("no name server answers")
        if name in self.away:
            raise TemporaryError("no name server answers")
        return self.texts.get(name, [])

    async def mx(self, name: str) -> Sequence[MxRecord]:
        return self.exchanges.get(name, [])

    async def addresses(self, name: str) -> Sequence[str]:
        return self.hosts.get(name, [])

    async def ptr(self, address: str) -> Sequence[str]:
        return self.names.get(address, [])


@cache
def _pair(bits: int) -> tuple[bytes, str]:
    key = rsa.generate_private_key(65537, bits)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem, "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()


def signed(
    letter: bytes = LETTER,
    *,
    domain: str = "example.com",
    bits: int = 1024,
    body: bytes = b"relaxed",
    algorithm: bytes = b"rsa-sha256",
    length: bool = False,
    headers: list[bytes] | None = None,
) -> tuple[bytes, dict[str, Sequence[str]]]:
    """The letter signed for a domain, and what its name servers then say."""
    pem, record = _pair(bits)
    header = dkim.sign(
        letter,
        b"s1",
        domain.encode(),
        pem,
        canonicalize=(b"relaxed", body),
        signature_algorithm=algorithm,
        length=length,
        include_headers=headers or [b"from", b"to", b"subject"],
    )
    return header + letter, {f"s1._domainkey.{domain}": [record]}


async def test_a_signed_letter_may_act_for_its_sender() -> None:
    raw, texts = signed()
    verdict = await authenticate(raw, Envelope(), World(**texts))
    assert [s.result for s in verdict.dkim] == ["pass"]
    assert (verdict.may_act, verdict.acts_as) == (True, "ann@example.com")
    assert (verdict.spf, verdict.dmarc, verdict.aligned_domain) == ("none", "none", "example.com")
    assert verdict.as_json()["may_act"] is True


async def test_a_changed_letter_may_not() -> None:
    raw, texts = signed()
    verdict = await authenticate(raw.replace(b"Yes", b"No "), Envelope(), World(**texts))
    assert verdict.dkim[0].result == "fail"
    assert not verdict.may_act
    assert not verdict.uncertain


async def test_somebody_elses_signature_does_not_speak_for_the_sender() -> None:
    raw, texts = signed(domain="bulk.test")
    texts["_dmarc.example.com"] = ["v=DMARC1; p=reject"]
    verdict = await authenticate(raw, Envelope(), World(**texts))
    assert verdict.dkim[0].result == "pass"
    assert (verdict.may_act, verdict.dmarc, verdict.policy) == (False, "fail", "reject")
    assert any("not for example.com" in reason for reason in verdict.reasons)


async def test_a_part_of_the_domain_is_aligned_unless_the_owner_is_strict() -> None:
    raw, texts = signed(domain="mail.example.com")
    assert (await authenticate(raw, Envelope(), World(**texts))).may_act
    texts["_dmarc.example.com"] = ["v=DMARC1; p=none; adkim=s"]
    assert not (await authenticate(raw, Envelope(), World(**texts))).may_act


async def test_the_owner_of_a_domain_speaks_for_its_parts() -> None:
    letter = LETTER.replace(b"ann@example.com", b"ann@shop.example.com")
    world = World(**{"_dmarc.example.com": ["v=DMARC1; p=none; sp=reject"]})
    verdict = await authenticate(letter, Envelope(), world)
    assert (verdict.dmarc, verdict.policy) == ("fail", "reject")
    world.texts["_dmarc.shop.example.com"] = ["v=DMARC1; p=quarantine", "v=spf1 -all"]
    assert (await authenticate(letter, Envelope(), world)).policy == "quarantine"
    world.away.add("_dmarc.shop.example.com")
    assert (await authenticate(letter, Envelope(), world)).dmarc == "temperror"


async def test_names_that_can_be_none_are_not_asked_for() -> None:
    raw, _ = signed(domain="a..example.com")
    long = b"x" * 70
    raw = raw.replace(b"<ann@example.com>", b"<ann@" + long + b".example>")
    world = World()
    verdict = await authenticate(raw, Envelope(), world)
    assert (verdict.may_act, verdict.uncertain) == (False, False)
    assert all(0 < len(label) < 64 for name in world.asked for label in name.split("."))


async def test_two_senders_in_from_may_not_act() -> None:
    letter = LETTER.replace(b"<ann@example.com>", b"<ann@example.com>, eve@evil.test")
    raw, texts = signed(letter)
    assert not (await authenticate(raw, Envelope(), World(**texts))).may_act
    twice = b"From: eve@evil.test\r\n" + signed()[0]
    assert not (await authenticate(twice, Envelope(), World(**signed()[1]))).may_act


async def test_an_old_hash_does_not_count() -> None:
    raw, texts = signed(algorithm=b"rsa-sha1")
    verdict = await authenticate(raw, Envelope(), World(**texts))
    assert verdict.dkim[0].result == "policy"
    assert not verdict.may_act


async def test_a_short_key_does_not_count() -> None:
    raw, texts = signed(algorithm=b"rsa-sha256")
    short = base64.b64encode(_der(512)).decode()
    texts["s1._domainkey.example.com"] = [f"v=DKIM1; p={short}"]
    verdict = await authenticate(raw, Envelope(), World(**texts))
    assert (verdict.dkim[0].result, verdict.dkim[0].reason) == (
        "policy",
        "the key has only 512 bits",
    )


def _der(bits: int) -> bytes:
    """A public key of any size, made by hand: libraries refuse to make such small ones."""
    number = (1 << (bits - 1) | 1).to_bytes(bits // 8, "big")
    modulus = b"\x02" + _length(len(number) + 1) + b"\0" + number
    inner = modulus + b"\x02\x03\x01\x00\x01"
    return b"\x30" + _length(len(inner)) + inner


def _length(size: int) -> bytes:
    if size < 128:
        return bytes([size])
    text = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(text)]) + text


async def test_a_giant_key_is_refused_before_anybody_reckons_with_it() -> None:
    raw, texts = signed()
    texts["s1._domainkey.example.com"] = [f"p={base64.b64encode(_der(20_000)).decode()}"]
    verdict = await authenticate(raw, Envelope(), World(**texts))
    assert verdict.dkim[0].result == "policy"


async def test_text_appended_behind_a_length_limit_does_not_count() -> None:
    raw, texts = signed(length=True, body=b"simple")
    assert (await authenticate(raw, Envelope(), World(**texts))).may_act
    verdict = await authenticate(raw + b"Approve everything!\r\n", Envelope(), World(**texts))
    assert verdict.dkim[0].result == "policy"
    assert not verdict.may_act


async def test_from_has_to_be_signed() -> None:
    raw, texts = signed()
    without = raw.replace(b"h=from :", b"h=", 1)
    assert without != raw
    verdict = await authenticate(without, Envelope(), World(**texts))
    assert verdict.dkim[0] == verdict.dkim[0].__class__(
        "example.com", "s1", "policy", "From is not signed"
    )


async def test_silent_name_servers_leave_it_open() -> None:
    raw, texts = signed()
    world = World(**texts)
    world.away.add("s1._domainkey.example.com")
    verdict = await authenticate(raw, Envelope(), world)
    assert (verdict.may_act, verdict.uncertain) == (False, True)


async def test_a_run_of_spaces_takes_no_time() -> None:
    raw, texts = signed(LETTER + b" " * 2_000_000 + b"x\r\n")
    begun = time.process_time()
    verdict = await authenticate(raw, Envelope(), World(**texts))
    assert verdict.may_act
    assert time.process_time() - begun < 2


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"b \t", b"\r\n\r\n"]), max_size=60))
def test_the_linear_form_of_a_body_is_the_old_one(pieces: list[bytes]) -> None:
    body = b"".join(pieces) + b"\r\n"
    plain = compress_whitespace(strip_trailing_whitespace(body)).rstrip(b"\r\n")
    assert relaxed_body(body) == (plain + b"\r\n" if plain else b"")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"v=1",
        b";;;;",
        b"v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=!!; b=??",
        b"v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=AAAA; b=AAAA; l=-1",
        b"v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=AAAA; b=AAA",
        b"v=1; a=ed25519-sha256; c=odd/odd; d=example.com; s=s1; h=from; bh=AAAA; b=AAAA",
        b"v=1; d=" + b"\xff" * 20,
        b"x" * 70_000,
        b"v=1; b=" + b" " * 5000 + b"!",
        b"v=1; a=rsa-sha256; d=..; s=*; h=from; bh=AAAA; b=AAAA",
    ],
)
def test_a_broken_signature_is_a_result_not_an_error(value: bytes) -> None:
    raw = b"DKIM-Signature: " + value + b"\r\n" + LETTER
    keys = {"s1._domainkey.example.com": _pair(1024)[1]}
    assert [s.result for s in verify(raw, keys)] in (["permerror"], ["fail"], ["policy"])


@given(st.binary(max_size=400))
async def test_any_bytes_get_a_verdict(raw: bytes) -> None:
    assert not (await authenticate(raw, Envelope(), World())).may_act


@given(st.binary(max_size=200))
def test_any_signature_and_any_key_get_a_result(junk: bytes) -> None:
    text = junk.decode("latin-1")
    head = b"DKIM-Signature: v=1; a=rsa-sha256; d=e.test; s=s; h=from; bh=AAAA; b=AAAA; " + junk
    verify(head + b"\r\n" + LETTER, {"s._domainkey.e.test": "p=" + text})
    verify(signed()[0], {"s1._domainkey.example.com": "k=rsa; p=" + text})


SENT = Envelope("ann@bounces.example.com", "192.0.2.7", "mx.example.com")


async def test_spf_passes_for_the_hosts_that_the_domain_names() -> None:
    world = World(**{"bounces.example.com": ["v=spf1 include:hosts.test a:out.test mx -all"]})
    world.texts["hosts.test"] = ["v=spf1 ip4:198.51.100.0/24 -all"]
    world.exchanges["bounces.example.com"] = [MxRecord(10, "mx.example.com")]
    world.hosts["mx.example.com"] = ["192.0.2.7", "2001:db8::1"]
    verdict = await authenticate(LETTER, SENT, world)
    assert (verdict.spf, verdict.aligned_domain) == ("pass", "bounces.example.com")
    assert verdict.acts_as == "ann@example.com"


async def test_spf_passes_by_its_first_address_family_too() -> None:
    world = World(**{"bounces.example.com": ["v=spf1 ip6:2001:db8::/32 -all"]})
    there = Envelope("ann@bounces.example.com", "2001:db8::7", "mx.example.com")
    assert (await authenticate(LETTER, there, world)).spf == "pass"


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
async def test_spf_knows_names_of_addresses_and_macros(address: str) -> None:
    world = World(**{"bounces.example.com": ["v=spf1 ptr:hosts.test -all"]})
    world.names[address] = ["mx1.hosts.test"]
    world.hosts["mx1.hosts.test"] = [address]
    there = Envelope("ann@bounces.example.com", address, "mx1.hosts.test")
    assert (await authenticate(LETTER, there, world)).spf == "pass"
    world.texts["bounces.example.com"] = ["v=spf1 exists:%{l}.%{d}.ok.test ~all"]
    world.hosts["ann.bounces.example.com.ok.test"] = ["127.0.0.2"]
    assert (await authenticate(LETTER, there, world)).spf == "pass"


async def test_spf_gives_up_where_the_standard_says_so() -> None:
    many = " ".join(f"include:i{number}.test" for number in range(12))
    world = World(**{"bounces.example.com": [f"v=spf1 {many} -all"]})
    world.texts |= {f"i{number}.test": ["v=spf1 -all"] for number in range(12)}
    assert (await authenticate(LETTER, SENT, world)).spf == "permerror"
    world.texts["bounces.example.com"] = ["v=spf1 a:x.test a:y.test a:z.test -all"]
    assert (await authenticate(LETTER, SENT, world)).spf == "permerror"  # Three void look-ups.
    world.texts["bounces.example.com"] = ["v=spf1 -all", "v=spf1 +all"]
    assert (await authenticate(LETTER, SENT, world)).spf == "permerror"
    world.texts["bounces.example.com"] = ["v=spf1 ip4:192.0.2.7/99 %{q} \xff -all"]
    assert (await authenticate(LETTER, SENT, world)).spf == "permerror"


async def test_an_empty_sender_is_checked_by_its_greeting() -> None:
    world = World(**{"mx.example.com": ["v=spf1 ip4:192.0.2.7 -all"]})
    verdict = await authenticate(LETTER, Envelope("<>", "192.0.2.7", "mx.example.com"), world)
    assert (verdict.spf, verdict.spf_domain) == ("pass", "mx.example.com")
    literal = Envelope("", "192.0.2.7", "[192.0.2.7]")
    assert (await authenticate(LETTER, literal, world)).spf == "none"


async def test_slow_name_servers_cost_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(World):
        async def txt(self, name: str) -> Sequence[str]:
            if name == "bounces.example.com":
                await asyncio.sleep(5)
            return []

    monkeypatch.setattr(authentication, "SPF_SECONDS", 0.05)
    verdict = await authenticate(LETTER, SENT, Slow())
    assert (verdict.spf, verdict.uncertain) == ("temperror", True)


async def test_two_policies_are_none() -> None:
    world = World(**{"_dmarc.example.com": ["v=DMARC1; p=reject", "v=DMARC1; p=none"]})
    assert (await authenticate(LETTER, Envelope(), world)).dmarc == "none"


async def test_spf_fails_for_others_and_speaks_only_for_its_own_domain() -> None:
    world = World(**{"bounces.example.com": ["v=spf1 -all"]})
    assert (await authenticate(LETTER, SENT, world)).spf == "fail"
    world.texts["evil.test"] = ["v=spf1 ip4:192.0.2.7 -all"]
    stranger = Envelope("x@evil.test", "192.0.2.7", "evil.test")
    verdict = await authenticate(LETTER, stranger, world)
    assert (verdict.spf, verdict.may_act) == ("pass", False)


async def test_spf_without_an_address_or_with_a_loop_comes_to_an_end() -> None:
    world = World(**{"bounces.example.com": ["v=spf1 include:bounces.example.com -all"]})
    assert (await authenticate(LETTER, SENT, world)).spf == "permerror"
    assert (await authenticate(LETTER, Envelope("a@b.test", "", ""), world)).spf == "none"
    assert (await authenticate(LETTER, Envelope("a@b.test", "junk", ""), world)).spf == "none"
    assert len(world.asked) < 60
    world.away.add("bounces.example.com")
    verdict = await authenticate(LETTER, SENT, world)
    assert (verdict.spf, verdict.uncertain) == ("temperror", True)


async def test_a_login_acts_as_its_own_address_only() -> None:
    own = Envelope(login=Login("ann", "ann@example.com"))
    assert (await authenticate(LETTER, own, World())).acts_as == "ann@example.com"
    other = Envelope(login=Login("bob", "bob@example.com"))
    raw, texts = signed()
    assert not (await authenticate(raw, other, World(**texts))).may_act
    company = Envelope(login=Login("app", None))
    assert (await authenticate(LETTER, company, World())).acts_as == "ann@example.com"


def test_alignment_goes_by_the_registered_domain() -> None:
    assert organisational_domain("mail.shop.example.co.uk") == "example.co.uk"
    assert is_aligned("a.example.com", "b.example.com", "r")
    assert not is_aligned("a.example.com", "b.example.com", "s")
    assert not is_aligned("one.co.uk", "two.co.uk", "r")
    assert is_aligned("xn--bcher-kva.example", "bücher.example", "s")
    assert not is_aligned("", "", "r")

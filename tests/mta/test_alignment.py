"""What leaves us passes DMARC, by SPF alone and by DKIM alone, for our own evaluator and dkimpy."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from inbound.authentication import Envelope, authenticate
from mail.tokens import TokenKeys
from mta.accounts import dns_records
from mta.arc import ArcSealer
from mta.forwarding import Answer, to_pass_on
from mta.signing import DkimKey, DkimSigner
from mta.srs import Rewriter
from mta.submission import submit
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.conftest import MONDAY
from tests.mta.house import Tenant, order
from tests.mta.outpost import now, outpost, until

HOST = "mail.acme.test"
OUR_IP = "192.0.2.7"


class Zone:
    """What the name servers of these tests say."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    async def txt(self, name: str) -> list[str]:
        return [self._texts[name]] if name in self._texts else []

    async def mx(self, name: str) -> list[Any]:
        return []

    async def addresses(self, name: str) -> list[str]:
        return [OUR_IP] if name == HOST else []

    async def ptr(self, address: str) -> list[str]:
        return []


def zone_of(acme: Tenant, seal: Seal, policy: str) -> dict[str, str]:
    records = dns_records(acme.domain, seal, host=HOST, public_host="")
    texts = {record.name: record.value for record in records if record.type == "TXT"}
    texts["_dmarc.acme.test"] = f"v=DMARC1; p=reject; {policy}"
    return texts


@pytest.mark.parametrize("kind", ["mail", "bulk", "system"])
async def test_our_mail_passes_twice(
    store: Sessions, acme: Tenant, keys: TokenKeys, seal: Seal, tmp_path: Path, kind: str
) -> None:
    async with outpost(store, keys, seal, tmp_path, "customer.test") as post:
        async with store.begin(acme.id) as session:
            await submit(session, order(kind=kind, html="<p>{{ name }}</p>"), now=now())
        post.service.wake()
        await until(lambda: post.sink.taken)
    (taken,) = post.sink.taken
    by_us = Envelope(taken.mail_from, OUR_IP, HOST)
    texts = zone_of(acme, seal, "adkim=r; aspf=r")
    both = await authenticate(taken.content, by_us, Zone(texts))
    assert (both.spf, both.dmarc, both.aligned_domain) == ("pass", "pass", "acme.test")
    assert [signature.result for signature in both.dkim] == ["pass", "pass"]

    without = {name: text for name, text in texts.items() if "_domainkey" not in name}
    by_spf = await authenticate(taken.content, by_us, Zone(without))
    assert (by_spf.dmarc, by_spf.aligned_domain) == ("pass", "reply.acme.test")

    passed_on = Envelope("list@elsewhere.test", "203.0.113.9", "elsewhere.test")
    strict = zone_of(acme, seal, "adkim=s; aspf=s")
    by_dkim = await authenticate(taken.content, passed_on, Zone(strict))
    assert (by_dkim.dmarc, by_dkim.aligned_domain) == ("pass", "acme.test")

    forged = await authenticate(
        taken.content.replace(b"Subject: ", b"Subject: No, ", 1), passed_on, Zone(texts)
    )
    assert forged.dmarc == "fail"


async def test_what_we_pass_on_keeps_its_author_s_signature(acme: Tenant, seal: Seal) -> None:
    theirs = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    spki = theirs.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    letter = b"From: ann@customer.test\r\nTo: x@reply.acme.test\r\nSubject: Yes\r\n\r\nYes.\r\n"
    signed = DkimSigner("customer.test", (DkimKey("c1", theirs),)).sign(letter, MONDAY) + letter
    answer = Answer("ann@customer.test", "ann@customer.test", True, b"Received: x\r\n" + signed)
    made = to_pass_on(answer, host=HOST, mark="1", target="bo@office.test", at=MONDAY)
    made = ArcSealer("acme.test", DkimKey("r1", theirs), HOST).sign(made, MONDAY) + made
    texts = zone_of(acme, seal, "adkim=r")
    texts["c1._domainkey.customer.test"] = f"v=DKIM1; p={base64.b64encode(spki).decode()}"
    texts["_dmarc.customer.test"] = "v=DMARC1; p=reject"
    path = Rewriter((b"k" * 32,)).forward(answer.mail_from, "reply.acme.test", 1, MONDAY)
    assert path is not None

    verdict = await authenticate(made, Envelope(path, OUR_IP, HOST), Zone(texts))
    assert (verdict.spf, verdict.spf_domain) == ("pass", "reply.acme.test")
    assert (verdict.dmarc, verdict.aligned_domain) == ("pass", "customer.test")

    def answer_of(name: bytes, timeout: int = 5) -> bytes:
        return texts[name.decode().rstrip(".")].encode()

    assert dkim.verify(made, dnsfunc=answer_of)

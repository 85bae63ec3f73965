"""Webhooks: told in order, again until they answer, signed, and never led astray."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from bus.events import Kind, publish
from bus.stream import START, Place, events_after, newest, place_before
from config.sections.api import WebhookSettings
from mail.errors import PermanentError, TemporaryError
from monitor.webhooks import registry
from monitor.webhooks.pauses import LONGEST, pause
from monitor.webhooks.sender import WebhookSender
from monitor.webhooks.signature import is_genuine, new_secret, signed
from monitor.webhooks.target import addresses, is_public, target_of
from mta.resolver import Resolver
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Event, Webhook, WebhookAttempt
from tests.monitor.receiver import Receiver, Taken, status
from tests.peers.dns_server import DnsServer

MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
OPEN = WebhookSettings(allow_private=True, allow_http=True, timeout=timedelta(seconds=2), batch=10)


class World:
    """A company, its clock and the sender."""

    def __init__(self, store: Sessions, seal: Seal, settings: WebhookSettings = OPEN) -> None:
        self.store, self.seal, self.now = store, seal, MONDAY
        self.settings = settings
        self.sender = self.another()

    def another(self, **more: Any) -> WebhookSender:
        more = {"resolver": Resolver(["127.0.0.1:9"]), "luck": lambda: 0.5} | more
        return WebhookSender(self.store, self.seal, self.settings, clock=lambda: self.now, **more)

    async def company(self, name: str, number: int) -> Any:
        async with self.store.begin(EVERY_COMPANY) as session:
            company = Company(
                name=name, number=number, postal_address="", policy={}, created_at=self.now
            )
            session.add(company)
            await session.flush()
            return company.id

    async def hook(self, company: Any, url: str, *kinds: str) -> tuple[Any, str]:
        async with self.store.begin(company) as session:
            webhook, secret = await registry.add(
                session, self.seal, self.settings, url=url, kinds=kinds, now=self.now
            )
        return webhook.id, secret

    async def happens(self, company: Any, count: int, kind: Kind = Kind.CLICKED) -> None:
        async with self.store.begin(company) as session:
            for number in range(count):
                await publish(session, kind, occurred_at=self.now, number=number)

    async def seen(self, company: Any, key: Any) -> Webhook:
        async with self.store.read(company) as session:
            found = await registry.find(session, key)
            assert found is not None
            return found


@pytest.fixture
async def world(any_store: Sessions, seal: Seal) -> World:
    """On each kind of database."""
    return World(any_store, seal)


def numbers(taken: list[Taken]) -> list[int]:
    return [event["data"]["number"] for one in taken for event in one.events]


async def test_events_are_told_in_order_and_signed(world: World) -> None:
    ours, other = await world.company("ours", 1), await world.company("other", 2)
    async with Receiver() as server:
        await world.happens(ours, 1)  # Before it was set up.
        key, secret = await world.hook(ours, server.url, "click")
        await world.happens(ours, 25)
        await world.happens(other, 5)
        await world.happens(ours, 1, Kind.OPENED)
        assert await world.sender.round() == 3
        assert await world.sender.round() == 0
        assert numbers(server.taken) == list(range(25))
        first = server.taken[0]
        assert first.path == "/hook?a=b"
        assert first.headers["host"] == f"127.0.0.1:{server.port}"
        assert is_genuine(first.headers, first.body, secret, now=world.now)
        assert not is_genuine(first.headers, first.body + b" ", secret, now=world.now)
        assert len({one.headers["webhook-id"] for one in server.taken}) == 3
        await world.happens(ours, 1)
        assert await world.sender.round() == 1
    assert (await world.seen(ours, key)).told_at == world.now
    async with world.store.read(other) as session:
        assert await registry.find(session, key) is None


async def test_a_failed_batch_comes_again_the_same(world: World) -> None:
    ours = await world.company("ours", 1)
    async with Receiver(answer=status(500)) as server:
        key, _ = await world.hook(ours, server.url)
        await world.happens(ours, 3)
        assert await world.sender.round() == 0
        await world.happens(ours, 3)
        assert await world.sender.round() == 0
        assert len(server.taken) == 1  # The pause is kept.
        world.now += timedelta(seconds=6)
        await world.another().round()  # Another process goes on.
        assert [one.body != b"" for one in server.taken] == [True, True]
        assert server.taken[0].events == server.taken[1].events
        assert server.taken[0].headers["webhook-id"] == server.taken[1].headers["webhook-id"]
        seen = await world.seen(ours, key)
        assert (seen.failures, seen.reason) == (2, "the server answered 500")
        server.answer = status(200)
        world.now += timedelta(minutes=1)
        assert await world.sender.round() == 2
    assert numbers(server.taken[2:]) == [0, 1, 2, 0, 1, 2]
    assert (await world.seen(ours, key)).failures == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(302, "location: http://127.0.0.1:1/"), "redirects are not followed"),
        (lambda taken: b"nonsense\r\n\r\n", "RemoteProtocolError"),
        (lambda taken: b"", "RemoteProtocolError"),
    ],
)
async def test_what_is_no_success_is_a_failure(
    store: Sessions, seal: Seal, answer: Callable[[Taken], bytes], said: str
) -> None:
    world = World(store, seal)
    ours = await world.company("ours", 1)
    async with Receiver(answer=answer) as server:
        key, _ = await world.hook(ours, server.url)
        await world.happens(ours, 1)
        assert await world.sender.round() == 0
        assert said in (await world.seen(ours, key)).reason
    async with store.read(ours) as session:
        (tried,) = (await session.scalars(select(WebhookAttempt))).all()
        assert (tried.events, tried.batch[:4]) == (1, "msg_")


async def test_a_slow_or_endless_answer_does_not_hold_us(store: Sessions, seal: Seal) -> None:
    world = World(store, seal, OPEN.model_copy(update={"timeout": timedelta(seconds=0.3)}))
    ours = await world.company("ours", 1)
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 20)
    async with Receiver(answer=lambda taken: endless) as server:
        await world.hook(ours, server.url)
        await world.happens(ours, 1)
        assert await world.sender.round() == 1
        server.answer, server.hold = (lambda taken: b"HTTP/1.1 200 OK\r\n"), 5.0
        await world.happens(ours, 1)
        assert await world.sender.round() == 0
        server.hold = 0.0
    key, _ = await world.hook(ours, "http://127.0.0.1:9/")
    await world.happens(ours, 1)
    await world.sender.round()
    assert "ConnectError" in (await world.seen(ours, key)).reason


async def test_one_that_fails_for_days_is_switched_off(store: Sessions, seal: Seal) -> None:
    world = World(store, seal)
    ours = await world.company("ours", 1)
    async with Receiver(answer=status(503, "retry-after: 3000")) as server:
        key, _ = await world.hook(ours, server.url)
        await world.happens(ours, 1)
        await world.sender.round()
        assert (await world.seen(ours, key)).next_at == world.now + timedelta(seconds=3000)
        for _ in range(60):
            world.now += timedelta(hours=5)
            await world.sender.round()
        seen = await world.seen(ours, key)
        assert (seen.state, "it failed since" in seen.reason) == ("disabled", True)
        assert len(server.taken) < 30
        server.answer = status(200)
        async with store.begin(ours) as session:
            webhook = await registry.find(session, key)
            assert webhook is not None
            await registry.switch_on(session, webhook, now=world.now)
        assert await world.sender.round() == 1  # Nothing was lost.
        server.answer = status(410)
        await world.happens(ours, 1)
        await world.sender.round()
    assert "410" in (await world.seen(ours, key)).reason


async def test_a_secret_is_changed_without_a_gap(store: Sessions, seal: Seal) -> None:
    world = World(store, seal)
    ours = await world.company("ours", 1)
    async with Receiver() as server:
        key, old = await world.hook(ours, server.url)
        async with store.begin(ours) as session:
            webhook = await registry.find(session, key)
            assert webhook is not None
            new = await registry.rotate(session, seal, webhook, now=world.now)
        for hours, old_good in ((0, True), (25, False)):
            world.now += timedelta(hours=hours)
            await world.happens(ours, 1)
            await world.sender.round()
            sent = server.taken[-1]
            assert is_genuine(sent.headers, sent.body, new, now=world.now)
            assert is_genuine(sent.headers, sent.body, old, now=world.now) is old_good


async def test_events_are_told_again_on_request(world: World) -> None:
    ours = await world.company("ours", 1)
    async with Receiver() as server:
        key, _ = await world.hook(ours, server.url)
        await world.happens(ours, 4)
        await world.sender.round()
        cursor = Place.of(server.taken[0].events[1]["cursor"])
        assert cursor is not None
        for place, told in ((cursor, [2, 3]), (START, [0, 1, 2, 3])):
            async with world.store.begin(ours) as session:
                webhook = await registry.find(session, key)
                assert webhook is not None
                await registry.replay(session, webhook, place, now=world.now)
            await world.sender.round()
            assert numbers(server.taken[-1:]) == told


async def test_two_senders_tell_a_batch_once(world: World) -> None:
    ours = await world.company("ours", 1)
    async with Receiver() as server:
        await world.hook(ours, server.url)
        await world.happens(ours, 30)
        here = world.another()
        await asyncio.gather(world.sender.round(), here.round())
        await world.sender.round()
    assert numbers(server.taken) == list(range(30))


async def test_places_by_time_and_far_behind(world: World) -> None:
    ours, other = await world.company("ours", 1), await world.company("other", 2)
    await world.happens(ours, 2)
    async with world.store.read(ours) as session:
        assert await place_before(session, datetime.now(UTC) + timedelta(days=1)) == await newest(
            session
        )
        early = await place_before(session, datetime.now(UTC) - timedelta(days=1))
        assert len(await events_after(session, early, limit=10)) == 2
    async with Receiver() as server:
        key, _ = await world.hook(other, server.url)
        await world.happens(ours, 1100)
        await world.sender.round()
        async with world.store.read(EVERY_COMPANY) as session:
            assert (await world.seen(other, key)).seq == (await newest(session)).seq
        assert server.taken == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/", "ftp://hooks.example.com/", "//hooks.example.com", "https://",
        "https://u:p@hooks.example.com/", "https://hooks.example.com/#a", "https://localhost/",
        "https://intranet/", "https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3/",
        "https://169.254.169.254/latest", "https://[fe80::1]/", "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://0.0.0.0/",
        "https://100.64.0.1/", "https://224.0.0.1/", "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/", "https://exa mple.com/", "https://exämple.com/",
        "https://a.example\\@127.0.0.1/", "https://[fe80::1%25eth0]/", "https://x.localhost/",
        "https://[::127.0.0.1]/", "https://[fec0::1]/", "https://a.example/" + "x" * 2000,
    ],
)  # fmt: skip
def test_a_webhook_stands_in_the_public_internet(url: str) -> None:
    with pytest.raises(PermanentError, match="url: "):
        target_of(url, allow_http=False, allow_private=False)


def test_a_target_is_taken_apart() -> None:
    target = target_of("https://Hooks.Example.com./a?b=c", allow_http=False, allow_private=False)
    assert (target.named, target.at("192.0.2.1")) == (
        "hooks.example.com",
        "https://192.0.2.1:443/a?b=c",
    )
    six = target_of("https://[2606:4700::1]:8443", allow_http=False, allow_private=False)
    assert (six.named, six.rest) == ("[2606:4700::1]:8443", "/")


async def test_a_name_that_leads_inside_is_refused_whatever_it_said_before(
    store: Sessions, seal: Seal
) -> None:
    zone = {"hooks.test": {"A": ["8.8.8.8"]}}
    async with DnsServer(zone, ttl=0) as names, Receiver() as server:
        target = target_of("https://hooks.test/", allow_http=False, allow_private=False)
        resolver = Resolver([names.address])
        assert await addresses(resolver, target, allow_private=False) == ["8.8.8.8"]
        names.zone["hooks.test"]["A"] = ["127.0.0.1", "10.0.0.1"]
        with pytest.raises(TemporaryError):
            await addresses(resolver, target, allow_private=False)
        names.zone["hooks.test"] = {"TXT": ["nothing"]}
        with pytest.raises(TemporaryError):
            await addresses(resolver, target, allow_private=False)
        names.zone["hooks.test"] = {"A": ["127.0.0.1"]}
        world = World(store, seal, OPEN.model_copy(update={"allow_private": False}))
        world.sender = world.another(resolver=Resolver([names.address]))
        ours = await world.company("ours", 1)
        key, _ = await world.hook(ours, f"http://hooks.test:{server.port}/")
        await world.happens(ours, 1)
        await world.sender.round()
        assert "no address of the public internet" in (await world.seen(ours, key)).reason
        assert server.taken == []


def certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side with a certificate for this name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "cert.pem"))


@pytest.mark.parametrize(("name", "good"), [("hooks.test", True), ("other.test", False)])
async def test_the_certificate_is_checked_against_the_name(
    store: Sessions, seal: Seal, tmp_path: Path, name: str, good: bool
) -> None:
    tls, trust = certificate(name, tmp_path)
    async with (
        DnsServer({"hooks.test": {"A": ["127.0.0.1"]}}) as names,
        Receiver(tls=tls) as server,
    ):
        world = World(store, seal)
        sender = world.another(resolver=Resolver([names.address]), trust=trust)
        ours = await world.company("ours", 1)
        key, _ = await world.hook(ours, f"https://hooks.test:{server.port}/")
        await world.happens(ours, 1)
        assert await sender.round() == int(good)
        seen = await world.seen(ours, key)
        assert ("certificate" in seen.reason.lower()) is not good
        if good:
            assert server.taken[0].headers["host"] == f"hooks.test:{server.port}"


async def test_a_company_has_so_many_and_each_is_checked(store: Sessions, seal: Seal) -> None:
    world = World(store, seal)
    ours = await world.company("ours", 1)
    with pytest.raises(PermanentError, match="kinds: "):
        await world.hook(ours, "http://127.0.0.1:1/", "nonsense")
    for number in range(registry.MOST):
        await world.hook(ours, f"http://127.0.0.1:{number + 1}/")
    with pytest.raises(PermanentError, match="are enough"):
        await world.hook(ours, "http://127.0.0.1:1/")


async def test_only_the_newest_tries_are_kept(store: Sessions, seal: Seal) -> None:
    world = World(store, seal, OPEN.model_copy(update={"keep_attempts": 3, "batch": 1}))
    ours = await world.company("ours", 1)
    async with Receiver() as server:
        key, _ = await world.hook(ours, server.url)
        await world.happens(ours, 8)
        assert await world.sender.round() == 8
    async with store.begin(ours) as session:
        webhook = await registry.find(session, key)
        assert webhook is not None
        tries = await registry.attempts_of(session, webhook)
        newest_seq = (await session.scalars(select(Event.seq).order_by(Event.seq.desc()))).first()
        assert tries[0].last_seq == newest_seq
        assert len(tries) == 3
        await registry.remove(session, webhook)
    async with store.read(ours) as session:
        assert await session.scalar(select(WebhookAttempt.id)) is None


def test_a_signature_as_the_standard_shows_it() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}', [secret])
    right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-signature"] == right
    late = at + timedelta(minutes=6)
    assert not is_genuine(headers, b'{"test": 2432232314}', secret, now=late)
    assert not is_genuine({}, b"", new_secret(), now=at)


@given(st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(0, 1e7))
def test_pauses_grow_and_end(failures: int, luck: float, asked: float | None) -> None:
    wait = pause(failures, luck=luck, asked=asked)
    assert timedelta(seconds=4) <= wait <= LONGEST * 1.2
    assert pause(failures + 1, luck=luck) >= pause(failures, luck=luck)


@given(st.integers(0, 2**32 - 1))
def test_what_is_inside_is_inside_in_every_writing(number: int) -> None:
    four = ipaddress.IPv4Address(number)
    for six in (
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ):
        assert is_public(six) <= is_public(four)

"""The whole path: submitted over SMTP, kept, composed, signed, handed over to a stranger."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import smtplib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
import pytest
from sqlalchemy import func, select

from bus.events import Kind
from config.settings import Settings
from mail.tokens import Token, TokenKeys, TokenKind
from mta.accounts import add_credential, dns_records
from mta.certificate import self_made
from mta.recipients import is_suppressed
from mta.resolver import Resolver
from mta.service import MailService
from mta.spool import Spool
from mta.submission import submit
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Arrival, Attempt, Contact, Delivery, Event, Message
from tests.mta.house import Tenant, order
from tests.mta.strangers import Sink, free_port
from tests.peers.dns_server import DnsServer

ZONE = {
    "customer.test": {"MX": ["10 mx.customer.test"]},
    "mx.customer.test": {"A": ["127.0.0.1"]},
    "nomail.test": {"MX": ["0 ."]},
    "a-only.test": {"A": ["127.0.0.1"]},
}


def now() -> datetime:
    return datetime.now(UTC)


class Post:
    """A running mail service, the stranger it sends to, and the names it asks."""

    def __init__(self, service: MailService, sink: Sink, dns: DnsServer, spool: Spool) -> None:
        self.service, self.sink, self.dns, self.spool = service, sink, dns, spool
        self.ports = service.listener.ports


Start = Callable[..., Any]


@pytest.fixture
def start(store: Sessions, keys: TokenKeys, seal: Seal, tmp_path: Path) -> Start:
    @asynccontextmanager
    async def run(sink: Sink | None = None, **relay: Any) -> AsyncIterator[Post]:
        sink = sink or Sink()
        async with sink, DnsServer(ZONE) as dns:
            settings = Settings.model_validate(
                {
                    "host": {"name": "mail.acme.test", "data": tmp_path},
                    "smtp": {
                        "listen": "127.0.0.1",
                        "mx_port": free_port(),
                        "submission_port": free_port(),
                        "submissions_port": free_port(),
                        "max_message": 1 << 20,
                    },
                    "relay": {
                        "port": sink.port,
                        "loopback": True,
                        "first_retry": "1s",
                        **relay,
                    },
                    "public": {"url": "https://links.acme.test"},
                    "engine": {"tick": "1s"},
                }
            )
            spool = Spool(tmp_path / "spool")
            resolver = Resolver([dns.address], timeout_seconds=2)
            service = MailService(store, settings, keys, seal, spool, resolver, now)
            await service.start()
            running = asyncio.create_task(service.run())
            try:
                yield Post(service, sink, dns, spool)
            finally:
                await service.stop()
                await running

    return run


async def until(condition: Callable[[], Any], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


async def send(store: Sessions, tenant: Tenant, post: Post, **changes: Any) -> Message:
    async with store.begin(tenant.id) as session:
        message = await submit(session, order(**changes), now=now())
    post.service.wake()
    return message


async def delivery_of(store: Sessions, message: Message) -> Delivery:
    async with store.read(EVERY_COMPANY) as session:
        found = select(Delivery).where(Delivery.message_id == message.id)
        return (await session.scalars(found)).one()


async def arrivals(store: Sessions, number: int) -> bool:
    """Whether so many messages have been written down."""
    async with store.read(EVERY_COMPANY) as session:
        return len((await session.scalars(select(Arrival.id))).all()) == number


def in_state(store: Sessions, message: Message, *states: str) -> Callable[[], Any]:
    async def check() -> bool:
        return (await delivery_of(store, message)).state in states

    return check


def verified(content: bytes, tenant: Tenant, seal: Seal) -> bool:
    records = dns_records(tenant.domain, seal, host="mail.acme.test", public_host="")
    texts = {record.name: record.value.encode() for record in records if record.type == "TXT"}

    def answer(name: bytes, timeout: int = 5) -> bytes | None:
        return texts.get(name.decode().rstrip("."))

    return all(dkim.DKIM(content).verify(idx=n, dnsfunc=answer) for n in (0, 1))


async def test_an_order_reaches_the_recipient_signed_twice(
    store: Sessions, acme: Tenant, seal: Seal, keys: TokenKeys, start: Start
) -> None:
    async with start() as post:
        message = await send(store, acme, post, kind="bulk", html="<p>Hi {{ name }}</p>")
        await until(in_state(store, message, "delivered"))
    (taken,) = post.sink.taken
    assert verified(taken.content, acme, seal)
    local, _, domain = taken.mail_from.partition("@")
    assert keys.read_local_part(local) == Token(TokenKind.BOUNCE, 1, message.id)
    assert domain == "reply.acme.test"
    read = email.message_from_bytes(taken.content, policy=email.policy.default)
    assert read["Message-ID"] == message.rfc_message_id
    assert read["Subject"] == "Hello Ann"
    async with store.read(acme.id) as session:
        attempt = (await session.scalars(select(Attempt))).one()
        kinds = [event.kind for event in await session.scalars(select(Event))]
    assert (attempt.outcome, attempt.code, attempt.host) == ("delivered", 250, "mx.customer.test")
    assert kinds == [Kind.MESSAGE_QUEUED, Kind.DELIVERY_DELIVERED]


async def test_starttls_is_used_where_it_is_offered(
    store: Sessions, acme: Tenant, start: Start, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_made(tmp_path / "stranger", "mx.customer.test"))
    async with start(Sink(tls=context)) as post:
        message = await send(store, acme, post)
        await until(in_state(store, message, "delivered"))
    assert post.sink.taken[0].tls


async def test_who_requires_tls_gets_it_proven_or_nothing(
    store: Sessions, acme: Tenant, start: Start, tmp_path: Path
) -> None:
    """RFC 8689 §4.2: a certificate that nobody vouches for is not enough, nor a plain server."""
    pem = self_made(tmp_path / "stranger", "mx.customer.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    wanted = {"parsed": {"envelope": {"sender": "bo@acme.test", "require_tls": True}}}
    async with start(Sink(tls=context)) as post:
        message = await send(store, acme, post, **wanted)
        await until(in_state(store, message, "deferred"))
        assert "CERTIFICATE_VERIFY_FAILED" in (await delivery_of(store, message)).last_text
        post.service.carrier.trust(pem.read_text())
        again = await send(store, acme, post, key="k2", **wanted)
        for site in post.service.shaper.snapshot(time.time()):
            post.service.shaper.resume(site.site)
        await until(in_state(store, again, "bounced"))
        assert "5.7.30" in (await delivery_of(store, again)).last_text
    assert post.sink.taken == []


async def test_mail_for_a_domain_that_points_to_us_goes_round_no_circle(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with start() as post:
        post.dns.zone["circle.test"] = {"MX": ["10 mail.acme.test"]}
        message = await send(store, acme, post, recipient="ann@circle.test")
        await until(in_state(store, message, "bounced"))
        assert "5.4.6" in (await delivery_of(store, message)).last_text


def as_client(port: int, login: str, secret: str, *, implicit: bool) -> smtplib.SMTP:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client: smtplib.SMTP
    if implicit:
        client = smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=10)
    else:
        client = smtplib.SMTP("127.0.0.1", port, timeout=10)
        client.starttls(context=context)
    client.login(login, secret)
    return client


async def login_for(store: Sessions, tenant: Tenant, login: str, address: str | None = None) -> str:
    async with store.begin(tenant.id) as session:
        _, secret = await add_credential(session, "smtp", login=login, address=address, now=now())
    return secret


def letter(**headers: str) -> EmailMessage:
    made = EmailMessage()
    given = {"From": "Bo <bo@acme.test>", "To": "Ann <ann@customer.test>", "Subject": "Grüße"}
    for name, value in {**given, **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
        made[name] = value
    made.set_content("Hello {{ first_name }}, see https://shop.test/a\n")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a.pdf")
    return made


@pytest.mark.parametrize("implicit", [False, True])
async def test_submitted_mail_goes_to_each_recipient_as_a_message_of_their_own(
    store: Sessions, acme: Tenant, seal: Seal, start: Start, implicit: bool
) -> None:
    secret = await login_for(store, acme, "shop@acme.test")
    async with start() as post:
        port = post.ports["submissions" if implicit else "submission"]

        def submit_it() -> None:
            client = as_client(port, "shop@acme.test", secret, implicit=implicit)
            to = ["ann@customer.test", "ben@customer.test"]
            assert client.send_message(letter(), to_addrs=to) == {}
            client.quit()

        await asyncio.to_thread(submit_it)
        await until(lambda: len(post.sink.taken) == 2)
    assert sorted(t.recipients[0] for t in post.sink.taken) == [
        "ann@customer.test",
        "ben@customer.test",
    ]
    for taken in post.sink.taken:
        assert verified(taken.content, acme, seal)
        read = email.message_from_bytes(taken.content, policy=email.policy.default)
        assert read["Subject"] == "Grüße"
        assert read["To"].addresses[0].addr_spec == "ann@customer.test"  # As it was written.
        body = read.get_body(("plain",))
        assert body is not None
        assert "{{ first_name }}, see https://shop.test/a" in body.get_content()
        assert [part.get_filename() for part in read.iter_attachments()] == ["a.pdf"]
    async with store.read(acme.id) as session:
        contact = (
            await session.scalars(select(Contact).where(Contact.address == "ann@customer.test"))
        ).one()
    assert contact.name == "Ann"
    answers = {email.message_from_bytes(t.content)["Reply-To"] for t in post.sink.taken}
    assert len(answers) == 2
    assert all("@reply.acme.test" in address for address in answers)
    assert contact.origin == {"by": "submission", "login": "shop@acme.test"}


async def test_submitted_bulk_mail_is_merged_and_tracked(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    secret = await login_for(store, acme, "shop@acme.test")
    async with start() as post:

        def submit_it() -> None:
            client = as_client(post.ports["submission"], "shop@acme.test", secret, implicit=False)
            client.send_message(letter(X_Waypost_Kind="bulk", X_Waypost_Merge="yes"))
            client.quit()

        await asyncio.to_thread(submit_it)
        await until(lambda: post.sink.taken)
    read = email.message_from_bytes(post.sink.taken[0].content, policy=email.policy.default)
    body = read.get_body(("plain",))
    assert body is not None
    text = body.get_content()
    assert "Hello Ann, see https://links.acme.test/c/" in text
    assert "Acme Ltd, 1 High Street" in text
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert read["X-Waypost-Kind"] is None


async def test_a_login_sends_as_its_own_company_only(
    store: Sessions, acme: Tenant, rival: Tenant, start: Start
) -> None:
    secret = await login_for(store, acme, "shop@acme.test")
    own = await login_for(store, acme, "bo@acme.test", "bo@acme.test")
    async with start() as post:

        def try_it() -> None:
            port = post.ports["submission"]
            client = as_client(port, "shop@acme.test", secret, implicit=False)
            with pytest.raises(smtplib.SMTPSenderRefused) as at_mail:
                client.send_message(letter(), from_addr="bo@rival.test")
            assert at_mail.value.smtp_code == 553
            with pytest.raises(smtplib.SMTPDataError) as at_data:
                client.send_message(letter(From="bo@rival.test"), from_addr="bo@acme.test")
            assert b"rival.test is not a domain of this company" in at_data.value.smtp_error
            client.quit()
            client = as_client(port, "bo@acme.test", own, implicit=False)
            with pytest.raises(smtplib.SMTPSenderRefused):
                client.send_message(letter(), from_addr="other@acme.test")
            client.quit()
            plain = smtplib.SMTP("127.0.0.1", port, timeout=10)
            plain.ehlo()
            assert "auth" not in plain.esmtp_features
            assert plain.docmd("AUTH PLAIN", base64.b64encode(b"\0a\0b").decode())[0] == 538
            assert plain.docmd("MAIL FROM:<bo@acme.test>")[0] == 530
            plain.quit()

        await asyncio.to_thread(try_it)
    async with store.read(EVERY_COMPANY) as session:
        assert await session.scalar(select(func.count(Message.id))) == 0


async def test_guessing_passwords_comes_to_an_end(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    await login_for(store, acme, "shop@acme.test")
    async with start() as post:

        def guess() -> list[int]:
            codes = []
            for _ in range(12):
                try:
                    port = post.ports["submissions"]
                    as_client(port, "shop@acme.test", "wrong", implicit=True)
                except smtplib.SMTPAuthenticationError as error:
                    codes.append(error.smtp_code)
            return codes

        codes = await asyncio.to_thread(guess)
    assert 535 in codes
    assert codes[-1] == 454


async def test_mail_from_the_world_is_kept_for_its_company(
    store: Sessions, acme: Tenant, rival: Tenant, keys: TokenKeys, start: Start
) -> None:
    async with start() as post:
        message = await send(store, acme, post)
        await until(in_state(store, message, "delivered"))
        reply = keys.local_part(Token(TokenKind.REPLY, 1, message.id))
        foreign = keys.local_part(Token(TokenKind.REPLY, 2, message.id))

        def talk() -> dict[str, int]:
            client = smtplib.SMTP("127.0.0.1", post.ports["mx"], timeout=10)
            client.ehlo("mx.customer.test")
            assert "auth" not in client.esmtp_features
            client.mail("ann@customer.test")
            tried = {
                "forged": f"{reply[:-1]}{'a' if reply[-1] != 'a' else 'b'}@reply.acme.test",
                "nobody": "info@reply.acme.test",
                "other company": f"{foreign}@reply.acme.test",
                "relay": "x@elsewhere.test",
                "good": f"{reply.upper()}@REPLY.acme.test",
                "postmaster": "postmaster@reply.rival.test",
            }
            codes = {name: client.rcpt(address)[0] for name, address in tried.items()}
            assert b"relay denied" in client.rcpt("x@elsewhere.test")[1]
            assert client.data(b"Subject: Re: hi\r\n\r\nYes!\r\n..dot\r\n")[0] == 250
            client.quit()
            return codes

        codes = await asyncio.to_thread(talk)
        await until(lambda: arrivals(store, 2))
        assert codes == {
            "forged": 550,
            "nobody": 550,
            "other company": 550,
            "relay": 550,
            "good": 250,
            "postmaster": 250,
        }
        for tenant, wanted in ((acme, reply), (rival, "postmaster")):
            async with store.read(tenant.id) as session:
                arrival = (await session.scalars(select(Arrival))).one()
                told = select(Event).where(Event.kind == Kind.MAIL_ARRIVED)
                event = (await session.scalars(told)).one()
            assert arrival.recipients[0].lower().startswith(wanted)
            assert (arrival.source, arrival.state) == ("mx", "waiting")
            assert event.payload == {"arrival": str(arrival.id)}
            raw = post.spool.read(arrival.spool)
            assert raw.startswith(b"Received: from mx.customer.test ([127.0.0.1])\r\n")
            assert raw.endswith(b"Subject: Re: hi\r\n\r\nYes!\r\n..dot\r\n")


async def test_a_reps_answer_to_a_draft_arrives_with_who_sent_it(
    store: Sessions, acme: Tenant, rival: Tenant, keys: TokenKeys, start: Start
) -> None:
    secret = await login_for(store, acme, "bo@acme.test", "bo@acme.test")
    theirs = await login_for(store, rival, "eve@rival.test", "eve@rival.test")
    async with start() as post:
        address = keys.local_part(Token(TokenKind.APPROVAL, 1, acme.id)) + "@reply.acme.test"

        def answer() -> None:
            port = post.ports["submission"]
            client = as_client(port, "bo@acme.test", secret, implicit=False)
            client.send_message(letter(To=address))
            client.quit()
            client = as_client(port, "eve@rival.test", theirs, implicit=False)
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.send_message(letter(From="eve@rival.test", To=address))
            client.quit()

        await asyncio.to_thread(answer)
        async with store.read(EVERY_COMPANY) as session:
            arrival = (await session.scalars(select(Arrival))).one()
    assert (arrival.source, arrival.login) == ("submission", "bo@acme.test")
    assert arrival.recipients == [address]
    assert arrival.company_id == acme.id


async def test_later_means_later_and_the_message_is_the_same(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with start(Sink(answers=["451 4.7.1 greylisted, come back", "hang up"])) as post:
        message = await send(store, acme, post)
        await until(in_state(store, message, "deferred"))
        deferred = await delivery_of(store, message)
        assert (deferred.last_code, deferred.last_text) == (451, "4.7.1 greylisted, come back")
        await until(in_state(store, message, "uncertain"))
        for site in post.service.shaper.snapshot(time.time()):
            post.service.shaper.resume(site.site)  # Two failures in a row would make it pause.
        await until(in_state(store, message, "delivered"))
    contents = [taken.content for taken in post.sink.taken]
    assert len(contents) == 2  # The lost 250 is the one case of a second copy.
    assert contents[0] == contents[1]


async def test_a_bad_mailbox_is_suppressed_and_a_block_is_not(
    store: Sessions, acme: Tenant, rival: Tenant, start: Start
) -> None:
    sink = Sink(
        at_rcpt={
            "gone@customer.test": "550 5.1.1 no such user",
            "ann@customer.test": "550 5.7.1 you are blocked",
        }
    )
    async with start(sink) as post:
        gone = await send(store, acme, post, key="a", recipient="gone@customer.test")
        ann = await send(store, acme, post, key="b")
        nomail = await send(store, acme, post, key="c", recipient="x@nomail.test")
        missing = await send(store, acme, post, key="d", recipient="x@missing.test")
        direct = await send(store, acme, post, key="e", recipient="x@a-only.test")
        for message in (gone, ann, nomail, missing):
            await until(in_state(store, message, "bounced"))
        await until(in_state(store, direct, "delivered"))
    async with store.read(acme.id) as session:
        for address, wanted in {
            "gone@customer.test": True,
            "ann@customer.test": False,
            "x@nomail.test": True,
            "x@missing.test": True,
        }.items():
            assert await is_suppressed(session, address) is wanted
    async with store.read(rival.id) as session:
        assert not await is_suppressed(session, "gone@customer.test")


async def test_names_that_can_not_be_asked_defer_and_private_addresses_are_refused(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with start(loopback=False, first_retry="1h") as post:
        post.dns.failing.add("down.test")
        down = await send(store, acme, post, key="a", recipient="x@down.test")
        private = await send(store, acme, post, key="b")
        for message in (down, private):
            await until(in_state(store, message, "deferred"))
        said = (await delivery_of(store, private)).last_text
    assert "not on the Internet" in said
    assert post.sink.connections == 0


async def test_connections_are_few_and_used_again(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with start(Sink(delay=0.01), connections_per_site=2) as post:
        messages = [
            await send(store, acme, post, key=str(n), recipient=f"p{n}@customer.test")
            for n in range(20)
        ]
        for message in messages:
            await until(in_state(store, message, "delivered"))
    assert post.sink.most_open <= 2
    assert post.sink.connections < 10
    assert len({taken.recipients[0] for taken in post.sink.taken}) == 20


async def test_a_restart_takes_its_own_claims_back_at_once(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with store.begin(acme.id) as session:
        message = await submit(session, order(), now=now())
    async with store.begin(acme.id) as session:
        delivery = (await session.scalars(select(Delivery))).one()
        delivery.state, delivery.attempts = "sending", 1
        delivery.claimed_by = "mail-1/an-earlier-run/1/0"
        delivery.claimed_until = now() + timedelta(seconds=60)
    async with start() as post:
        await until(in_state(store, message, "delivered"), seconds=5)
    assert len(post.sink.taken) == 1


async def test_another_processs_lease_is_left_alone(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with store.begin(acme.id) as session:
        await submit(session, order(), now=now())
    async with store.begin(acme.id) as session:
        delivery = (await session.scalars(select(Delivery))).one()
        delivery.state, delivery.claimed_by = "sending", "mail-10/x/1/0"
        delivery.claimed_until = now() + timedelta(seconds=60)
    async with start() as post:
        post.service.wake()
        await asyncio.sleep(0.3)
    assert post.sink.taken == []


async def test_ending_in_the_middle_of_a_delivery_lets_it_finish(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with start(Sink(delay=0.5)) as post:
        message = await send(store, acme, post)
        await until(lambda: post.sink.connections)
    assert (await delivery_of(store, message)).state == "delivered"
    assert len(post.sink.taken) == 1


async def test_a_run_that_is_cut_off_holds_nothing_and_is_taken_up_again(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with start(Sink(delay=5)) as post:
        message = await send(store, acme, post)
        await until(lambda: post.sink.connections)
        await post.service.deliverer.close(grace=0.1)
    assert (await delivery_of(store, message)).state == "sending"
    async with start() as post:
        await until(in_state(store, message, "delivered"))

"""From a refusal to a report in the sender's mailbox, over real servers."""

from __future__ import annotations

import asyncio
import email.policy
import smtplib
import ssl
from collections.abc import Mapping
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
import pytest
from sqlalchemy import select

from bus import stations as stations_module
from bus.events import Kind, publish
from bus.stations import Line
from config.settings import Settings
from inbound import service as inbound
from inbound.authentication import Envelope, authenticate
from inbound.bounce import find_bounces
from inbound.parse import parse
from mail.errors import TemporaryError
from mail.tokens import TokenKeys
from mta import notices_station
from mta.accounts import add_credential, dns_records
from mta.notices import Action, Origin, Report, make_dsn
from mta.notices_station import station
from mta.queue_control import bounce
from mta.queue_selection import Which
from mta.spool import Spool
from mta.submission import submit
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Delivery, Hold, Message
from tests.mta.house import Tenant, order
from tests.mta.outpost import Outpost, now, outpost, until
from tests.mta.strangers import Sink

RAW = b"From: bo@acme.test\r\nSubject: Hello\r\nMessage-ID: <m1@acme.test>\r\n\r\nhi\r\n"
NO_SUCH_USER = "550 5.1.1 no such user here"


def as_client(port: int, login: str, secret: str) -> smtplib.SMTP:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = smtplib.SMTP("127.0.0.1", port, timeout=10)
    client.starttls(context=context)
    client.login(login, secret)
    return client


async def reports(store: Sessions) -> list[Message]:
    async with store.read(EVERY_COMPANY) as session:
        found = select(Message).where(Message.order_key.startswith("dsn:"))
        return list(await session.scalars(found.order_by(Message.created_at)))


class Desk:
    """The station alone, with deliveries that a test makes up."""

    def __init__(self, store: Sessions, tenant: Tenant, folder: Path, **notices: Any) -> None:
        self.store, self.tenant = store, tenant
        self.spool = Spool(folder / "spool")
        self.clock = now
        settings = Settings.model_validate(
            {"host": {"name": "mail.acme.test", "data": folder}, "notices": notices}
        )
        self.line = Line(
            store,
            [station(sessions=store, settings=settings, spool=self.spool, clock=self.clock)],
            tick=0.01,
        )
        self.count = 0

    async def told(
        self,
        kind: Kind = Kind.DELIVERY_BOUNCED,
        *,
        envelope: Mapping[str, Any] | None,
        raw: bytes = RAW,
        age: timedelta = timedelta(),
        **payload: Any,
    ) -> list[Message]:
        """The reports after this happened to a message with that envelope."""
        self.count += 1
        place = await self.spool.append(raw)
        parsed = {} if envelope is None else {"envelope": dict(envelope)}
        async with self.store.begin(self.tenant.id) as session:
            made = order(f"k{self.count}", spool=place, parsed=parsed)
            message = await submit(session, made, now=now() - age)
            for _ in range(2):  # An event may come twice.
                await publish(
                    session,
                    kind,
                    message=message.id,
                    **{"code": 550, "text": "5.1.1 no", **payload},
                )
        await self.line.drain()
        async with self.store.read(EVERY_COMPANY) as session:
            assert not list(await session.scalars(select(Hold.cause)))
        return await reports(self.store)


@pytest.fixture
def desk(store: Sessions, acme: Tenant, tmp_path: Path) -> Desk:
    return Desk(store, acme, tmp_path)


async def test_a_failure_is_told_once(desk: Desk) -> None:
    (report,) = await desk.told(envelope={"sender": "bo@office.test"})
    assert (report.recipient, report.sender) == ("bo@office.test", "mailer-daemon@acme.test")
    raw = desk.spool.read(report.spool or {})
    assert b"Message-ID: <m1@acme.test>" in raw
    assert report.parsed["ready_made"] == {"return_path": "", "signed": True}


@pytest.mark.parametrize(
    ("envelope", "raw"),
    [
        (None, RAW),
        ({"sender": ""}, RAW),
        ({"sender": "<>"}, RAW),
        ({"sender": "bo@office.test", "notify": ["NEVER"]}, RAW),
        ({"sender": "bo@office.test", "notify": ["SUCCESS"]}, RAW),
        ({"sender": "r-abc@reply.acme.test"}, RAW),
        ({"sender": "bo@office.test"}, b"Auto-Submitted: auto-replied\r\n" + RAW),
        ({"sender": "bo@office.test"}, b"Auto-Submitted: auto-generated\r\n" + RAW),
    ],
)
async def test_nobody_is_told(desk: Desk, envelope: dict[str, Any] | None, raw: bytes) -> None:
    assert await desk.told(envelope=envelope, raw=raw) == []


async def test_a_report_that_fails_is_not_reported(desk: Desk) -> None:
    (report,) = await desk.told(envelope={"sender": "bo@office.test"})
    async with desk.store.begin(desk.tenant.id) as session:
        await publish(session, Kind.DELIVERY_BOUNCED, message=report.id, code=550, text="5.1.1 no")
    await desk.line.drain()
    assert len(await reports(desk.store)) == 1


async def test_a_delay_is_told_once_after_some_hours(desk: Desk) -> None:
    envelope = {"sender": "bo@office.test"}
    late = {"code": 451, "text": "4.2.1 later"}
    deferred = Kind.DELIVERY_DEFERRED
    assert await desk.told(deferred, envelope=envelope, age=timedelta(hours=3), **late) == []
    (report,) = await desk.told(deferred, envelope=envelope, age=timedelta(hours=5), **late)
    assert b"Action: delayed\r\n" in desk.spool.read(report.spool or {})
    asked = {**envelope, "notify": ["FAILURE"]}
    assert len(await desk.told(deferred, envelope=asked, age=timedelta(hours=5), **late)) == 1


async def test_delays_may_be_left_out(store: Sessions, acme: Tenant, tmp_path: Path) -> None:
    desk = Desk(store, acme, tmp_path, delayed_after="0s")
    asked = {"sender": "bo@office.test", "notify": ["DELAY"]}
    assert await desk.told(Kind.DELIVERY_DEFERRED, envelope=asked, age=timedelta(days=4)) == []


async def test_a_success_is_told_where_it_was_asked_for(desk: Desk) -> None:
    done: dict[str, Any] = {"code": 250, "text": "2.0.0 queued"}
    asked = {"sender": "bo@office.test", "notify": ["SUCCESS", "FAILURE"]}
    delivered = Kind.DELIVERY_DELIVERED
    assert await desk.told(delivered, envelope={"sender": "bo@office.test"}, **done) == []
    (report,) = await desk.told(delivered, envelope=asked, **done)
    assert b"Action: relayed\r\n" in desk.spool.read(report.spool or {})


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("suppressed: unsubscribed", "does not write to ann@customer.test any more"),
        ("topic not wanted: news", "never sent, by a rule or a person of your company: topic not"),
        ("expired", "never took it"),
    ],
)
async def test_what_the_gate_refused_is_told(desk: Desk, reason: str, words: str) -> None:
    (report,) = await desk.told(
        Kind.DELIVERY_SKIPPED,
        envelope={"sender": "bo@office.test"},
        code=None,
        text="",
        reason=reason,
    )
    said = parse(desk.spool.read(report.spool or {})).text
    assert words in " ".join(said.split())


async def test_a_bounce_that_comes_later_is_told(desk: Desk) -> None:
    (report,) = await desk.told(
        Kind.BOUNCE_RECEIVED,
        envelope={"sender": "bo@office.test"},
        code=None,
        text="",
        **{"class": "full", "status": "5.2.2", "hard": False, "report": None},
    )
    raw = desk.spool.read(report.spool or {})
    assert b"Status: 5.2.2\r\n" in raw
    assert "is full" in parse(raw).text


async def test_a_lost_original_is_no_hindrance(desk: Desk) -> None:
    async with desk.store.begin(desk.tenant.id) as session:
        gone = {"segment": "gone.seg", "offset": 0, "length": 1, "crc": 0}
        message = await submit(
            session,
            order(spool=gone, parsed={"envelope": {"sender": "bo@office.test"}}),
            now=now(),
        )
        await publish(session, Kind.DELIVERY_BOUNCED, message=message.id, code=550, text="no")
    await desk.line.drain()
    assert len(await reports(desk.store)) == 1


async def test_a_flood_is_cut_off(store: Sessions, acme: Tenant, tmp_path: Path) -> None:
    desk = Desk(store, acme, tmp_path, per_hour=3)
    for _ in range(6):
        made = await desk.told(envelope={"sender": "bo@office.test"})
    texts = [parse(desk.spool.read(report.spool or {})).text for report in made]
    assert ["no more reports within this hour" in text for text in texts] == [False, False, True]
    assert len(await desk.told(envelope={"sender": "another@office.test"})) == 4


async def test_a_store_that_fails_on_the_way_makes_no_second_report(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stations_module, "PATIENCE", (0.01, 0.01, 0.01))
    failures = iter([True, True, False])

    async def unsteady(session: Any, made: Any, *, now: Any) -> Message:
        sent = await submit(session, made, now=now)
        if next(failures, False):
            raise TemporaryError("not now")
        return sent

    monkeypatch.setattr(notices_station, "submit", unsteady)
    assert len(await desk.told(envelope={"sender": "bo@office.test"})) == 1


async def test_another_company_is_not_looked_at(desk: Desk, rival: Tenant) -> None:
    async with desk.store.begin(desk.tenant.id) as session:
        parsed = {"envelope": {"sender": "bo@office.test"}}
        ours = (await submit(session, order(parsed=parsed), now=now())).id
    async with desk.store.begin(rival.id) as session:
        await publish(session, Kind.DELIVERY_BOUNCED, message=ours, code=550, text="5.1.1 no")
    await desk.line.drain()
    assert await reports(desk.store) == []


async def told_over_smtp(post: Outpost, store: Sessions, tenant: Tenant, line: Line) -> bytes:
    """Hands a message in, lets it fail, and returns the report as the sender's host got it."""
    async with store.begin(tenant.id) as session:
        _, secret = await add_credential(session, "smtp", login="shop", now=now())
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = "bo@acme.test", "ann@customer.test", "Hello"
    letter["Message-ID"] = "<hello-1@office.test>"
    letter.set_content("Are you there?")

    def hand_in() -> None:
        with as_client(post.ports["submission"], "shop", secret) as client:
            client.sendmail(
                "bo@acme.test",
                ["ann@customer.test"],
                letter.as_bytes(policy=email.policy.SMTP),
                mail_options=["RET=FULL", "ENVID=order+2B7"],
                rcpt_options=["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;+61nn@customer.test"],
            )

    await asyncio.to_thread(hand_in)

    async def bounced() -> bool:
        async with store.read(EVERY_COMPANY) as session:
            return await session.scalar(select(Delivery.state)) == "bounced"

    await until(bounced)
    await line.drain()
    post.service.wake()
    await until(lambda: post.sink.taken)
    (taken,) = post.sink.taken
    assert taken.mail_from.strip("<>") == ""
    assert taken.recipients == ["bo@acme.test"]
    return taken.content


async def test_a_refusal_comes_back_as_a_report(
    store: Sessions, acme: Tenant, keys: TokenKeys, seal: Seal, tmp_path: Path
) -> None:
    sink = Sink(at_rcpt={"ann@customer.test": NO_SUCH_USER})
    async with outpost(
        store, keys, seal, tmp_path, "customer.test", "acme.test", sink=sink
    ) as post:
        told = station(sessions=store, settings=post.settings, spool=post.spool, clock=now)
        raw = await told_over_smtp(post, store, acme, Line(store, [told], tick=0.1))
    found = find_bounces(parse(raw))
    assert found is not None
    (bounce,) = found.bounces
    assert (bounce.recipient, bounce.status, bounce.code) == ("ann@customer.test", "5.1.1", 550)
    assert bounce.hard
    assert found.original_message_id == "hello-1@office.test"
    assert b"Original-Envelope-Id: order+7\r\n" in raw
    assert b"Original-Recipient: rfc822; ann@customer.test\r\n" in raw
    assert b"Final-Recipient: rfc822; ann@customer.test\r\n" in raw
    assert b"Content-Type: message/rfc822\r\n" in raw
    assert b"Are you there?" in raw
    assert b"Remote-MTA: dns; mx.customer.test\r\n" in raw
    assert b"Diagnostic-Code: smtp; 550 5.1.1 no such user here\r\n" in raw
    records = dns_records(acme.domain, seal, host="mail.acme.test", public_host="")
    texts = {record.name: [record.value] for record in records if record.type == "TXT"}

    def answer(name: bytes, timeout: int = 5) -> bytes:
        return texts[name.decode().rstrip(".")][0].encode()

    assert all(dkim.DKIM(raw).verify(idx=n, dnsfunc=answer) for n in (0, 1))
    verdict = await authenticate(raw, Envelope("", "127.0.0.1", "mail.acme.test"), Zone(texts))
    assert verdict.dmarc == "pass"
    assert verdict.aligned_domain == "acme.test"


async def test_a_handed_over_message_is_reported_where_that_was_asked_for(
    store: Sessions, acme: Tenant, keys: TokenKeys, seal: Seal, tmp_path: Path
) -> None:
    async with outpost(store, keys, seal, tmp_path, "customer.test", "acme.test") as post:
        told = station(sessions=store, settings=post.settings, spool=post.spool, clock=now)
        line = Line(store, [told], tick=0.1)
        for key, notify in (("plain", []), ("asked", ["SUCCESS"])):
            envelope = {
                "sender": "bo@acme.test",
                "notify": notify,
                "original": "rfc822;Ann@Customer.test",
                "id": "order+7",
            }
            place = await post.spool.append(RAW)
            async with store.begin(acme.id) as session:
                made = order(key, spool=place, parsed={"envelope": envelope})
                await submit(session, made, now=now())
        post.service.wake()
        await until(lambda: len(post.sink.taken) == 2)

        async def both_over() -> bool:
            async with store.read(EVERY_COMPANY) as session:
                states = list(await session.scalars(select(Delivery.state)))
            return states == ["delivered", "delivered"]

        await until(both_over)
        await line.drain()
        post.service.wake()
        await until(lambda: len(post.sink.taken) == 3)
    raw = post.sink.taken[2].content
    assert post.sink.taken[2].recipients == ["bo@acme.test"]
    for field in (
        b"Original-Envelope-Id: order+7\r\n",
        b"Original-Recipient: rfc822; Ann@Customer.test\r\n",
        b"Action: relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; mx.customer.test\r\n",
    ):
        assert field in raw
    found = find_bounces(parse(raw))
    assert found is not None
    assert found.success


async def test_a_bounce_from_afar_becomes_a_report(
    store: Sessions, acme: Tenant, keys: TokenKeys, seal: Seal, tmp_path: Path
) -> None:
    async with outpost(store, keys, seal, tmp_path, "customer.test", "acme.test") as post:
        told = station(sessions=store, settings=post.settings, spool=post.spool, clock=now)
        reads = inbound.stations(
            sessions=store,
            settings=post.settings,
            keys=keys,
            spool=post.spool,
            resolver=post.resolver,
            clock=now,
        )
        line = Line(store, [told, *reads], tick=0.1)
        place = await post.spool.append(RAW)
        async with store.begin(acme.id) as session:
            envelope = {"sender": "bo@acme.test", "ret": "FULL"}
            await submit(session, order(spool=place, parsed={"envelope": envelope}), now=now())
        post.service.wake()
        await until(lambda: post.sink.taken)
        went = post.sink.taken.pop()
        from_afar = make_dsn(
            Report(
                action=Action.FAILED,
                recipient="ann@customer.test",
                origin=Origin(went.mail_from),
                submitted_at=now(),
                code=552,
                said="5.2.2 the mailbox is full",
                remote="store.customer.test",
                original=went.content,
            ),
            at=now(),
            host="mx.customer.test",
            domain="customer.test",
            message_id="<late@customer.test>",
            max_returned=0,
        )

        def bring() -> None:
            with smtplib.SMTP("127.0.0.1", post.ports["mx"], timeout=10) as client:
                client.sendmail("", [went.mail_from], from_afar)

        await asyncio.to_thread(bring)

        async def filed() -> bool:
            await line.drain()
            return bool(await reports(store))

        await until(filed)
        post.service.wake()
        await until(lambda: post.sink.taken)
    (taken,) = post.sink.taken
    assert taken.recipients == ["bo@acme.test"]
    found = find_bounces(parse(taken.content))
    assert found is not None
    (bounce,) = found.bounces
    assert (bounce.recipient, bounce.status) == ("ann@customer.test", "5.2.2")
    assert found.original_message_id == "m1@acme.test"
    assert b"Remote-MTA: dns; customer.test\r\n" in taken.content


async def test_giving_up_by_hand_is_told(desk: Desk) -> None:
    async with desk.store.begin(desk.tenant.id) as session:
        parsed = {"envelope": {"sender": "bo@acme.test"}}
        await submit(session, order(parsed=parsed), now=now())
        await bounce(session, Which(), reason="by Bo", now=now())
    await desk.line.drain()
    (report,) = await reports(desk.store)
    assert "taken out of the queue" in parse(desk.spool.read(report.spool or {})).text


class Zone:
    """Texts at names, and nothing else."""

    def __init__(self, texts: Mapping[str, list[str]]) -> None:
        self._texts = texts

    async def txt(self, name: str) -> list[str]:
        return self._texts.get(name, [])

    async def mx(self, name: str) -> list[Any]:
        return []

    async def addresses(self, name: str) -> list[str]:
        return ["127.0.0.1"] if name == "mail.acme.test" else []

    async def ptr(self, address: str) -> list[str]:
        return []

"""Answers of people reach the rep's own mailbox unchanged, and bounces of that go back."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from bus.stations import Line
from inbound import service as inbound
from inbound.bounce import find_bounces
from inbound.parse import parse
from mail.tokens import Token, TokenKeys, TokenKind
from mta.accounts import dns_records
from mta.forwarding import MARK, MAX_HOPS, Answer, refusal, to_pass_on
from mta.forwarding_station import stations
from mta.notice_limit import NoticeLimit
from mta.notices import Action, Origin, Report, make_dsn
from mta.recipients import ensure_contact, suppress
from mta.srs import Rewriter
from mta.submission import submit
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Arrival, Domain, Hold, Message, Suppression, User
from tests.conftest import MONDAY
from tests.mta.house import Tenant, order
from tests.mta.outpost import Outpost, now, outpost, until
from tests.mta.test_arc import RECORD, sealed

REPLY = (
    b"From: Ann <ann@customer.test>\r\nTo: Bo of Acme <%s>\r\nSubject: Re: Hello Ann\r\n"
    b"Message-ID: <yes-1@customer.test>\r\nIn-Reply-To: %s\r\nX-Odd:  kept \r\n\r\n"
    b"Yes, please send me two of them.\r\n\r\n-- \r\nAnn\r\n"
)
ANSWER = Answer("ann@customer.test", "ann@customer.test", True, b"From: ann@customer.test\r\n\r\nx")


def test_a_person_s_answer_is_passed_on() -> None:
    assert refusal(ANSWER, "bo@acme.test") == ""


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (f"{MARK}: 1", "passed on before"),
        ("x-waypost-FORWARDED: 1", "passed on before"),
        ("Delivered-To: <BO@acme.test>", "delivered there before"),
        ("Auto-Submitted: auto-replied; x=y", "a machine"),
        ("Precedence: bulk", "no personal mail"),
        ("\r\n".join(["Received: from a by b"] * (MAX_HOPS + 1)), "servers"),
    ],
)
def test_loops_and_machines_are_not(field: str, why: str) -> None:
    raw = field.encode() + b"\r\n" + ANSWER.raw
    answer = Answer(ANSWER.author, ANSWER.mail_from, True, raw)
    assert why in refusal(answer, "bo@acme.test")


def test_nor_is_what_has_no_return_path_or_came_from_there() -> None:
    assert "null" in refusal(Answer("ann@customer.test", "<>", True, ANSWER.raw), "bo@acme.test")
    fetched = Answer("ann@customer.test", "", False, ANSWER.raw)
    assert refusal(fetched, "bo@acme.test") == ""
    assert "from there" in refusal(ANSWER, "Ann@Customer.test")
    assert "no such address" in refusal(ANSWER, "nobody")


@given(st.binary(max_size=500))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_passed_on_with_whole_lines(raw: bytes) -> None:
    answer = Answer("ann@customer.test", "ann@customer.test", True, raw)
    refusal(answer, "bo@acme.test")
    made = to_pass_on(answer, host="mail.acme.test", mark="m", target="bö@a.test", at=MONDAY)
    assert made.count(b"\r\n") == made.count(b"\n") == made.count(b"\r")
    assert refusal(Answer("a@b.test", "a@b.test", True, made), "bo@acme.test")
    assert made.endswith(raw) or b"\n" in raw or b"\r" in raw


class Scene:
    """Acme has written to Ann for Bo, who has a mailbox at acme's mail host."""

    def __init__(self, post: Outpost, store: Sessions, acme: Tenant, line: Line, sent: Message):
        self.post, self.store, self.acme, self.line, self.sent = post, store, acme, line, sent
        self.keys: TokenKeys | None = None

    async def bring(self, mail_from: str, recipient: str, raw: bytes) -> None:
        """A stranger's server hands a message in at our MX door."""

        def hand_in() -> None:
            with smtplib.SMTP("127.0.0.1", self.post.ports["mx"], timeout=10) as client:
                client.sendmail(mail_from, [recipient], raw)

        before = await self.arrivals()
        await asyncio.to_thread(hand_in)

        async def there() -> bool:  # It is acknowledged before it is in the tables.
            return await self.arrivals() > before

        await until(there)
        await self.settle()

    async def arrivals(self) -> int:
        """How many messages have come."""
        async with self.store.read(EVERY_COMPANY) as session:
            return await session.scalar(select(func.count(Arrival.id))) or 0

    async def settle(self) -> None:
        await self.line.drain()
        self.post.service.wake()
        async with self.store.read(EVERY_COMPANY) as session:
            assert not list(await session.scalars(select(Hold.cause)))

    def reply_address(self, keys: TokenKeys) -> str:
        token = Token(TokenKind.REPLY, self.acme.number, self.sent.id)
        return f"{keys.local_part(token)}@reply.acme.test"

    async def answer(self, keys: TokenKeys, **changes: bytes) -> None:
        """Ann answers."""
        address = self.reply_address(keys)
        raw = REPLY % (address.encode(), self.sent.rfc_message_id.encode())
        await self.bring("ann@customer.test", address, changes.get("before", b"") + raw)

    async def switch(self, **flags: bool) -> None:
        """Sets forwarding for the rep or the domain."""
        async with self.store.begin(self.acme.id) as session:
            for table, on in (("user", User), ("domain", Domain)):
                if table in flags:
                    await session.execute(update(on).values(forward_replies=flags[table]))

    async def forwarded(self) -> list[Message]:
        async with self.store.read(EVERY_COMPANY) as session:
            found = select(Message).where(Message.order_key.startswith("forward:"))
            return list(await session.scalars(found))


@pytest.fixture
async def scene(
    store: Sessions, acme: Tenant, keys: TokenKeys, seal: Seal, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with outpost(store, keys, seal, tmp_path, "customer.test", "acme.test") as post:
        parts: dict[str, Any] = {
            "sessions": store,
            "settings": post.settings,
            "keys": keys,
            "spool": post.spool,
            "resolver": post.resolver,
            "clock": now,
        }
        line = Line(store, [*inbound.stations(**parts), *stations(seal=seal, **parts)], tick=0.05)
        async with store.begin(acme.id) as session:
            rep = User(email="bo@acme.test", name="Bo", role="rep", created_at=now())
            session.add(rep)
            contact = await ensure_contact(session, "ann@customer.test", origin={}, now=now())
            await session.flush()
            made = order(user_id=rep.id, contact_id=contact.id)
            sent = await submit(session, made, now=now())
        post.service.wake()
        await until(lambda: post.sink.taken)
        post.sink.taken.clear()
        yield Scene(post, store, acme, line, sent)


def key_of(acme: Tenant, seal: Seal) -> Callable[..., bytes | None]:
    records = dns_records(acme.domain, seal, host="mail.acme.test", public_host="")
    texts = {record.name: record.value.encode() for record in records if record.type == "TXT"}
    return lambda name, timeout=5: texts.get(name.decode().rstrip("."))


async def test_an_answer_reaches_the_rep_unchanged(
    scene: Scene, keys: TokenKeys, seal: Seal
) -> None:
    await scene.switch(user=True)
    await scene.answer(keys)
    await until(lambda: scene.post.sink.taken)
    (taken,) = scene.post.sink.taken
    assert taken.recipients == ["bo@acme.test"]
    assert taken.mail_from.startswith("SRS0=")
    assert taken.mail_from.endswith("=customer.test=ann@reply.acme.test")
    address = scene.reply_address(keys)
    whole = REPLY % (address.encode(), scene.sent.rfc_message_id.encode())
    assert taken.content.endswith(whole)
    assert b"DKIM-Signature" not in taken.content
    assert taken.content.count(f"{MARK}:".encode()) == 1
    cv, _, reason = dkim.arc_verify(taken.content, dnsfunc=key_of(scene.acme, seal))
    assert (cv, reason) == (b"pass", "success")
    assert b"ARC-Authentication-Results: i=1; mail.acme.test;\r\n\tspf=" in taken.content


async def test_a_chain_of_servers_before_us_is_made_longer(
    scene: Scene, keys: TokenKeys, seal: Seal
) -> None:
    await scene.switch(user=True)
    address = scene.reply_address(keys)
    raw = REPLY % (address.encode(), scene.sent.rfc_message_id.encode())
    name = "r1._domainkey.one.test"
    scene.post.dns.zone[name] = {"TXT": [RECORD]}
    await scene.bring("ann@customer.test", address, sealed(raw, "one.test"))
    await until(lambda: scene.post.sink.taken)
    content = scene.post.sink.taken[0].content
    ours = key_of(scene.acme, seal)

    def key(asked: bytes, timeout: int = 5) -> bytes | None:
        return RECORD.encode() if asked.decode().rstrip(".") == name else ours(asked)

    cv, results, reason = dkim.arc_verify(content, dnsfunc=key)
    assert (cv, reason) == (b"pass", "success")
    assert [one["cv"] for one in results] == [b"pass", b"none"]
    assert b"arc=pass" in content


@pytest.mark.parametrize(("broken", "seals"), [(False, 1), (True, 2)])
async def test_a_chain_that_nobody_can_check_is_left_as_it_is(
    scene: Scene, keys: TokenKeys, broken: bool, seals: int
) -> None:
    await scene.switch(user=True)
    address = scene.reply_address(keys)
    raw = sealed(REPLY % (address.encode(), scene.sent.rfc_message_id.encode()), "one.test")
    if broken:  # That is known for sure, and sealed as a failure.
        scene.post.dns.zone["r1._domainkey.one.test"] = {"TXT": [RECORD]}
        raw = raw.replace(b"two of them", b"ten of them")
    else:
        scene.post.dns.failing.add("r1._domainkey.one.test")
    await scene.bring("ann@customer.test", address, raw)
    await until(lambda: scene.post.sink.taken)
    content = scene.post.sink.taken[0].content
    assert content.count(b"ARC-Seal:") == seals
    assert (b"cv=fail" in content) is broken


async def test_what_bounces_goes_back_to_the_author(scene: Scene, keys: TokenKeys) -> None:
    await scene.switch(user=True)
    await scene.answer(keys)
    await until(lambda: scene.post.sink.taken)
    taken = scene.post.sink.taken.pop()
    report = Report(
        action=Action.FAILED,
        recipient="bo@acme.test",
        origin=Origin(taken.mail_from, ret="FULL"),
        submitted_at=now(),
        code=550,
        said="5.1.1 no such user",
        reason="bad mailbox",
        remote="mx.acme.test",
        original=taken.content,
    )
    raw = make_dsn(
        report,
        at=now(),
        host="mx.acme.test",
        domain="acme.test",
        message_id="<b@acme.test>",
        max_returned=1 << 20,
    )
    await scene.bring("", taken.mail_from.lower(), raw)
    await until(lambda: scene.post.sink.taken)
    (back,) = scene.post.sink.taken
    assert back.mail_from.strip("<>") == ""
    assert back.recipients == ["ann@customer.test"]
    assert back.content.endswith(raw)
    found = find_bounces(parse(back.content))
    assert found is not None
    assert found.bounces[0].status == "5.1.1"
    async with scene.store.read(EVERY_COMPANY) as session:  # Nothing is wrong with Ann's mailbox.
        assert not list(await session.scalars(select(Suppression.address)))


async def test_a_return_path_is_no_relay(scene: Scene, keys: TokenKeys) -> None:
    rewriter = Rewriter(keys.derived("srs"))
    good = rewriter.forward("ann@customer.test", "reply.acme.test", 1, now())
    old = rewriter.forward("ann@customer.test", "reply.acme.test", 1, now() - timedelta(days=40))
    other = rewriter.forward("ann@customer.test", "reply.acme.test", 2, now())
    assert good
    assert old
    assert other
    await scene.bring("eve@evil.test", good, b"From: eve@evil.test\r\n\r\nbuy\r\n")
    for bad in (old, other, good.replace("ann", "eve"), "SRS0=x@reply.acme.test"):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            await scene.bring("", bad, b"From: mailer-daemon@a.test\r\n\r\nx\r\n")
    await asyncio.sleep(0.2)
    assert scene.post.sink.taken == []


async def test_a_return_path_is_good_for_few_bounces(
    scene: Scene, keys: TokenKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for found in scene.line.stations:
        if found.name == "returns":
            monkeypatch.setattr(found.handle.__self__, "_limit", NoticeLimit(2))  # type: ignore[attr-defined]
    good = Rewriter(keys.derived("srs")).forward("ann@customer.test", "reply.acme.test", 1, now())
    assert good is not None
    for number in range(4):
        await scene.bring("", good, b"Subject: %d\r\n\r\nx\r\n" % number)
    async with scene.store.read(EVERY_COMPANY) as session:
        back = select(func.count(Message.id)).where(Message.order_key.startswith("returned:"))
        assert await session.scalar(back) == 2


async def test_nothing_is_passed_on_unless_somebody_wants_it(scene: Scene, keys: TokenKeys) -> None:
    await scene.answer(keys)
    assert await scene.forwarded() == []


async def test_a_domain_s_setting_holds_for_its_reps(scene: Scene, keys: TokenKeys) -> None:
    await scene.switch(domain=True)
    await scene.answer(keys)
    assert [message.recipient for message in await scene.forwarded()] == ["bo@acme.test"]


async def test_without_a_user_it_goes_to_whom_the_mail_was_from(
    scene: Scene, keys: TokenKeys
) -> None:
    await scene.switch(domain=True)
    async with scene.store.begin(scene.acme.id) as session:
        await session.execute(update(Message).values(user_id=None))
        await session.execute(update(User).values(email="another@acme.test"))
    await scene.answer(keys)
    assert [message.recipient for message in await scene.forwarded()] == ["bo@acme.test"]


async def test_a_suppressed_mailbox_gets_nothing(scene: Scene, keys: TokenKeys) -> None:
    await scene.switch(user=True)
    async with scene.store.begin(scene.acme.id) as session:
        await suppress(session, "bo@acme.test", "bounced", now=now())
    await scene.answer(keys)
    assert await scene.forwarded() == []


@pytest.mark.parametrize(
    "before",
    [
        b"Auto-Submitted: auto-replied\r\n",
        b"X-Waypost-Forwarded: 1\r\n",
        b"Precedence: junk\r\n",
    ],
)
async def test_machines_and_loops_end_here(scene: Scene, keys: TokenKeys, before: bytes) -> None:
    await scene.switch(user=True, domain=True)
    await scene.answer(keys, before=before)
    assert await scene.forwarded() == []


async def test_a_mailbox_of_our_own_gets_nothing(
    scene: Scene, rival: Tenant, keys: TokenKeys
) -> None:
    async with scene.store.begin(scene.acme.id) as session:
        await session.execute(update(User).values(email="bo@reply.rival.test"))
    await scene.switch(user=True)
    await scene.answer(keys)
    assert await scene.forwarded() == []


async def test_somebody_who_has_left_gets_nothing(scene: Scene, keys: TokenKeys) -> None:
    await scene.switch(user=True, domain=True)
    async with scene.store.begin(scene.acme.id) as session:
        await session.execute(update(User).values(disabled_at=now()))
    await scene.answer(keys)
    assert await scene.forwarded() == []

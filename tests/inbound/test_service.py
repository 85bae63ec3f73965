"""Mail comes in and becomes a message and its event, once, in the right company."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from bus.events import Kind, publish
from bus.stations import Line
from config.settings import Settings
from inbound import service
from inbound.bounce import Bounce, Reason
from inbound.filing import bounce_for
from mail.ids import uuid7
from mail.tokens import Token, TokenKeys, TokenKind
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import (
    Arrival,
    Contact,
    Credential,
    Domain,
    Draft,
    Event,
    Hold,
    Message,
    Reading,
    Suppression,
)
from tests.conftest import MONDAY
from tests.inbound.test_authentication import World, signed
from tests.inbound.world import Firm, add_firm, add_message


class Shelf:
    """A spool in memory."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def read(self, place: Mapping[str, Any]) -> bytes:
        return self.kept[int(place["at"])]


class Post:
    """Two companies, mail that arrives for them, and the station that understands it."""

    def __init__(self, store: Sessions, keys: TokenKeys, one: Firm, two: Firm) -> None:
        self.store, self.keys, self.one, self.two = store, keys, one, two
        self.shelf, self.names = Shelf(), World()
        made = service.stations(
            sessions=store,
            settings=Settings(),
            keys=keys,
            spool=self.shelf,
            resolver=self.names,
            clock=lambda: MONDAY,
        )
        self.line = Line(store, made, tick=0.01)

    def address(
        self, kind: TokenKind, subject: UUID | None = None, firm: Firm | None = None
    ) -> str:
        firm = firm or self.one
        token = Token(kind, firm.number, subject or firm.message)
        return f"{self.keys.local_part(token)}@{firm.host}"

    async def arrives(self, raw: bytes, to: str, firm: Firm | None = None, **more: Any) -> UUID:
        """Hands a message in without waiting for what becomes of it."""
        firm = firm or self.one
        self.shelf.kept.append(raw)
        row = {
            "id": uuid7(),
            "key": f"mx:{uuid7()}",
            "source": "mx",
            "mail_from": "ann@example.com",
            "recipients": [to],
            "spool": {"at": len(self.shelf.kept) - 1},
            "state": "waiting",
            "received_at": MONDAY,
        } | more
        async with self.store.begin(firm.id) as session:
            session.add(Arrival(**row))
            await session.flush()
            await publish(session, Kind.MAIL_ARRIVED, arrival=row["id"])
        return UUID(str(row["id"]))

    async def takes(
        self, raw: bytes, to: str, firm: Firm | None = None, **more: Any
    ) -> tuple[Message, list[Event]]:
        """The message that the arrival became, and the events after it."""
        firm = firm or self.one
        before = len(await self.events(firm))
        key = await self.arrives(raw, to, firm, **more)
        await self.line.drain()
        arrival = await self.arrival(key, firm)
        async with self.store.read(firm.id) as session:
            assert not list(await session.scalars(select(Hold)))
            message = await session.scalar(select(Message).where(Message.id == arrival.message_id))
        assert message is not None
        return message, (await self.events(firm))[before:]

    async def events(self, firm: Firm) -> list[Event]:
        async with self.store.read(firm.id) as session:
            found = select(Event).where(Event.kind != Kind.MAIL_ARRIVED).order_by(Event.seq)
            return list(await session.scalars(found))

    async def arrival(self, key: UUID, firm: Firm | None = None) -> Arrival:
        async with self.store.read((firm or self.one).id) as session:
            return (await session.scalars(select(Arrival).where(Arrival.id == key))).one()

    async def suppressed(self, firm: Firm | None = None) -> list[tuple[str, str]]:
        async with self.store.read((firm or self.one).id) as session:
            rows = await session.scalars(select(Suppression))
            return [(row.address, row.reason) for row in rows]


@pytest.fixture
async def post(store: Sessions, keys: TokenKeys) -> Post:
    return await open_post(store, keys)


async def open_post(store: Sessions, keys: TokenKeys) -> Post:
    """Both companies with their domains, and the station."""
    one, two = await add_firm(store, 1, "ann"), await add_firm(store, 2, "zoe")
    for firm in (one, two):
        async with store.begin(firm.id) as session:
            session.add(
                Domain(
                    name=f"firm{firm.number}.test",
                    reply_domain=firm.host,
                    rsa_selector="r",
                    rsa_key="",
                    ed25519_selector="e",
                    ed25519_key="",
                    created_at=MONDAY,
                )
            )
    return Post(store, keys, one, two)


_LETTERS = iter(range(10_000))


def letter(
    text: str,
    *,
    to: str = "x@y.test",
    sender: str = "Ann Lee <ann@example.com>",
    subject: str = "Re: Fresh tea for Ann",
    **fields: str,
) -> bytes:
    lines = {
        "From": sender,
        "To": to,
        "Subject": subject,
        "Date": "Mon, 23 Nov 2026 08:00:00 +0000",
        "Message-ID": f"<{next(_LETTERS)}@example.com>",
        "Content-Type": "text/plain; charset=utf-8",
    } | {name.replace("_", "-"): value for name, value in fields.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return (head + "\r\n" + text.replace("\n", "\r\n")).encode("utf-8", "surrogatepass")


QUOTED = """Yes, please send me a sample.

On Mon, 23 Nov 2026 at 07:00, Firm 1 <hello@firm1.test> wrote:
> Dear Ann, our tea has come.
"""


async def test_a_reply_is_tied_and_told(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    message, events = await post.takes(letter(QUOTED, to=to), to)
    assert (message.direction, message.kind, message.state) == ("in", "reply", "tied")
    assert (message.contact_id, message.answers_id) == (post.one.contact, post.one.message)
    assert message.thread_id == post.one.thread
    assert message.body == "Yes, please send me a sample."
    assert "our tea has come" in message.parsed["removed"]
    (event,) = events
    assert event.kind == Kind.REPLY_RECEIVED
    assert (event.message_id, event.contact_id) == (message.id, post.one.contact)
    assert event.payload == {
        "answers": str(post.one.message),
        "unsubscribe": False,
        "may_act": False,
        "sender_differs": False,
    }


async def test_a_wish_to_stop_is_said_with_the_reply(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    message, (event,) = await post.takes(letter("Please unsubscribe me.\n", to=to), to)
    assert (event.kind, event.payload["unsubscribe"]) == (Kind.REPLY_RECEIVED, True)
    assert message.kind == "reply"
    assert await post.suppressed() == []  # The responder decides; it is a person's sentence.


async def test_a_signed_reply_may_act(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    raw, texts = signed(letter(QUOTED, to=to))
    post.names.texts = texts
    _, (event,) = await post.takes(raw, to)
    assert event.payload["may_act"] is True


async def test_the_same_mail_twice_has_one_effect(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    raw = letter(QUOTED, to=to)
    message, _ = await post.takes(raw, to)
    again, events = await post.takes(b"Received: by another way\r\n" + raw, to, source="imap")
    assert (again.id, events) == (message.id, [])


async def test_the_same_event_twice_has_one_effect(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    key = await post.arrives(letter(QUOTED, to=to), to)
    async with post.store.begin(post.one.id) as session:
        await publish(session, Kind.MAIL_ARRIVED, arrival=key)
        await publish(session, Kind.MAIL_ARRIVED, arrival=uuid7())
    await post.line.drain()
    assert len(await post.events(post.one)) == 1
    assert (await post.arrival(key)).state == "done"


async def test_references_tie_what_came_to_another_address(post: Post) -> None:
    name = f"<{post.one.message}@firm1.test>"
    message, (event,) = await post.takes(
        letter("Sure.\n", to="hello@firm1.test", In_Reply_To=name, subject="Hi"), "box"
    )
    assert message.parsed["tie"]["how"] == "references"
    assert event.kind == Kind.REPLY_RECEIVED


async def test_what_fits_nothing_waits_for_a_person(post: Post) -> None:
    raw = letter("Hello?\n", to="hello@firm1.test", sender="Eve <eve@evil.test>", subject="Hi")
    message, (event,) = await post.takes(raw, "hello@firm1.test")
    assert (message.state, message.contact_id) == ("review", None)
    assert (event.kind, event.message_id) == (Kind.UNTIED_RECEIVED, message.id)
    known = letter("Hello?\n", to="hello@firm1.test", subject="Something else")
    message, (event,) = await post.takes(known, "hello@firm1.test")
    assert (message.state, message.contact_id) == ("review", post.one.contact)
    assert event.payload["candidates"] == [str(post.one.message)]


async def test_a_token_of_another_company_ties_nothing(post: Post) -> None:
    foreign = post.address(TokenKind.REPLY, post.two.message, post.two)
    local = foreign.partition("@")[0]
    raw = letter("Hello\n", to=f"{local}@{post.one.host}", sender="eve@evil.test", subject="Hi")
    message, (event,) = await post.takes(raw, f"{local}@{post.one.host}")
    assert event.kind == Kind.UNTIED_RECEIVED
    assert any("somebody else" in reason for reason in message.parsed["reasons"])
    stop = post.address(TokenKind.UNSUBSCRIBE, post.two.message, post.two)
    await post.takes(letter("", to=stop, sender="eve@evil.test", subject="Hi"), stop)
    assert await post.suppressed() == await post.suppressed(post.two) == []
    assert await post.events(post.two) == []


async def test_a_forged_token_ties_nothing(post: Post) -> None:
    forger = TokenKeys({0: os.urandom(32)}, current=0)
    local = forger.local_part(Token(TokenKind.UNSUBSCRIBE, 1, post.one.message))
    to = f"{local}@{post.one.host}"
    message, (event,) = await post.takes(letter("", to=to, sender="eve@evil.test"), to)
    assert event.kind == Kind.UNTIED_RECEIVED
    assert any("signature" in reason for reason in message.parsed["reasons"])
    assert await post.suppressed() == []


async def test_mail_to_the_unsubscribe_address_stops_once(post: Post) -> None:
    to = post.address(TokenKind.UNSUBSCRIBE)
    _, (event,) = await post.takes(letter("", to=to, subject="unsubscribe"), to)
    assert (event.kind, event.payload["how"]) == (Kind.UNSUBSCRIBED, "mail")
    assert (event.message_id, event.contact_id) == (post.one.message, post.one.contact)
    assert await post.suppressed() == [("ann@example.com", "unsubscribed")]
    _, again = await post.takes(letter("", to=to, subject="unsubscribe"), to)
    assert again == []


async def test_a_machine_does_not_unsubscribe_anybody(post: Post) -> None:
    to = post.address(TokenKind.UNSUBSCRIBE)
    raw = letter("I am away.\n", to=to, subject="Automatic reply", Auto_Submitted="auto-replied")
    await post.takes(raw, to)
    assert await post.suppressed() == []


def report(post: Post, status: str, text: str, recipient: str = "ann@example.com") -> bytes:
    to = post.address(TokenKind.BOUNCE)
    action = "delayed" if status.startswith("4") else "failed"
    body = f"""--b
Content-Type: text/plain

Sorry, your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {text}

--b
Content-Type: text/rfc822-headers

Message-ID: <{post.one.message}@firm1.test>
To: {recipient}
Subject: Fresh tea for Ann

--b--
"""
    return letter(
        body,
        to=to,
        sender="Mail Delivery System <mailer-daemon@example.com>",
        subject="Undelivered Mail Returned to Sender",
        Content_Type='multipart/report; report-type=delivery-status; boundary="b"',
        Auto_Submitted="auto-replied",
    )


async def test_a_hard_bounce_suppresses_the_address(post: Post) -> None:
    raw = report(post, "5.1.1", "550 5.1.1 user unknown")
    message, (event,) = await post.takes(raw, post.address(TokenKind.BOUNCE), mail_from="")
    assert (message.kind, event.kind) == ("bounce", Kind.BOUNCE_RECEIVED)
    assert (event.message_id, event.contact_id) == (post.one.message, post.one.contact)
    assert event.payload["class"] == "bad_mailbox"
    assert (event.payload["hard"], event.payload["status"]) == (True, "5.1.1")
    assert event.payload["report"] == str(message.id)
    assert await post.suppressed() == [("ann@example.com", "bounced")]


async def test_a_soft_bounce_and_a_delay_suppress_nobody(post: Post) -> None:
    to = post.address(TokenKind.BOUNCE)
    _, (event,) = await post.takes(report(post, "5.2.2", "552 5.2.2 mailbox full"), to)
    assert (event.kind, event.payload["hard"]) == (Kind.BOUNCE_RECEIVED, False)
    message, events = await post.takes(report(post, "4.4.1", "connection timed out"), to)
    assert (message.kind, events) == ("delayed", [])
    assert await post.suppressed() == []


async def test_a_bounce_without_a_token_ties_by_the_original(post: Post) -> None:
    raw = report(post, "5.1.1", "550 5.1.1 user unknown").replace(
        post.address(TokenKind.BOUNCE).encode(), b"hello@firm1.test"
    )
    _, (event,) = await post.takes(raw, "hello@firm1.test", mail_from="")
    assert (event.kind, event.payload["hard"]) == (Kind.BOUNCE_RECEIVED, True)


async def test_an_invented_bounce_suppresses_nobody(post: Post) -> None:
    raw = report(post, "5.1.1", "550 5.1.1 user unknown").replace(
        post.address(TokenKind.BOUNCE).encode(), b"hello@firm1.test"
    )
    raw = raw.replace(str(post.one.message).encode(), b"made-up")
    message, (event,) = await post.takes(raw, "hello@firm1.test", mail_from="")
    assert (message.state, event.kind) == ("review", Kind.UNTIED_RECEIVED)
    assert await post.suppressed() == []


def test_of_many_recipients_ours_counts() -> None:
    hard = Bounce("bob@else.test", "5.1.1", 550, Reason.BAD_MAILBOX, True)
    soft = Bounce("Ann@example.com", "5.2.2", 552, Reason.FULL, False)
    assert bounce_for([hard, soft], "ann@example.com") is soft
    assert bounce_for([hard], "ann@example.com") is hard
    other = replace(soft, recipient="cy@else.test")
    assert bounce_for([hard, other], "ann@example.com") is other
    assert bounce_for([replace(hard, delayed=True)], "ann@example.com") is None


async def test_a_complaint_suppresses_the_address(post: Post) -> None:
    body = f"""--b
Content-Type: text/plain

This is a spam report.

--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: Test/1.0
Version: 1

--b
Content-Type: message/rfc822

Return-Path: <{post.address(TokenKind.BOUNCE)}>
From: hello@firm1.test
To: ann@example.com
Subject: Fresh tea for Ann
Message-ID: <gone@else.test>

Dear Ann
--b--
"""
    raw = letter(
        body,
        to="abuse@firm1.test",
        sender="feedback@provider.test",
        subject="complaint",
        Content_Type='multipart/report; report-type=feedback-report; boundary="b"',
    )
    message, (event,) = await post.takes(raw, "abuse@firm1.test")
    assert (message.kind, event.kind) == ("complaint", Kind.COMPLAINT_RECEIVED)
    assert event.message_id == post.one.message
    assert await post.suppressed() == [("ann@example.com", "complained")]


async def test_an_absence_note_says_when_they_are_back(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    raw = letter(
        "I am out of the office until December 1, 2026.\n",
        to=to,
        subject="Automatic reply: Fresh tea for Ann",
        Auto_Submitted="auto-replied",
    )
    message, (event,) = await post.takes(raw, to, mail_from="")
    assert (message.kind, event.kind) == ("absence", Kind.ABSENCE_RECEIVED)
    assert event.payload["return_date"].startswith("2026-12-0")
    assert event.contact_id == post.one.contact


async def test_a_forward_with_us_in_copy_names_the_people(post: Post) -> None:
    cc = post.address(TokenKind.FORWARD)
    raw = letter(
        "You might like this, Bo.\n",
        to="Bo <bo@friends.test>, ann@example.com",
        subject="Fwd: Fresh tea for Ann",
        Cc=f"{cc}, Cy <cy@friends.test>, hello@firm1.test",
    )
    message, (event,) = await post.takes(raw, cc)
    assert (message.kind, event.kind) == ("forward", Kind.FORWARD_RECEIVED)
    assert event.contact_id == post.one.contact
    assert event.payload["people"] == [
        {"address": "bo@friends.test", "name": "Bo", "origin": {"found": "To"}},
        {"address": "cy@friends.test", "name": "Cy", "origin": {"found": "Cc"}},
    ]
    assert event.payload["note"] == "You might like this, Bo."


async def test_a_forward_to_us_alone_names_whom_it_went_through(post: Post) -> None:
    to = post.address(TokenKind.FORWARD)
    text = """For your files.

---------- Forwarded message ---------
From: Bo <bo@friends.test>
Date: Mon, 23 Nov 2026 at 07:30
Subject: Fwd: Fresh tea for Ann
To: Ann <ann@example.com>

Have a look at this.
"""
    raw = letter(text, to=to, sender="ann@home.test", subject="Fwd: Fresh tea for Ann")
    _, (event,) = await post.takes(raw, to)
    assert [person["address"] for person in event.payload["people"]] == ["bo@friends.test"]


async def test_our_reply_address_in_copy_only_is_a_forward_too(post: Post) -> None:
    cc = post.address(TokenKind.REPLY)
    raw = letter("Look at this\n", to="bo@friends.test", Cc=cc)
    _, (event,) = await post.takes(raw, cc)
    assert event.kind == Kind.FORWARD_RECEIVED
    both = letter("Yes please\n", to=cc, Cc="bo@friends.test")
    _, (event,) = await post.takes(both, cc)
    assert event.kind == Kind.REPLY_RECEIVED


async def draft_of(post: Post) -> UUID:
    async with post.store.begin(post.one.id) as session:
        question = await add_message(session, post.one, direction="in", kind="reply")
        reading = Reading(
            message_id=question.id,
            intents={},
            top="question",
            certainty=0.9,
            abstain=False,
            decision="ask_rep",
            model_version="1",
            rules_version="1",
            created_at=MONDAY,
        )
        session.add(reading)
        await session.flush()
        draft = Draft(
            message_id=question.id,
            reading_id=reading.id,
            contact_id=post.one.contact,
            subject="Re",
            text="Dear Ann",
            state="proposed",
            created_at=MONDAY,
        )
        session.add(draft)
        await session.flush()
        session.add(
            Credential(
                kind="smtp",
                login="rita",
                secret_hash="",
                address="rep@firm1.test",
                created_at=MONDAY,
            )
        )
        await add_message(
            session,
            post.one,
            kind="approval",
            draft_id=draft.id,
            contact_id=None,
            user_id=post.one.user,
            recipient="rep@firm1.test",
        )
    return draft.id


def approval(to: str, **fields: str) -> bytes:
    return letter("ok\n", to=to, sender="Rita <rep@firm1.test>", subject="Re: Draft", **fields)


async def test_a_rep_approves_with_their_own_login(post: Post) -> None:
    draft = await draft_of(post)
    to = post.address(TokenKind.APPROVAL, draft)
    message, (event,) = await post.takes(approval(to), to, source="submission", login="rita")
    assert (message.kind, message.body, message.draft_id) == ("approval", "ok", draft)
    assert event.kind == Kind.APPROVAL_RECEIVED
    assert event.payload["draft"] == str(draft)
    assert event.payload["user"] == str(post.one.user)
    assert event.payload["authenticated"] is True
    assert event.payload["reasons"] == event.reasons != []
    assert event.contact_id == post.one.contact


async def test_nobody_else_approves(post: Post) -> None:
    draft = await draft_of(post)
    to = post.address(TokenKind.APPROVAL, draft)
    _, (unsigned,) = await post.takes(approval(to), to)
    assert unsigned.payload["authenticated"] is False
    raw, texts = signed(letter("ok\n", to=to, sender="eve@example.com"))
    post.names.texts = texts
    _, (stranger,) = await post.takes(raw, to)
    assert (stranger.payload["authenticated"], stranger.payload["user"]) == (False, None)
    other = letter("ok\n", to=to, sender="rep@firm2.test")
    _, (foreign,) = await post.takes(other, to, source="submission", login="rita")
    assert (foreign.payload["authenticated"], foreign.payload["user"]) == (False, None)
    async with post.store.begin(post.two.id) as session:
        session.add(
            Credential(kind="smtp", login="two", secret_hash="", address=None, created_at=MONDAY)
        )
    _, (theirs,) = await post.takes(approval(to), to, source="submission", login="two")
    assert theirs.payload["authenticated"] is False


async def test_an_absence_note_to_an_approval_address_stops_there(post: Post) -> None:
    draft = await draft_of(post)
    to = post.address(TokenKind.APPROVAL, draft)
    message, events = await post.takes(approval(to, Auto_Submitted="auto-replied"), to)
    assert message.kind in ("absence", "automatic")
    assert [event.kind for event in events if event.kind == Kind.APPROVAL_RECEIVED] == []


async def test_an_approval_of_a_draft_that_is_not_ours_is_reviewed(post: Post) -> None:
    to = post.address(TokenKind.APPROVAL, uuid7())
    message, (event,) = await post.takes(approval(to), to)
    assert (message.state, event.kind) == ("review", Kind.UNTIED_RECEIVED)


async def test_silent_name_servers_are_asked_once_more_for_an_approval(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AGAIN_AFTER_SECONDS", 0.01)
    draft = await draft_of(post)
    to = post.address(TokenKind.APPROVAL, draft)
    raw, texts = signed(approval(to), domain="firm1.test")
    post.names.texts = texts
    post.names.silences = 1
    _, (event,) = await post.takes(raw, to)
    assert event.payload["authenticated"] is True


async def test_our_own_message_that_comes_back_is_held(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    raw = letter("x\n", to=to, Message_ID=f"<{post.one.message}@firm1.test>")
    message, events = await post.takes(raw, to)
    assert (message.state, events) == ("held", [])


async def test_too_many_hops_are_held_with_the_cause(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    raw = b"Received: from a by b\r\n" * 60 + letter("x\n", to=to)
    key = await post.arrives(raw, to)
    await post.line.drain()
    arrival = await post.arrival(key)
    assert arrival.state == "held"
    assert "too many hops" in arrival.cause


async def test_what_cannot_be_read_is_held_and_can_be_tried_again(post: Post) -> None:
    to = post.address(TokenKind.REPLY)
    key = await post.arrives(letter(QUOTED, to=to), to, spool={"at": 99})
    await post.line.drain()
    arrival = await post.arrival(key)
    assert arrival.state == "held"
    assert "IndexError" in arrival.cause
    async with post.store.read(post.one.id) as session:
        kept = await session.scalar(select(Message).where(Message.id == arrival.message_id))
    assert kept is not None
    assert kept.state == "held"

    post.shelf.kept += [b""] * 98 + [letter(QUOTED, to=to)]
    async with post.store.begin(post.one.id) as session:
        assert await service.try_again(session, key, now=MONDAY)
        assert not await service.try_again(session, uuid7(), now=MONDAY)
    await post.line.drain()
    assert (await post.arrival(key)).state == "done"
    assert [event.kind for event in await post.events(post.one)] == [Kind.REPLY_RECEIVED]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\xff\xfe\0",
        b"From: \xff\xfe <@@>\r\nSubject: =?x?Q?=00=ED=A0=80?=\r\n\r\n\0\xed\xa0\x80",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n--a\r\n--a",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n" * 5000,
        b"Subject: " + b"x" * 100_000 + b"\r\n\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256\r\nFrom: a@b.test\r\n\r\nx",
        b"References: " + b"<a@b> " * 20_000 + b"\r\n\r\nx",
    ],
)
async def test_malformed_mail_is_kept(post: Post, raw: bytes) -> None:
    message, events = await post.takes(raw, post.address(TokenKind.REPLY))
    assert message.direction == "in"
    assert message.answers_id == post.one.message
    assert all(event.kind == Kind.REPLY_RECEIVED for event in events)


async def test_every_purpose_on_each_database(any_store: Sessions, keys: TokenKeys) -> None:
    post = await open_post(any_store, keys)
    reply, forward = post.address(TokenKind.REPLY), post.address(TokenKind.FORWARD)
    draft = await draft_of(post)
    asked = post.address(TokenKind.APPROVAL, draft)
    letters = [
        (letter(QUOTED, to=reply), reply, Kind.REPLY_RECEIVED),
        (letter("\0x\ud800", to=reply), reply, Kind.REPLY_RECEIVED),
        (letter("Look\n", to="bo@friends.test", Cc=forward), forward, Kind.FORWARD_RECEIVED),
        (approval(asked), asked, Kind.APPROVAL_RECEIVED),
        (report(post, "5.1.1", "550 5.1.1 user unknown"), reply, Kind.BOUNCE_RECEIVED),
        (letter("Hi\n", sender="eve@evil.test", subject="x"), "box", Kind.UNTIED_RECEIVED),
    ]
    for raw, to, kind in letters:
        _, (event,) = await post.takes(raw, to)
        assert event.kind == kind
    assert await post.suppressed() == [("ann@example.com", "bounced")]
    again, events = await post.takes(letters[0][0], reply)
    assert (again.kind, events) == ("reply", [])


async def test_many_arrivals_of_two_companies_stay_apart(post: Post) -> None:
    for firm in (post.one, post.two):
        to = post.address(TokenKind.REPLY, firm=firm)
        for number in range(6):
            sender = firm.address
            await post.arrives(letter(f"Answer {number}\n", to=to, sender=sender), to, firm)
    await post.line.drain()
    for firm in (post.one, post.two):
        events = await post.events(firm)
        assert [event.kind for event in events] == [Kind.REPLY_RECEIVED] * 6
        assert {event.contact_id for event in events} == {firm.contact}
    async with post.store.read(EVERY_COMPANY) as session:
        assert {arrival.state for arrival in await session.scalars(select(Arrival))} == {"done"}
        assert len(list(await session.scalars(select(Contact)))) == 2

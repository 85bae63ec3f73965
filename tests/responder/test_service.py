"""From a reply to a draft, and from a rep's answer to what is sent: once, and by who may."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from bus.events import Kind
from mail.tokens import TokenKeys
from mta.recipients import is_suppressed, suppress
from responder.approval import Result, approve, reject
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Draft, Event, Hold, Message, Reading, Template
from tests.conftest import MONDAY
from tests.responder.house import House


@pytest.fixture
async def house(store: Sessions, seal: Seal, keys: TokenKeys) -> House:
    return await House.build(store, seal, keys)


async def rows(house: House, kind: type[Any], /, **where: Any) -> list[Any]:
    async with house.store.read(house.tenant.id) as session:
        query = select(kind).filter_by(**where).order_by(kind.id)
        return list(await session.scalars(query))


async def events(house: House, kind: Kind) -> list[Event]:
    async with house.store.read(house.tenant.id) as session:
        assert await session.scalar(select(func.count(Hold.id))) == 0
        found = select(Event).where(Event.kind == kind).order_by(Event.seq)
        return list(await session.scalars(found))


async def text_of(house: House, message: Message) -> str:
    (template,) = await rows(house, Template, id=message.template_id)
    return str(template.text)


async def draft_for(house: House, body: str) -> Draft:
    message = await house.arrives(Kind.REPLY_RECEIVED, body)
    (draft,) = await rows(house, Draft, message_id=message)
    assert isinstance(draft, Draft)
    return draft


async def test_a_question_becomes_a_reading_a_draft_and_a_notice(house: House) -> None:
    draft = await draft_for(house, "How much does it cost for two of us?")
    (reading,) = await rows(house, Reading)
    assert (reading.decision, reading.top) == ("answer", "question_pricing")
    assert [one["rule"] for one in reading.trace][-1] == "question-answer"
    assert draft.text.startswith("Hello Pat,\n\nThank you for your reply.\n\nIt costs 14,900")
    assert draft.text.endswith("Best regards,\nAnn\nacme\n")
    assert draft.subject == "Re: Hello Ann"
    assert (draft.state, draft.gaps, draft.user_id) == ("proposed", [], house.users["Ann"].id)
    sources = {one["source"] for one in draft.sentences}
    assert "content:price@1" in sources
    (notice,) = await rows(house, Message, kind="approval", direction="out")
    assert (notice.recipient, notice.contact_id, notice.draft_id) == (
        "ann@acme.test", None, draft.id,
    )  # fmt: skip
    assert notice.sender == "waypost@reply.acme.test"
    assert notice.parsed["reply_token"][2] == str(draft.id)
    text = await text_of(house, notice)
    for part in ("> How much does it cost", "It costs 14,900 euros.", "ok  ", "question-answer"):
        assert part in text
    (read,) = await events(house, Kind.REPLY_READ)
    assert read.payload["decision"] == "answer"
    assert read.payload["reading"] == str(reading.id)
    assert len(await events(house, Kind.DRAFT_PROPOSED)) == 1


async def test_the_same_event_again_changes_nothing(house: House) -> None:
    draft = await draft_for(house, "How much is it?")
    (event,) = await events(house, Kind.REPLY_RECEIVED)
    async with house.store.begin(house.tenant.id) as session:
        await house.line.stations[0].handle(session, event)
    assert [one.id for one in await rows(house, Draft)] == [draft.id]
    assert len(await rows(house, Reading)) == 1
    assert len(await events(house, Kind.REPLY_READ)) == 1


async def test_ok_sends_the_draft_once_in_the_thread(house: House) -> None:
    draft = await draft_for(house, "How much is it?")
    for _ in range(2):
        await house.decides(draft.id, "ok\n\nAnn", "Ann")
    (answer,) = await rows(house, Message, kind="answer")
    (reply,) = await rows(house, Message, kind="reply")
    assert (answer.sender, answer.recipient) == ("ann@acme.test", "pat@customer.test")
    assert answer.thread_id == house.letter.thread_id
    assert answer.references == f"{house.letter.rfc_message_id} {reply.rfc_message_id}"
    assert await text_of(house, answer) == draft.text
    (after,) = await rows(house, Draft)
    assert (after.state, after.decided_via, after.decided_by) == (
        "approved", "mail", house.users["Ann"].id,
    )  # fmt: skip
    assert (after.sent_text, after.response_id) == (draft.text, answer.id)
    assert len(await events(house, Kind.DRAFT_APPROVED)) == 1
    assert await events(house, Kind.APPROVAL_REFUSED) == []


async def test_own_words_are_sent_in_place_of_the_draft(house: House) -> None:
    draft = await draft_for(house, "How much is it?")
    await house.decides(draft.id, "Dear Pat,\n\n{{ call }} me: 10% off.", "Bo")
    (answer,) = await rows(house, Message, kind="answer")
    assert await text_of(house, answer) == "Dear Pat,\n\n{{ call }} me: 10% off.\n"
    assert answer.sender == "ann@acme.test"
    await house.decides(draft.id, "Dear Pat, something else.", "Ann")
    (refused,) = await events(house, Kind.APPROVAL_REFUSED)
    assert "was approved by Bo" in refused.payload["reason"]
    assert len(await rows(house, Message, kind="answer")) == 1


async def test_no_sends_nothing_and_keeps_the_reason(house: House) -> None:
    draft = await draft_for(house, "How much is it?")
    await house.decides(draft.id, "no, I shall phone instead", "Ann")
    (after,) = await rows(house, Draft)
    assert (after.state, after.note) == ("rejected", "I shall phone instead")
    assert await rows(house, Message, kind="answer") == []
    assert len(await events(house, Kind.DRAFT_REJECTED)) == 1


@pytest.mark.parametrize(
    ("name", "authenticated", "says", "mails"),
    [
        ("Ann", False, "could not be shown to come from ann@acme.test: spf failed.", 1),
        ("Cy", True, "cy@acme.test may not decide", 0),
        ("Stranger", True, "stranger@acme.test may not decide", 0),
    ],
)
async def test_an_answer_of_somebody_else_does_not_count(
    house: House, name: str, authenticated: bool, says: str, mails: int
) -> None:
    draft = await draft_for(house, "How much is it?")
    await house.decides(draft.id, "ok", name, authenticated=authenticated, reasons=["spf failed"])
    (refused,) = await events(house, Kind.APPROVAL_REFUSED)
    assert says in refused.payload["reason"]
    assert [one.state for one in await rows(house, Draft)] == ["proposed"]
    assert len(await rows(house, Message, kind="system")) == mails


async def test_an_unclear_answer_is_asked_about(house: House) -> None:
    draft = await draft_for(house, "How much is it?")
    await house.decides(draft.id, "ok but change the price to 10", "Ann")
    (refused,) = await events(house, Kind.APPROVAL_REFUSED)
    assert "not clear" in refused.payload["reason"]
    (mail,) = await rows(house, Message, kind="system")
    assert mail.recipient == "ann@acme.test"


async def test_a_gap_is_shown_and_keeps_the_draft_from_being_sent(house: House) -> None:
    draft = await draft_for(house, "Are you certified for hospitals?")
    assert draft.gaps == ["Are you certified for hospitals?"]
    assert "[not in the library: Are you certified for hospitals?]" in draft.text
    await house.decides(draft.id, "ok", "Ann")
    await house.decides(draft.id, draft.text.replace("Thank", "Many thanks"), "Ann")
    assert await rows(house, Message, kind="answer") == []
    assert len(await events(house, Kind.APPROVAL_REFUSED)) == 2
    await house.decides(draft.id, "Hello Pat, we are.", "Ann")
    assert len(await rows(house, Message, kind="answer")) == 1


@pytest.mark.parametrize(
    ("body", "payload", "decision", "reason"),
    [
        ("unsubscribe, please", {}, "suppress", "unsubscribed"),
        ("sounds good", {"unsubscribe": True}, "suppress", "unsubscribed"),
        ("You will hear from my lawyer", {}, "escalate", "complained"),
    ],
)
async def test_who_asks_to_stop_is_suppressed_and_the_rep_is_told(
    house: House, body: str, payload: dict[str, Any], decision: str, reason: str
) -> None:
    await house.arrives(Kind.REPLY_RECEIVED, body, **payload)
    async with house.store.read(house.tenant.id) as session:
        assert await is_suppressed(session, "pat@customer.test")
    (event,) = await events(house, Kind.UNSUBSCRIBED)
    assert event.payload["how"] == "reply"
    assert event.message_id == house.letter.id
    (read,) = await events(house, Kind.REPLY_READ)
    assert read.payload["decision"] == decision
    assert await rows(house, Draft) == []
    (told,) = await rows(house, Message, kind="approval", direction="out")
    assert "suppressed" in told.subject
    assert "reply_token" not in told.parsed


async def test_an_absence_pauses_until_a_working_day_after_the_return(house: House) -> None:
    await house.arrives(Kind.ABSENCE_RECEIVED, "I am away.", return_date="2026-11-27")
    (read,) = await events(house, Kind.REPLY_READ)
    assert read.payload["decision"] == "pause"
    assert read.payload["pause_until"] == "2026-11-30T09:00:00+00:00"
    assert await rows(house, Message, kind="approval") == []


async def test_an_unsure_reply_goes_to_the_rep_with_what_there_is(house: House) -> None:
    draft = await draft_for(house, "maybe")
    (reading,) = await rows(house, Reading)
    assert reading.decision == "ask_rep"
    assert "It costs 14,900 euros." in draft.text
    await house.arrives(Kind.REPLY_RECEIVED, "hm")
    assert len(await rows(house, Draft)) == 1
    assert len(await rows(house, Message, kind="approval", direction="out")) == 2


async def test_a_newer_reply_takes_the_place_of_an_open_draft(house: House) -> None:
    first = await draft_for(house, "How much is it?")
    await house.arrives(Kind.ABSENCE_RECEIVED, "away")
    assert [one.state for one in await rows(house, Draft)] == ["proposed"]
    await draft_for(house, "sounds good")
    states = {one.id: one.state for one in await rows(house, Draft)}
    assert states.pop(first.id) == "superseded"
    assert list(states.values()) == ["proposed"]
    await house.decides(first.id, "ok", "Ann")
    assert await rows(house, Message, kind="answer") == []
    (refused,) = await events(house, Kind.APPROVAL_REFUSED)
    assert "A newer reply" in refused.payload["reason"]


async def test_nothing_that_was_sent_is_said_again(house: House) -> None:
    draft = await draft_for(house, "How much is it?")
    await house.decides(draft.id, "ok", "Ann")
    again = await draft_for(house, "How much is it, I asked?")
    assert "14,900" not in again.text
    assert "Thank you for your reply." not in again.text
    assert "they had our passage on it before" in again.gaps[0]


async def test_two_who_approve_at_once_send_one_answer(house: House) -> None:
    draft = await draft_for(house, "How much is it?")

    async def one(name: str) -> Result:
        async with house.store.begin(house.tenant.id) as session:
            user = house.users[name]
            outcome = await approve(session, draft.id, user=user, via="console", now=MONDAY)
        if outcome.result is Result.ALREADY:
            assert outcome.by_name in {"Ann", "Bo"}
            assert outcome.at == MONDAY
            assert "was approved by" in outcome.says
        return outcome.result

    results = await asyncio.gather(*(one(name) for name in ("Ann", "Bo", "Ann", "Bo")))
    assert sorted(results) == [Result.ALREADY] * 3 + [Result.APPROVED]
    assert len(await rows(house, Message, kind="answer")) == 1


async def test_what_keeps_an_answer_from_being_sent(house: House) -> None:
    draft = await draft_for(house, "How much is it?")
    ann, cy = house.users["Ann"], house.users["Cy"]

    async def result(draft_id: UUID, user: Any, text: str | None = None) -> Result:
        async with house.store.begin(house.tenant.id) as session:
            made = await approve(session, draft_id, user=user, via="console", text=text, now=MONDAY)
            return made.result

    assert await result(house.contact.id, ann) is Result.NOT_FOUND
    assert await result(draft.id, cy) is Result.NOT_ALLOWED
    assert await result(draft.id, ann, "  ") is Result.EMPTY
    assert await result(draft.id, ann, "x" * 200_000) is Result.TOO_LONG
    async with house.store.begin(house.tenant.id) as session:
        await suppress(session, "pat@customer.test", "unsubscribed", now=MONDAY)
    assert await result(draft.id, ann) is Result.UNWANTED
    async with house.store.begin(house.tenant.id) as session:
        made = await reject(session, draft.id, user=cy, via="console", note="", now=MONDAY)
        assert made.result is Result.NOT_ALLOWED
    assert await rows(house, Message, kind="answer") == []


async def test_another_company_sees_and_decides_nothing(
    house: House, store: Sessions, seal: Seal
) -> None:
    from tests.mta.house import make_tenant

    draft = await draft_for(house, "How much is it?")
    rival = await make_tenant(store, seal, "rival", 2)
    async with store.begin(rival.id) as session:
        made = await approve(session, draft.id, user=house.users["Bo"], via="console", now=MONDAY)
    assert made.result is Result.NOT_FOUND
    async with store.read(EVERY_COMPANY) as session:
        assert await session.scalar(select(Draft.state)) == "proposed"

"""What people chose about bulk mail, and that nothing goes to an address that is suppressed."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from mail.errors import PermanentError
from mta import claims
from mta.preferences import (
    Cap,
    Choices,
    Wishes,
    choices_of,
    choose,
    refusal,
    set_topic,
    topic_of,
    unsubscribe_scope,
)
from mta.recipients import ensure_contact, forms_of, is_suppressed, suppress
from mta.retry import RetrySchedule
from mta.submission import submit
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Contact, Delivery, Message
from tests.conftest import MONDAY
from tests.mta.house import Tenant, order

NEWS = {"en": {"name": "News"}}


@pytest.fixture
def store(any_store: Sessions) -> Sessions:
    """The gate asks the same on both kinds of database."""
    return any_store


async def put(store: Sessions, tenant: Tenant, key: str, **changes: object) -> UUID:
    async with store.begin(tenant.id) as session:
        values: dict[str, object] = {"contact_id": await _ann(session), **changes}
        return (await submit(session, order(key, **values), now=MONDAY)).id  # type: ignore[arg-type]


async def _ann(session: object) -> UUID:
    contact = await ensure_contact(session, "ann@customer.test", origin={}, now=MONDAY)  # type: ignore[arg-type]
    return contact.id


async def gate(store: Sessions, *, now: datetime = MONDAY) -> dict[str, str]:
    """Asks the gate about all that is due; the reasons by order key, empty for what may go."""
    async with store.begin(EVERY_COMPANY) as session:
        due = await claims.due_destinations(session, after=None, now=now)
        await claims.claim(
            session,
            dict.fromkeys(due, 100),
            now=now,
            fence=f"mail-1/a/{now}",
            schedule=RetrySchedule(),
        )
    async with store.read(EVERY_COMPANY) as session:
        rows = await session.execute(
            select(Message.order_key, Delivery.state, Delivery.reason).join(
                Delivery, Delivery.message_id == Message.id
            )
        )
        return {str(key): reason for key, state, reason in rows if state in ("skipped", "sending")}


async def test_no_kind_of_mail_reaches_a_suppressed_address_by_any_spelling(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    async with store.begin(acme.id) as session:
        await suppress(session, "Ann@Bücher.test", "complained", now=MONDAY)
        assert await is_suppressed(session, "ANN+x@xn--bcher-kva.test")
        assert not await is_suppressed(session, "bob@xn--bcher-kva.test")
    refused = {}
    for kind in ("mail", "bulk", "invitation", "answer"):
        for spelling in ("ann@bücher.test", "ANN@BÜCHER.test", "Ann+a@xn--bcher-kva.test"):
            key = f"{kind} {spelling}"
            await put(store, acme, key, kind=kind, recipient=spelling, contact_id=None)
            refused[key] = "suppressed: complained"
    assert await gate(store) == refused


async def test_what_was_ordered_before_the_complaint_is_stopped_as_well(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    await put(store, acme, "now")
    async with store.begin(rival.id) as session:  # Another company's list is its own.
        await suppress(session, "ann@customer.test", "complained", now=MONDAY)
    await put(store, acme, "later", not_before=MONDAY + timedelta(hours=1))
    assert await gate(store) == {"now": ""}
    async with store.begin(acme.id) as session:
        await suppress(session, "ann@customer.test", "complained", now=MONDAY)
    after = await gate(store, now=MONDAY + timedelta(hours=1))
    assert after["later"] == "suppressed: complained"


async def test_a_scope_stops_its_part_of_the_bulk_mail_only(store: Sessions, acme: Tenant) -> None:
    async with store.begin(acme.id) as session:
        await set_topic(session, "news", names=NEWS, campaigns=["news-*"], now=MONDAY)
        await suppress(session, "ann@customer.test", "unsubscribed", scope="topic:news", now=MONDAY)
        await suppress(session, "ann@customer.test", "asked", scope="campaign:spring", now=MONDAY)
        assert not await is_suppressed(session, "ann@customer.test")
    for campaign in ("news", "news-5", "spring", "summer"):
        await put(store, acme, campaign, kind="bulk", campaign=campaign)
    await put(store, acme, "bill", kind="mail", campaign="news-5")
    assert await gate(store) == {
        "news": "suppressed: unsubscribed (topic:news)",
        "news-5": "suppressed: unsubscribed (topic:news)",
        "spring": "suppressed: asked (campaign:spring)",
        "summer": "",
        "bill": "",
    }


async def test_topics_and_a_pause_are_honoured_and_can_be_taken_back(
    store: Sessions, acme: Tenant
) -> None:
    until = MONDAY + timedelta(days=30)
    async with store.begin(acme.id) as session:
        await set_topic(session, "news", names=NEWS, campaigns=["news-*"], now=MONDAY)
        await set_topic(session, "events", names=NEWS, chosen=False, now=MONDAY)
        ann = await session.get(Contact, await _ann(session))
        assert ann is not None
        assert (await choices_of(session, ann.id)).topics == {"news": True, "events": False}
        chosen = Choices({"events": True}, 0, None)
        changed = await choose(session, ann, chosen, now=MONDAY)
        assert changed == {"topic:news": False, "topic:events": True}
        assert await choose(session, ann, chosen, now=MONDAY) == {}
    await put(store, acme, "a", kind="bulk", campaign="news-1")
    await put(store, acme, "b", kind="bulk", campaign="events")
    assert await gate(store) == {"a": "topic not wanted: news", "b": ""}
    async with store.begin(acme.id) as session:
        ann = await session.get(Contact, await _ann(session))
        assert ann is not None
        paused = Choices({"news": True, "events": True}, 0, until)
        changed = await choose(session, ann, paused, now=MONDAY)
        assert changed == {"topic:news": True, "paused_until": until.isoformat()}
    await put(store, acme, "c", kind="bulk", campaign="news-1")
    await put(store, acme, "bill")
    assert (await gate(store))["c"] == "paused until 2026-12-23"
    assert (await gate(store))["bill"] == ""
    await put(store, acme, "d", kind="bulk", campaign="news-1", not_before=until)
    assert (await gate(store, now=until))["d"] == ""


async def test_nobody_gets_more_bulk_mail_than_the_company_allows_itself(
    store: Sessions, acme: Tenant
) -> None:
    async with store.begin(EVERY_COMPANY) as session:
        policy = {"bulk_cap": {"mails": 2, "days": 7}}
        await session.execute(update(Company).where(Company.id == acme.id).values(policy=policy))
    for key in ("a", "b", "c"):
        await put(store, acme, key, kind="bulk")
    await put(store, acme, "bill")
    first = await gate(store)
    assert sorted(first.values()) == ["", "", "", "cap: 2 in 7 days"]
    assert first["bill"] == ""
    async with store.begin(EVERY_COMPANY) as session:
        done = update(Delivery).where(Delivery.state == "sending")
        await session.execute(done.values(state="delivered", finished_at=MONDAY))
    await put(store, acme, "d", kind="bulk", not_before=MONDAY + timedelta(days=6))
    assert (await gate(store, now=MONDAY + timedelta(days=6)))["d"] == "cap: 2 in 7 days"
    await put(store, acme, "e", kind="bulk", not_before=MONDAY + timedelta(days=8))
    assert (await gate(store, now=MONDAY + timedelta(days=8)))["e"] == ""


async def test_a_company_without_a_postal_address_sends_no_bulk(
    store: Sessions, acme: Tenant
) -> None:
    await put(store, acme, "before", kind="bulk")
    async with store.begin(EVERY_COMPANY) as session:
        gone = update(Company).where(Company.id == acme.id).values(postal_address=" ")
        await session.execute(gone)
    with pytest.raises(PermanentError, match="--postal-address"):
        await put(store, acme, "after", kind="bulk", subject="Another one")
    await put(store, acme, "bill")
    assert await gate(store) == {"before": "the company has no postal address", "bill": ""}


@given(
    st.builds(
        Wishes,
        kind=st.sampled_from(["bulk", "invitation", "mail", "answer"]),
        postal_address=st.booleans(),
        scoped=st.dictionaries(st.sampled_from(["topic:a", "campaign:c"]), st.just("asked")),
        campaign=st.sampled_from(["", "c"]),
        topic=st.sampled_from(["", "a"]),
        wanted=st.booleans(),
        paused_until=st.none() | st.just(MONDAY + timedelta(days=1)),
        every_days=st.sampled_from([0, 7]),
        cap=st.none() | st.just(Cap(1, 3)),
        recent=st.lists(st.sampled_from([MONDAY, MONDAY - timedelta(days=5)])).map(tuple),
    )
)
def test_what_goes_out_breaks_no_wish(wishes: Wishes) -> None:
    if refusal(wishes, now=MONDAY) or wishes.kind not in ("bulk", "invitation"):
        return
    assert wishes.postal_address
    assert wishes.wanted
    assert wishes.paused_until is None
    scoped = wishes.scoped or {}
    assert not (wishes.topic and f"topic:{wishes.topic}" in scoped)
    assert not (wishes.campaign and f"campaign:{wishes.campaign}" in scoped)
    if wishes.kind == "bulk" and wishes.every_days:
        assert not wishes.recent
    if wishes.kind == "bulk" and wishes.cap:
        assert MONDAY not in wishes.recent


def test_the_forms_of_an_address() -> None:
    assert forms_of("Ann+x+y@Shop.test") == ["ann+x+y@shop.test", "ann@shop.test"]
    assert forms_of("a@xn--bcher-kva.test") == ["a@xn--bcher-kva.test", "a@bücher.test"]
    assert forms_of("+a@shop.test") == ["+a@shop.test"]
    assert forms_of('"a+b"@shop.test') == ['"a+b"@shop.test']
    assert forms_of("a@xn--\u00fc.test")[0] == "a@xn--\u00fc.test"


async def test_a_click_ends_all_mail_unless_the_company_has_chosen_topics(
    store: Sessions, acme: Tenant
) -> None:
    async with store.begin(acme.id) as session:
        news = await set_topic(session, "news", names=NEWS, campaigns=["n-*"], now=MONDAY)
        with pytest.raises(PermanentError, match="small letters"):
            await set_topic(session, "No!", names=NEWS, now=MONDAY)
        with pytest.raises(PermanentError, match="--name"):
            await set_topic(session, "x", names={}, now=MONDAY)
    assert topic_of("n-1", [news]) is news
    assert topic_of("", [news]) is None
    assert unsubscribe_scope({}, "n-1", [news]) == ""
    assert unsubscribe_scope({"unsubscribe": "topic"}, "n-1", [news]) == "topic:news"
    assert unsubscribe_scope({"unsubscribe": "topic"}, "other", [news]) == ""

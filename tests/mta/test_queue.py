"""The queue: who gets which delivery, what the gate lets through, what people can do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from bus.events import Kind
from mail.smtp_reply import SmtpReply
from mta import claims
from mta import queue_control as control
from mta.claims import LEASE, Claim
from mta.client import Handover
from mta.gate import GateFacts, decide
from mta.outcome import Outcome, Trial
from mta.queue_selection import Which
from mta.recipients import ensure_contact, suppress
from mta.retry import BounceClass, RetrySchedule, State, bounce_class
from mta.submission import submit
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Consent, Delivery, Event, Message
from tests.conftest import MONDAY
from tests.mta.house import Tenant, order

SCHEDULE = RetrySchedule()


@pytest.fixture
def store(any_store: Sessions) -> Sessions:
    """The queue has to work the same way on both kinds of database."""
    return any_store


async def put(store: Sessions, tenant: Tenant, key: str, **changes: Any) -> Message:
    async with store.begin(tenant.id) as session:
        return await submit(session, order(key, **changes), now=MONDAY)


async def claim(
    store: Sessions, *, now: datetime = MONDAY, fence: str = "mail-1/a/1", room: int = 10
) -> list[Claim]:
    """What is due at any destination, `room` of each at the most."""
    async with store.begin(EVERY_COMPANY) as session:
        await claims.lapse(session, now=now)
        due = await claims.due_destinations(session, after=None, now=now)
        wanted = dict.fromkeys(due, room)
        taken, drained = await claims.claim(
            session, wanted, now=now, fence=fence, schedule=SCHEDULE
        )
    assert drained <= set(due)
    return taken


async def test_each_delivery_is_claimed_once_and_its_next_time_written_first(
    store: Sessions, acme: Tenant
) -> None:
    await put(store, acme, "a")
    first, second = await asyncio.gather(claim(store), claim(store, fence="mail-2/b/1"))
    assert len(first) + len(second) == 1
    async with store.read(EVERY_COMPANY) as session:
        row = (await session.scalars(select(Delivery))).one()
    assert (row.state, row.attempts, row.due_at) == ("sending", 1, MONDAY + SCHEDULE.first)
    assert await claim(store, now=MONDAY + LEASE - timedelta(seconds=1)) == []
    (again,) = await claim(store, now=MONDAY + LEASE, fence="mail-2/b/2")
    (before,) = first + second
    done = Outcome(State.DELIVERED, 250, "ok")
    async with store.begin(EVERY_COMPANY) as session:  # Whoever lost the lease records nothing.
        assert not await claims.record(session, [(before, done)], now=MONDAY)
    async with store.begin(EVERY_COMPANY) as session:
        assert await claims.record(session, [(again, done)], now=MONDAY) == {again.id}


async def test_persons_go_before_bulk_and_a_slow_site_does_not_take_all_room(
    store: Sessions, acme: Tenant
) -> None:
    for number in range(4):
        await put(store, acme, f"bulk{number}", kind="bulk")
    await put(store, acme, "answer", kind="answer", lane=0)
    await put(store, acme, "other", recipient="x@other.test")
    taken = await claim(store, room=2)
    async with store.read(acme.id) as session:
        rows = await session.execute(select(Message.id, Message.order_key))
        keys = {row.id: row.order_key for row in rows}
    assert sorted(keys[c.message.id] for c in taken) == ["answer", "bulk0", "other"]


async def test_the_gate_is_asked_again_when_it_is_sent(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    sent = await put(store, acme, "a")
    async with store.begin(acme.id) as session:
        await suppress(session, "Ann@customer.test", "unsubscribed", now=MONDAY)
        invited = await ensure_contact(session, "new@customer.test", origin={}, now=MONDAY)
        session.add(Consent(contact_id=invited.id, state="needed", changed_at=MONDAY))
    waiting = await put(store, acme, "b", recipient="new@customer.test", contact_id=invited.id)
    late = await put(store, acme, "c", recipient="z@x.test", expires=MONDAY + timedelta(hours=1))
    system = await put(store, acme, "d", kind="system", text="hello", subject="s", values={})
    taken = await claim(store, now=MONDAY + timedelta(hours=2))
    assert [c.message.id for c in taken] == [system.id]
    async with store.read(acme.id) as session:
        rows = {d.message_id: d for d in await session.scalars(select(Delivery))}
        events = await session.scalars(select(Event).where(Event.kind == Kind.DELIVERY_SKIPPED))
        told = {event.message_id: event.payload["reason"] for event in events}
    reasons = {
        sent.id: "suppressed: unsubscribed",
        waiting.id: "consent needed",
        late.id: "expired",
    }
    assert {key: rows[key].reason for key in reasons} == reasons
    assert told == reasons
    assert all(rows[key].state == "skipped" for key in reasons)
    again = await claim(store, now=MONDAY + timedelta(days=3))
    assert [c.message.id for c in again] == [system.id]  # What was skipped never comes back.


facts = st.builds(
    GateFacts,
    kind=st.sampled_from(["mail", "bulk", "answer", "approval", "system", "invitation"]),
    suppressed=st.sampled_from([None, "bounced", "unsubscribed"]),
    consent=st.sampled_from([None, "needed", "given", "refused"]),
    answers=st.booleans(),
    enrolment_ended=st.sampled_from([None, "", "completed", "replied", "unsubscribed"]),
    expires_at=st.just(MONDAY),
    attempts=st.integers(0, 3),
)


@given(facts)
def test_nobody_who_said_no_is_written_to(known: GateFacts) -> None:
    went = decide(known, now=MONDAY - timedelta(hours=1)) == ""
    if went and known.kind not in {"approval", "system"}:
        assert known.suppressed is None
        assert known.consent != "refused"
        assert known.consent != "needed" or known.kind in {"answer", "invitation"}
    if went and known.kind in {"mail", "bulk"}:
        assert known.enrolment_ended in {None, "", "completed"}


async def test_people_can_hold_release_flush_and_give_up(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    for number in range(3):
        await put(store, acme, str(number), campaign="autumn")
    await put(store, acme, "x", recipient="x@other.test")
    autumn = Which(campaign="autumn")
    async with store.begin(rival.id) as session:
        assert await control.hold(session, autumn, reason="not ours") == 0
        assert await control.standings(session) == []
    async with store.begin(acme.id) as session:
        assert await control.hold(session, autumn, reason="typo") == 3
    assert [c.destination for c in await claim(store)] == ["other.test"]
    async with store.read(acme.id) as session:
        standing = {s.destination: s for s in await control.standings(session)}
        assert standing["customer.test"].held == 3
        assert standing["customer.test"].oldest == MONDAY
        assert standing["other.test"].sending == 1
        assert len(await control.waiting(session, autumn)) == 3
    async with store.begin(acme.id) as session:
        assert await control.release(session, autumn, now=MONDAY) == 3
        assert await control.bounce(session, autumn, reason="cancelled", now=MONDAY) == 3
        kinds = [e.kind for e in await session.scalars(select(Event))]
    assert kinds.count(Kind.DELIVERY_BOUNCED) == 3


async def test_flush_makes_deferred_mail_due(store: Sessions, acme: Tenant) -> None:
    await put(store, acme, "a")
    (claimed,) = await claim(store)
    trial = Trial(claimed.attempts, claimed.expires_at, SCHEDULE)
    outcome = trial.after_loss("no answer", after_data=False, now=MONDAY)
    async with store.begin(EVERY_COMPANY) as session:
        await claims.record(session, [(claimed, outcome)], now=MONDAY)
    assert await claim(store) == []
    async with store.begin(acme.id) as session:
        assert await control.flush(session, Which(destination="customer.test"), now=MONDAY) == 1
    assert len(await claim(store)) == 1


@pytest.mark.parametrize(
    ("reply", "at_recipient", "wanted"),
    [
        (SmtpReply(550, "no such user", "5.1.1"), True, BounceClass.BAD_MAILBOX),
        (SmtpReply(550, "blocked", "5.7.1"), True, BounceClass.POLICY),
        (SmtpReply(550, "User unknown"), True, BounceClass.BAD_MAILBOX),
        (SmtpReply(550, "we do not like your address"), True, BounceClass.OTHER),
        (SmtpReply(550, "User unknown"), False, BounceClass.OTHER),
        (SmtpReply(552, "full", "5.2.2"), True, BounceClass.FULL),
        (SmtpReply(556, "takes no mail", "5.1.10"), True, BounceClass.BAD_DOMAIN),
        (SmtpReply(554, "spam"), False, BounceClass.POLICY),
    ],
)
def test_what_a_refusal_means(reply: SmtpReply, at_recipient: bool, wanted: BounceClass) -> None:
    assert bounce_class(reply, at_recipient=at_recipient) is wanted


@given(st.integers(1, 50), st.integers(0, 10 * 24 * 60))
def test_waits_grow_and_end(attempts: int, minutes: int) -> None:
    now, expires = MONDAY + timedelta(minutes=minutes), MONDAY + timedelta(days=5)
    again = SCHEDULE.next_attempt(attempts=attempts, expires=expires, now=now)
    assert again is None or now < again < expires
    assert SCHEDULE.wait(attempts) <= SCHEDULE.wait(attempts + 1) <= SCHEDULE.longest


@given(st.integers(200, 599), st.integers(1, 9))
def test_every_reply_leads_somewhere(code: int, attempts: int) -> None:
    trial = Trial(attempts, MONDAY + timedelta(days=5), SCHEDULE)
    outcome = trial.after(Handover(SmtpReply(code, "x"), "."), now=MONDAY)
    assert (outcome.due_at is not None) == (outcome.state is State.DEFERRED)
    assert (outcome.state is State.DELIVERED) == (code < 300)


async def test_a_company_with_too_much_waiting_is_known(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    for number in range(3):
        await put(store, acme, f"a{number}")
    async with store.begin(rival.id) as session:
        mine = order("r", recipient="z@customer.test")
        await submit(session, replace(mine, sender="eve@rival.test"), now=MONDAY)
    async with store.read(EVERY_COMPANY) as session:
        assert await claims.backlogs(session, over=2) == {acme.id: 3}
        assert await claims.backlogs(session, over=3) == {}

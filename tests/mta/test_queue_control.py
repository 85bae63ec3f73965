"""People find what waits, and change, stop and restart it: their own only, some at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from bus.events import Kind
from mail.errors import PermanentError
from mta import claims, queue_control, suspensions
from mta.queue_control import Action
from mta.queue_selection import Which
from mta.retry import RetrySchedule, State
from mta.submission import submit
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Delivery, Event, QueueSuspension
from tests.conftest import MONDAY
from tests.mta.house import Tenant, order

HOUR = timedelta(hours=1)


@pytest.fixture
def store(any_store: Sessions) -> Sessions:
    return any_store


async def put(
    store: Sessions, tenant: Tenant, key: str, *, at: datetime = MONDAY, **changes: Any
) -> None:
    async with store.begin(tenant.id) as session:
        sent = replace(order(key, **changes), sender=f"bo@{tenant.domain.name}")
        await submit(session, sent, now=at)


async def take(store: Sessions, *, now: datetime) -> list[str]:
    """What would go out now, by company and destination; it stays claimed."""
    async with store.begin(EVERY_COMPANY) as session:
        stopped = await suspensions.suspended(session, now=now)
        due = await claims.due_destinations(session, after=None, now=now)
        taken, _ = await claims.claim(
            session,
            dict.fromkeys(due, 100),
            now=now,
            fence=f"mail-1/{now}",
            schedule=RetrySchedule(),
            suspended=stopped,
        )
    return sorted(f"{claim.message.sender} {claim.destination}" for claim in taken)


async def run(store: Sessions, scope: Any, action: Action, which: Which) -> list[int]:
    async with store.read(scope) as session:
        ids = await queue_control.affected(session, which, action)
    counts = []
    async for done in queue_control.apply(
        store, scope, action, ids, reason="a test", clock=lambda: MONDAY
    ):
        counts.append(done.total())
    return counts


async def test_every_way_to_choose(store: Sessions, acme: Tenant, rival: Tenant) -> None:
    await put(store, acme, "old", at=MONDAY - 2 * HOUR, campaign="autumn")
    await put(store, acme, "bulk", kind="bulk", lane=2, recipient="x@other.test")
    await put(store, rival, "theirs", campaign="autumn", lane=0)
    cases = [
        (Which(), 3),
        (Which(company=acme.id), 2),
        (Which(destination="CUSTOMER.test"), 2),
        (Which(site=["other.test", "none.test"]), 1),
        (Which(campaign="autumn"), 2),
        (Which(campaign="autumn", company=rival.id), 1),
        (Which(sender="bo@rival.test"), 1),
        (Which(kind="bulk"), 1),
        (Which(lane=0), 1),
        (Which(state=State.HELD), 0),
        (Which(before=MONDAY - HOUR), 1),
        (Which(ids=[]), 0),
    ]
    async with store.read(EVERY_COMPANY) as session:
        for which, wanted in cases:
            assert len(await queue_control.waiting(session, which)) == wanted, which
            rows = await queue_control.standings(session, which)
            assert sum(row.waiting for row in rows) == wanted, which
    async with store.read(rival.id) as session:
        for which, _ in cases:
            for row in await queue_control.waiting(session, which):
                assert row.company_id == rival.id
        assert [row.waiting for row in await queue_control.standings(session)] == [1]


async def test_pages_follow_each_other_and_lists_are_capped(store: Sessions, acme: Tenant) -> None:
    for number in range(5):
        await put(store, acme, str(number))
    async with store.read(acme.id) as session:
        seen, after = [], None
        while page := await queue_control.waiting(session, limit=2, after=after):
            seen += [row.id for row in page]
            after = (page[-1].created_at, page[-1].id)
        assert len(seen) == len(set(seen)) == 5
        (row,) = await queue_control.standings(session, cap=3)
        assert row.waiting == 3


async def test_much_is_changed_in_parts(
    store: Sessions, acme: Tenant, rival: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_control, "BATCH", 2)
    for number in range(5):
        await put(store, acme, str(number))
    await put(store, rival, "theirs")
    assert await run(store, acme.id, Action.HOLD, Which()) == [2, 4, 5]
    assert await take(store, now=MONDAY) == ["bo@rival.test customer.test"]
    assert await run(store, rival.id, Action.RELEASE, Which()) == []
    assert await run(store, EVERY_COMPANY, Action.RELEASE, Which(company=acme.id)) == [2, 4, 5]
    assert len(await take(store, now=MONDAY)) == 5


async def test_what_changed_meanwhile_is_left_alone(store: Sessions, acme: Tenant) -> None:
    await put(store, acme, "a")
    async with store.read(acme.id) as session:
        ids = await queue_control.affected(session, Which(), Action.BOUNCE)
    assert len(await take(store, now=MONDAY)) == 1
    async for done in queue_control.apply(
        store, acme.id, Action.BOUNCE, ids, reason="x", clock=lambda: MONDAY
    ):
        assert done.total() == 0


@pytest.mark.parametrize(
    ("action", "state", "kind"),
    [
        (Action.BOUNCE, "bounced", Kind.DELIVERY_BOUNCED),
        (Action.DROP, "skipped", Kind.DELIVERY_SKIPPED),
    ],
)
async def test_giving_up_with_and_without_a_report(
    store: Sessions, acme: Tenant, rival: Tenant, action: Action, state: str, kind: Kind
) -> None:
    await put(store, acme, "a")
    await put(store, rival, "b")
    assert await run(store, EVERY_COMPANY, action, Which()) == [2]
    async with store.read(EVERY_COMPANY) as session:
        assert {row.state for row in await session.scalars(select(Delivery))} == {state}
        events = list(await session.scalars(select(Event).where(Event.kind == kind)))
    assert {event.company_id for event in events} == {acme.id, rival.id}


async def test_what_is_suspended_waits_and_goes_on_afterwards(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    await put(store, acme, "a", campaign="autumn")
    await put(store, acme, "b", recipient="x@other.test")
    await put(store, rival, "c", campaign="autumn")

    async def suspend(scope: Any, *words: str, company: Any, until: datetime) -> None:
        async with store.begin(scope) as session:
            await suspensions.suspend(
                session, *words, company=company, until=until, reason="typo", by="Bo", now=MONDAY
            )

    await suspend(acme.id, "campaign", "autumn", company=acme.id, until=MONDAY + 2 * HOUR)
    await suspend(EVERY_COMPANY, "domain", "Other.Test.", company=None, until=MONDAY + HOUR)
    assert await take(store, now=MONDAY) == ["bo@rival.test customer.test"]
    async with store.read(acme.id) as session:
        rows = list(await session.scalars(select(Delivery)))
        assert {row.reason for row in rows} == {"suspended: typo"}
        assert {row.attempts for row in rows} == {0}
        assert len(await suspensions.in_force(session, now=MONDAY)) == 2
    async with store.read(rival.id) as session:
        assert len(await suspensions.in_force(session, now=MONDAY)) == 1

    assert await take(store, now=MONDAY + HOUR) == ["bo@acme.test other.test"]  # It has ended.
    with pytest.raises(PermanentError, match="only its own"):
        async with store.begin(rival.id) as session:
            await suspensions.resume(session, "campaign", "autumn", company=acme.id, now=MONDAY)
    with pytest.raises(PermanentError, match="not suspended"):
        async with store.begin(rival.id) as session:
            await suspensions.resume(session, "campaign", "autumn", company=rival.id, now=MONDAY)
    async with store.begin(acme.id) as session:
        which = await suspensions.resume(session, "campaign", "autumn", company=acme.id, now=MONDAY)
    assert await run(store, acme.id, Action.AGAIN, which) == [1]
    assert await take(store, now=MONDAY + timedelta(minutes=1)) == ["bo@acme.test customer.test"]
    async with store.read(EVERY_COMPANY) as session:  # Who did what stays.
        kept = list(await session.scalars(select(QueueSuspension)))
    assert {(row.name, row.by) for row in kept} == {("autumn", "Bo"), ("other.test", "Bo")}


async def test_a_company_can_be_stopped_and_nonsense_is_refused(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    await put(store, acme, "a")
    await put(store, rival, "b")
    async with store.begin(EVERY_COMPANY) as session:
        for words, company, span in [
            (("company", ""), None, HOUR),
            (("campaign", "x"), None, HOUR),
            (("campaign", ""), acme.id, HOUR),
            (("company", "name"), acme.id, HOUR),
            (("site", "x"), acme.id, HOUR),
            (("company", ""), acme.id, -HOUR),
            (("company", ""), acme.id, timedelta(days=400)),
        ]:
            with pytest.raises(PermanentError):
                await suspensions.suspend(
                    session, *words, company=company, until=MONDAY + span, reason="", by="",
                    now=MONDAY,
                )  # fmt: skip
        await suspensions.suspend(
            session, "company", company=acme.id, until=MONDAY + HOUR, reason="unpaid", by="op",
            now=MONDAY,
        )  # fmt: skip
    assert await take(store, now=MONDAY) == ["bo@rival.test customer.test"]


async def test_lists_use_the_index_of_what_is_open(store: Sessions, acme: Tenant) -> None:
    """Or they would read millions that are done."""
    explain = "EXPLAIN QUERY PLAN " if store.dialect == "sqlite" else "EXPLAIN "
    async with store.read(EVERY_COMPANY) as session:
        for which in (Which(company=acme.id), Which(destination="x.test")):
            query = select(Delivery.id).where(queue_control.is_open(), which.clause())
            said = str(query.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))
            async with store.engine.connect() as connection:
                if store.dialect == "postgresql":  # It has no rows: a planner would read them all.
                    await connection.execute(text("SET enable_seqscan = off"))
                plan = await connection.execute(text(explain + said))
                assert "ix_delivery_" in " ".join(str(row) for row in plan)

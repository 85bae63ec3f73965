"""Rows written in bulk read like rows written one by one, on each kind of database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from bus.events import Kind, publish, publish_many
from mail.ids import uuid7
from storage.bulk import change_many, insert_many
from storage.sessions import EVERY_COMPANY, ScopeError, Sessions
from storage.tables import Company, Contact, Event
from tests.conftest import MONDAY


async def _company(store: Sessions, number: int = 1) -> Company:
    company = Company(
        id=uuid7(), number=number, name=f"c{number}", postal_address="", created_at=MONDAY
    )
    async with store.begin(EVERY_COMPANY) as session:
        session.add(company)
    return company


async def test_values_come_back_as_they_went_in(any_store: Sessions) -> None:
    company = await _company(any_store)
    local = datetime(2026, 11, 23, 12, 30, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    row = {
        "address": "ann\0@customer.test",
        "fields": {"größe": [1, None, "x\0y"]},
        "origin": {"by": "test"},
        "created_at": local,
    }
    async with any_store.begin(company.id) as session:
        await insert_many(session, Contact, [dict(row), {**row, "address": "bob@customer.test"}])
    async with any_store.read(company.id) as session:
        ann, bob = (await session.scalars(select(Contact).order_by(Contact.address))).all()
    assert ann.address == "ann\ufffd@customer.test"
    assert ann.fields == {"größe": [1, None, "x\ufffdy"]}
    assert ann.created_at == local
    assert ann.created_at.tzinfo is UTC
    assert (ann.name, ann.zone, ann.owner_id) == ("", None, None)
    assert ann.id != bob.id
    assert ann.company_id == bob.company_id == company.id


async def test_taken_rows_are_left_out_and_changes_are_counted(any_store: Sessions) -> None:
    company = await _company(any_store)
    rows = [{"address": f"{n}@customer.test", "created_at": MONDAY} for n in range(3)]
    async with any_store.begin(company.id) as session:
        await insert_many(session, Contact, [dict(rows[1], name="first")])
        await insert_many(session, Contact, rows, unless=["company_id", "address"])
    async with any_store.begin(company.id) as session:
        found = {c.address: c for c in await session.scalars(select(Contact))}
        assert len(found) == 3
        assert found["1@customer.test"].name == "first"
        changed = await change_many(
            session,
            Contact,
            set_=["name"],
            where=["id", "name"],
            rows=[("x", c.id, "") for c in found.values()],
        )
    assert len(changed) == 2
    assert set(changed) == {c.id for c in found.values() if c.name == ""}
    async with any_store.read(company.id) as session:
        names = sorted(c.name for c in await session.scalars(select(Contact)))
    assert names == ["first", "x", "x"]


async def test_no_row_of_another_company_gets_in(store: Sessions) -> None:
    mine, other = await _company(store), await _company(store, 2)
    async with store.begin(mine.id) as session:
        with pytest.raises(ScopeError):
            row = {"company_id": other.id, "address": "a@b.test", "created_at": MONDAY}
            await insert_many(session, Contact, [row])
    async with store.begin(EVERY_COMPANY) as session:
        with pytest.raises(ScopeError):
            await insert_many(session, Contact, [{"address": "a@b.test", "created_at": MONDAY}])


async def test_events_in_bulk_take_their_place_in_the_stream(any_store: Sessions) -> None:
    company = await _company(any_store)
    async with any_store.begin(company.id) as session:
        await publish(session, Kind.MESSAGE_QUEUED, occurred_at=MONDAY)
        message = uuid7()
        await publish_many(
            session,
            Kind.DELIVERY_DELIVERED,
            [{"message_id": message, "payload": {"code": 250}}, {"payload": {}}],
            occurred_at=MONDAY,
        )
        await publish(session, Kind.MAIL_ARRIVED, occurred_at=MONDAY)
    async with any_store.read(company.id) as session:
        events = (await session.scalars(select(Event).order_by(Event.tx, Event.seq))).all()
    assert [e.kind for e in events] == [
        "message.queued",
        "delivery.delivered",
        "delivery.delivered",
        "mail.arrived",
    ]
    assert len({e.tx for e in events}) == 1
    assert len({e.id for e in events}) == 4
    assert events[1].message_id == message
    assert events[1].payload == {"code": 250}
    assert (events[2].agent, events[2].reasons) == ("unknown", [])

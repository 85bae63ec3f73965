"""Writers take turns: nobody loses an update, nobody waits for himself."""

from __future__ import annotations

import asyncio
import sqlite3

from sqlalchemy import select

from mail.ids import uuid7
from storage.engine import make_engine
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company
from tests.conftest import MONDAY


async def test_many_writers_lose_nothing_and_do_not_sleep_long(store: Sessions) -> None:
    other = Sessions(make_engine(str(store.engine.url)))
    async with store.begin(EVERY_COMPANY) as session:
        company = Company(id=uuid7(), number=0, name="c", postal_address="", created_at=MONDAY)
        session.add(company)

    async def add(sessions: Sessions) -> None:
        for _ in range(25):
            async with sessions.begin(EVERY_COMPANY) as session:
                row = (await session.scalars(select(Company))).one()
                row.number += 1

    await asyncio.gather(*(add(s) for s in (store, other, store, other)))
    async with store.read(EVERY_COMPANY) as session:
        assert (await session.scalars(select(Company.number))).one() == 100
    await other.close()


async def test_a_turn_within_a_turn_does_not_wait_for_itself(store: Sessions) -> None:
    company = Company(id=uuid7(), number=1, name="c", postal_address="", created_at=MONDAY)
    async with (
        asyncio.timeout(5),
        store.begin(EVERY_COMPANY),
        store.begin(EVERY_COMPANY) as inner,
    ):
        inner.add(company)
    assert sqlite3.connect(store.engine.url.database or "").execute(
        "SELECT count(*) FROM company"
    ).fetchone() == (1,)

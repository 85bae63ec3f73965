"""A session sees one company, and a query that would see more is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Executable, delete, func, insert, select, text, update
from sqlalchemy.orm import aliased

from mail.errors import ConfigError
from mail.ids import uuid7
from storage.sealing import Seal, secret_file
from storage.sessions import EVERY_COMPANY, ScopeError, Sessions, insert_new, narrow
from storage.tables import Company, Contact

NOW = datetime(2026, 11, 23, tzinfo=UTC)
OURS, THEIRS = uuid7(), uuid7()


@pytest.fixture
async def two(any_store: Sessions) -> Sessions:
    """Two companies with a contact of the same address each."""
    store = any_store
    async with store.begin(EVERY_COMPANY) as session:
        for number, key in enumerate((OURS, THEIRS), 1):
            session.add(Company(id=key, number=number, name=f"c{number}", created_at=NOW))
    for key in (OURS, THEIRS):
        async with store.begin(key) as session:
            session.add(Contact(address="ann@example.test", created_at=NOW))
    return store


OTHER = aliased(Contact)


@pytest.mark.parametrize(
    "query",
    [
        select(Contact),
        select(Contact).join(OTHER, OTHER.address == Contact.address),
        select(Contact).where(select(OTHER.id).where(OTHER.address == Contact.address).exists()),
        select(Contact).where(Contact.id.in_(select(OTHER.id))),
        select(aliased(Contact, select(Contact).subquery())),
        select(Contact).order_by(Contact.created_at).limit(50),
    ],
)
async def test_every_shape_of_query_is_limited(two: Sessions, query: Executable) -> None:
    async with two.read(OURS) as session:
        found = (await session.execute(query)).scalars().all()
    assert [contact.company_id for contact in found] == [OURS]


@pytest.mark.parametrize(
    "query",
    [
        text("SELECT * FROM contact"),
        select(Contact.__table__),
        select(func.count()).select_from(Contact.__table__),
        select(Contact).where(Contact.id.in_(select(Contact.__table__.c.id))),
        insert(Contact).values(address="x@example.test", created_at=NOW),
    ],
)
async def test_what_cannot_be_limited_is_refused(two: Sessions, query: Executable) -> None:
    async with two.read(OURS) as session:
        with pytest.raises(ScopeError):
            await session.execute(query)


async def test_a_session_without_a_scope_sees_nothing(two: Sessions) -> None:
    async with two.read(OURS) as session:
        session.info.clear()
        with pytest.raises(ScopeError, match="no company is set"):
            await session.execute(select(Contact))


async def test_another_companys_row_cannot_be_fetched_changed_or_deleted(two: Sessions) -> None:
    async with two.read(THEIRS) as session:
        theirs = (await session.scalars(select(Contact))).one()
    async with two.begin(OURS) as session:
        assert await session.get(Contact, theirs.id) is None
        changed = await session.execute(update(Contact).values(name="changed"))
        assert getattr(changed, "rowcount", 0) == 1
        gone = await session.execute(delete(Contact).where(Contact.id == theirs.id))
        assert getattr(gone, "rowcount", 0) == 0
    async with two.read(THEIRS) as session:
        assert (await session.scalars(select(Contact))).one().name == ""


async def test_rows_go_to_the_scope_and_nowhere_else(two: Sessions) -> None:
    with pytest.raises(ScopeError, match="another company"):
        async with two.begin(OURS) as session:
            session.add(Contact(company_id=THEIRS, address="bo@example.test", created_at=NOW))
    with pytest.raises(ScopeError, match="another company"):
        async with two.begin(OURS) as session:
            row = {"company_id": THEIRS, "address": "bo@example.test", "created_at": NOW}
            await insert_new(session, Contact, [row], unless=["company_id", "address"])
    with pytest.raises(ScopeError, match="only reads"):
        async with two.read(OURS) as session:
            session.add(Contact(address="bo@example.test", created_at=NOW))
            await session.flush()


async def test_insert_new_adds_what_is_not_there(two: Sessions) -> None:
    rows = [{"address": f"{name}@example.test", "created_at": NOW} for name in ("ann", "bo", "bo")]
    async with two.begin(OURS) as session:
        added = await insert_new(session, Contact, rows, unless=["company_id", "address"])
    assert added == 1


async def test_a_session_can_be_narrowed(two: Sessions) -> None:
    async with two.begin(EVERY_COMPANY) as session:
        assert len((await session.scalars(select(Contact))).all()) == 2
        narrow(session, OURS)
        assert len((await session.scalars(select(Contact))).all()) == 1


async def test_no_update_is_lost(two: Sessions) -> None:
    """Read, think, write, fifty times at once.

    SQLite takes its write lock when the transaction begins; PostgreSQL locks the row that is read
    `with_for_update`, which SQLite leaves out.
    """

    async def add_one() -> None:
        async with two.begin(OURS) as session:
            contact = (await session.scalars(select(Contact).with_for_update())).one()
            count = contact.fields.get("count", 0)
            await asyncio.sleep(0)
            contact.fields = {"count": count + 1}

    await asyncio.gather(*(add_one() for _ in range(50)))
    async with two.read(OURS) as session:
        assert (await session.scalars(select(Contact))).one().fields == {"count": 50}


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d of it", 'back\\slash \\u0000 "', "ö\0"])
async def test_whatever_strangers_write_is_kept(two: Sessions, text: str) -> None:
    async with two.begin(OURS) as session:
        fields = {text: [text], "n": 1}
        session.add(Contact(address="bo@example.test", name=text, fields=fields, created_at=NOW))
    kept = text.replace("\0", "\ufffd").replace("\ud83d", "\ufffd")
    async with two.read(OURS) as session:
        found = (await session.scalars(select(Contact).where(Contact.name == text))).one()
    assert (found.name, found.fields) == (kept, {kept: [kept], "n": 1})


async def test_instants_come_back_in_utc_and_need_a_zone(two: Sessions) -> None:
    async with two.read(OURS) as session:
        assert (await session.scalars(select(Contact))).one().created_at == NOW
    with pytest.raises(Exception, match="has no zone"):
        async with two.begin(OURS) as session:
            naive = NOW.replace(tzinfo=None)
            session.add(Contact(address="bo@example.test", created_at=naive))


def test_a_sealed_secret_opens_with_its_key_only(tmp_path: Path) -> None:
    key = secret_file(tmp_path / "keys" / "seal")
    assert secret_file(tmp_path / "keys" / "seal") == key
    assert (tmp_path / "keys" / "seal").stat().st_mode & 0o077 == 0
    sealed = Seal(key).seal("swordfish")
    assert "swordfish" not in sealed
    assert Seal(key).open(sealed) == "swordfish"
    with pytest.raises(ConfigError, match="does not fit"):
        Seal(b"x" * 32).open(sealed)

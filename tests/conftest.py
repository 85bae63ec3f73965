"""What all tests share: a store, secret keys, and a clock that stands where it is put."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from mail.tokens import TokenKeys
from mta import accounts
from storage.engine import database_url, make_engine
from storage.migrate import upgrade
from storage.sealing import Seal
from storage.sessions import Sessions
from storage.tables import Base
from tests.peers.postgresql import fresh_database

MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long journeys first, so that they run beside everything else."""
    items.sort(key=lambda item: "journeys" not in item.path.parts)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Sessions]:
    """A fresh SQLite database with all tables."""
    engine = make_engine(database_url("", tmp_path))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield Sessions(engine)
    await engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sessions]:
    """The same on each kind of database, brought there by the migrations."""
    url = fresh_database() if request.param == "postgresql" else ""
    engine = make_engine(database_url(url, tmp_path))
    await upgrade(engine)
    yield Sessions(engine)
    await engine.dispose()


@pytest.fixture
def keys() -> TokenKeys:
    """Token keys of this test."""
    return TokenKeys({0: os.urandom(32)}, current=0)


@pytest.fixture
def seal() -> Seal:
    """A seal of this test."""
    return Seal(os.urandom(32))


@cache
def _keys_once() -> tuple[str, str]:
    return accounts.fresh_keys()


@pytest.fixture(autouse=True)
def _keys_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real keys, but made once for all tests: finding RSA primes takes a tenth of a second."""
    _keys_once()
    monkeypatch.setattr(accounts, "fresh_keys", _keys_once)

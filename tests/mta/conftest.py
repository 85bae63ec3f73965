"""Companies of these tests."""

from __future__ import annotations

from functools import cache

import pytest

from mta import accounts
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.mta.house import Tenant, make_tenant


@pytest.fixture
async def acme(store: Sessions, seal: Seal) -> Tenant:
    """The company that most tests send as."""
    return await make_tenant(store, seal, "acme", 1)


@pytest.fixture
async def rival(store: Sessions, seal: Seal) -> Tenant:
    """Another company, which must never see the first one's."""
    return await make_tenant(store, seal, "rival", 2)


@cache
def _keys_once() -> tuple[str, str]:
    return accounts._fresh_keys()


@pytest.fixture(autouse=True)
def _keys_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real keys, but made once for all tests: finding RSA primes takes a tenth of a second."""
    _keys_once()
    monkeypatch.setattr(accounts, "_fresh_keys", _keys_once)

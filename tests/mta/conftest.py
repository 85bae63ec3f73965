"""Companies of these tests."""

from __future__ import annotations

import pytest

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

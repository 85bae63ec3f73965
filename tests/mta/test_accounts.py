"""Domains and passwords: made once, shown once, checked live, kept apart."""

from __future__ import annotations

import pytest

from mail.errors import ConfigError
from mta import accounts
from mta.accounts import (
    add_credential,
    add_domain,
    check_api,
    check_smtp,
    domain_of,
    revoke_credential,
)
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.conftest import MONDAY
from tests.mta.house import Tenant


async def test_a_domain_belongs_to_one_company(
    store: Sessions, acme: Tenant, rival: Tenant, seal: Seal
) -> None:
    with pytest.raises(ConfigError, match="in use already"):
        async with store.begin(rival.id) as session:
            await add_domain(session, seal, "ACME.test.", now=MONDAY)
    with pytest.raises(ConfigError, match="a domain of their own"):
        async with store.begin(rival.id) as session:
            await add_domain(session, seal, "x.test", reply_domain="x.test", now=MONDAY)
    with pytest.raises(ConfigError, match="not a domain name"):
        async with store.begin(rival.id) as session:
            await add_domain(session, seal, "nonsense", now=MONDAY)
    async with store.read(rival.id) as session:
        assert await domain_of(session, "x@acme.test") is None
    async with store.read(acme.id) as session:
        found = await domain_of(session, "x@news.acme.test")
    assert found is not None
    assert found.name == "acme.test"


async def test_a_company_has_so_many_domains_and_no_more(
    store: Sessions, acme: Tenant, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MAX_DOMAINS", 2)
    async with store.begin(acme.id) as session:
        await add_domain(session, seal, "two.test", now=MONDAY)
        with pytest.raises(ConfigError, match="2 domains already"):
            await add_domain(session, seal, "three.test", now=MONDAY)


async def test_passwords_work_until_they_are_revoked(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    async with store.begin(acme.id) as session:
        made, secret = await add_credential(session, "smtp", login="Shop@acme.test", now=MONDAY)
    assert secret not in made.secret_hash
    found = await check_smtp(store, "shop@ACME.test", secret)
    assert found is not None
    assert found.company_id == acme.id
    assert await check_smtp(store, "shop@acme.test", "wrong") is None
    assert await check_smtp(store, "nobody", secret) is None
    with pytest.raises(ConfigError, match="is taken"):
        async with store.begin(rival.id) as session:
            await add_credential(session, "smtp", login="shop@acme.test", now=MONDAY)
    async with store.begin(rival.id) as session:
        assert not await revoke_credential(session, made.id, now=MONDAY)
    async with store.begin(acme.id) as session:
        assert await revoke_credential(session, made.id, now=MONDAY)
    assert await check_smtp(store, "shop@acme.test", secret) is None


async def test_api_tokens_are_known_by_their_hash(store: Sessions, acme: Tenant) -> None:
    async with store.begin(acme.id) as session:
        made, token = await add_credential(session, "api", now=MONDAY)
    assert token.startswith("wp_")
    assert token not in made.secret_hash
    found = await check_api(store, token)
    assert found is not None
    assert found.company_id == acme.id
    for wrong in (token[:-1], token + "x", "wp_", "", "wp_" + "x" * 500):
        assert await check_api(store, wrong) is None

"""Checks that are kept, drift that is told, and rotations that never sign with a hidden key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from sqlalchemy import select
from structlog.testing import capture_logs

from config.settings import Settings
from mail.errors import ConfigError
from mta import accounts
from mta.domains import rotation, service
from mta.domains.findings import State
from mta.domains.records import Need, Record, machine_records
from mta.domains.service import DomainChecks
from mta.resolver import Resolver
from mta.signing import DkimSigner
from storage.sealing import Seal
from storage.sessions import Sessions
from storage.tables import Domain, DomainCheck, DomainKeys
from tests.conftest import MONDAY
from tests.mta.house import Tenant, make_tenant
from tests.peers.dns_server import DnsServer

MESSAGE = b"From: bo@acme.test\r\nSubject: Hello\r\n\r\nHello\r\n"
ADDRESS = "5.9.1.1"


def other_keys() -> tuple[str, str]:
    """Keys that differ from those of all other tests; small ones, made in no time."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    ed_key = ed25519.Ed25519PrivateKey.generate()
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return rsa_key.private_bytes(*form).decode(), ed_key.private_bytes(*form).decode()


class Office:
    """The service on a clock and a zone that a test moves."""

    def __init__(self, store: Sessions, seal: Seal, dns: DnsServer, folder: Path) -> None:
        self.settings = Settings.model_validate(
            {
                "host": {"name": "mail.acme.test", "data": folder},
                "public": {"url": "https://go.acme.test"},
            }
        )
        self.store, self.seal, self.dns, self.now = store, seal, dns, MONDAY
        resolver = Resolver([dns.address], timeout_seconds=1.0)
        self.checks = DomainChecks(store, seal, self.settings, resolver, self.clock)

    def clock(self) -> datetime:
        return self.now

    async def domain(self, tenant: Tenant) -> Domain:
        async with self.store.read(tenant.id) as session:
            return (await session.scalars(select(Domain))).one()

    async def records(self, tenant: Tenant) -> list[Record]:
        machine = service.machine_named(self.settings, [ADDRESS])
        async with self.store.read(tenant.id) as session:
            domain = (await session.scalars(select(Domain))).one()
            return await service.records_of(session, self.seal, domain, machine, self.now)

    async def publish(self, tenant: Tenant) -> None:
        """What the owner of the zone does on reading the page."""
        machine = service.machine_named(self.settings, [ADDRESS])
        for record in [*await self.records(tenant), *machine_records(machine)]:
            if record.need is Need.REMOVE:
                self.dns.zone.pop(record.name, None)
            elif record.type == "CNAME":
                self.dns.zone[record.name] = {"A": [ADDRESS]}
            else:
                self.dns.zone.setdefault(record.name, {})[record.type] = [record.value]

    async def check(self, tenant: Tenant) -> service.Report:
        domain = await self.domain(tenant)
        report = await self.checks.check(tenant.id, domain.id)
        assert report is not None
        return report

    async def verifies(self, tenant: Tenant) -> bool:
        """Whether a receiver believes mail that is signed now."""
        keys = accounts.signing_keys(await self.domain(tenant), self.seal)
        signed = DkimSigner("acme.test", keys).sign(MESSAGE, MONDAY) + MESSAGE

        def published(name: bytes, timeout: int = 5) -> bytes:
            texts = self.dns.zone.get(name.decode().rstrip("."), {}).get("TXT", [""])
            return texts[0].encode()

        return all(dkim.DKIM(signed).verify(idx=n, dnsfunc=published) for n in (0, 1))


@pytest.fixture
async def office(store: Sessions, seal: Seal, tmp_path: Path) -> AsyncIterator[Office]:
    async with DnsServer({}) as dns:
        yield Office(store, seal, dns, tmp_path)


async def test_a_published_domain_is_ready_and_one_that_changes_is_told(
    office: Office, acme: Tenant
) -> None:
    report = await office.check(acme)
    assert not report.ready
    assert (await office.domain(acme)).verified_at is None
    await office.publish(acme)
    report = await office.check(acme)
    assert report.ready
    assert report.state is State.GOOD
    assert (await office.domain(acme)).verified_at == MONDAY

    office.dns.failing.add("reply.acme.test")
    report = await office.check(acme)
    assert (report.state, report.drifted) == (State.UNSURE, ())
    office.dns.failing.clear()
    office.dns.zone["reply.acme.test"]["MX"] = ["10 elsewhere.test"]
    with capture_logs() as logs:
        report = await office.check(acme)
    assert [finding.code for finding in report.drifted] == ["mx_elsewhere"]
    drifts = [line for line in logs if line["event"] == "domain.drifted"]
    assert [line["record"] for line in drifts] == ["MX reply.acme.test"]
    assert (await office.check(acme)).drifted == ()  # Told once.


async def test_the_nightly_check_looks_at_every_company_and_forgets_old_results(
    office: Office, acme: Tenant, rival: Tenant
) -> None:
    assert [report.domain for report in await office.checks.check_all()] == [
        "acme.test", "rival.test",
    ]  # fmt: skip
    assert await office.checks.check_all() == []
    office.now += timedelta(hours=21)
    assert len(await office.checks.check_all()) == 2
    office.now += timedelta(days=91)
    await office.check(acme)
    async with office.store.read(acme.id) as session:
        kept = (await session.scalars(select(DomainCheck))).all()
    assert len(kept) == 1
    assert await office.checks.check(rival.id, acme.domain.id) is None


async def test_new_keys_sign_when_they_are_published_and_not_before(
    office: Office, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.publish(acme)
    old = (await office.domain(acme)).rsa_selector
    monkeypatch.setattr(accounts, "fresh_keys", other_keys)
    async with office.store.begin(acme.id) as session:
        domain = (await session.scalars(select(Domain))).one()
        keys = await rotation.begin(session, office.seal, domain, now=office.now)
        with pytest.raises(ConfigError, match="wait already"):
            await rotation.begin(session, office.seal, domain, now=office.now)
    assert keys.rsa_selector not in {old, keys.ed25519_selector}
    assert await office.verifies(acme)

    report = await office.check(acme)
    assert not report.switched
    assert report.ready  # Keys to come are not needed yet.
    assert await office.verifies(acme)

    next_names = [r.name for r in await office.records(acme) if r.need is Need.NEXT]
    await office.publish(acme)
    office.dns.failing.add(next_names[1])  # One of the two can't be seen: still the old ones.
    assert not (await office.check(acme)).switched
    assert (await office.domain(acme)).rsa_selector == old
    office.dns.failing.clear()
    assert (await office.check(acme)).switched
    assert (await office.domain(acme)).rsa_selector == keys.rsa_selector
    assert await office.verifies(acme)

    async with office.store.read(acme.id) as session:
        (retired,) = (await session.scalars(select(DomainKeys))).all()
    assert (retired.rsa_key, retired.ed25519_key) == (None, None)
    kept = [r for r in await office.records(acme) if r.need is Need.KEEP]
    assert [r.name.partition(".")[0] for r in kept] == [old, f"{old[:-1]}e"]
    assert "keep until 07 December 2026" in kept[0].why

    office.now += timedelta(days=15)
    report = await office.check(acme)
    assert [f.code for f in report.findings if f.record.need is Need.REMOVE] == ["remove"] * 2
    await office.publish(acme)
    await office.check(acme)
    async with office.store.read(acme.id) as session:
        assert (await session.scalars(select(DomainKeys))).all() == []
    assert len([r for r in await office.records(acme) if r.purpose == "dkim"]) == 2
    assert await office.verifies(acme)


async def test_a_rotation_can_be_cancelled_and_a_domain_removed(
    any_store: Sessions, seal: Seal, tmp_path: Path
) -> None:
    acme = await make_tenant(any_store, seal, "acme", 1)
    async with DnsServer({}) as dns:
        office = Office(any_store, seal, dns, tmp_path)
        async with any_store.begin(acme.id) as session:
            domain = (await session.scalars(select(Domain))).one()
            await rotation.begin(session, seal, domain, now=office.now)
        async with any_store.begin(acme.id) as session:
            assert await rotation.cancel(session, domain)
            assert not await rotation.cancel(session, domain)
            assert await rotation.waiting(session, domain) is None
        for _ in range(2):
            async with any_store.begin(acme.id) as session:
                await rotation.begin(session, seal, domain, now=office.now)
            await office.publish(acme)
            await office.check(acme)
        assert (await office.domain(acme)).rsa_selector == "wp202611-3r"
    async with any_store.begin(acme.id) as session:
        found = (await session.scalars(select(Domain))).one()
        await accounts.remove_domain(session, found)
    async with any_store.read(acme.id) as session:
        for kind in (Domain, DomainKeys, DomainCheck):
            assert (await session.scalars(select(kind))).all() == []

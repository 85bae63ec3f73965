"""Checks domains against DNS, keeps what was found, and tells what has become worse.

No transaction is open while name servers are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from config.settings import Settings
from mta.domains import rotation
from mta.domains.answers import Names
from mta.domains.check import check_domain_records, check_machine, find_addresses, is_ready, worst
from mta.domains.findings import Finding, State
from mta.domains.records import Machine, Record, domain_records
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Domain, DomainCheck

log = structlog.get_logger()

REMEMBERED = timedelta(days=90)
"""How long the results of checks are kept."""

NIGHTLY = timedelta(hours=12)
"""A domain whose last check is younger is left alone by the nightly job."""

LOOK_BACK = 10
"""Checks to go through for what a record was like before DNS did not answer."""

Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """What one check of a domain came to.

    `findings` are about the company's records, `machine` about the machine's. `drifted` are those
    that were right and are wrong now; `switched`: a rotation was completed.
    """

    domain: str
    checked_at: datetime
    findings: tuple[Finding, ...]
    machine: tuple[Finding, ...] = ()
    drifted: tuple[Finding, ...] = ()
    switched: bool = False

    @property
    def state(self) -> State:
        """The worst of the findings."""
        return worst((*self.findings, *self.machine))

    @property
    def ready(self) -> bool:
        """Whether mail of this domain will be believed and replies come back."""
        return is_ready(self.findings) and is_ready(self.machine)


def machine_named(settings: Settings, addresses: Sequence[str] = ()) -> Machine:
    """The machine as the settings know it."""
    public = urlsplit(settings.public.url).hostname or settings.host.name
    return Machine(
        settings.host.name,
        public,
        tuple(addresses),
        settings.smtp.mta_sts,
        relay=settings.relay.smart_host.rpartition(":")[0].strip("[]"),
    )


async def find_machine(settings: Settings, names: Names | None) -> Machine:
    """The machine with the addresses that DNS has for it."""
    addresses = await find_addresses(settings.host.name, names) if names else ()
    return machine_named(settings, addresses)


async def records_of(
    session: AsyncSession, seal: Seal, domain: Domain, machine: Machine, now: datetime
) -> list[Record]:
    """What the company has to publish for this domain, next and old keys included."""
    pairs = await rotation.pairs_of(session, seal, domain)
    return domain_records(domain.name, domain.reply_domain, pairs, machine, now)


async def last_check(session: AsyncSession, domain: Domain) -> DomainCheck | None:
    """The newest result."""
    return next(iter(await _checks(session, domain, 1)), None)


async def _checks(session: AsyncSession, domain: Domain, limit: int) -> Sequence[DomainCheck]:
    query = select(DomainCheck).where(DomainCheck.domain_id == domain.id)
    query = query.order_by(DomainCheck.checked_at.desc(), DomainCheck.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


class DomainChecks:
    """Checks domains one by one."""

    def __init__(
        self,
        sessions: Sessions,
        seal: Seal,
        settings: Settings,
        names: Names,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._seal = seal
        self._settings = settings
        self._names = names
        self._clock = clock

    async def check(
        self, company: UUID, domain_id: UUID, *, keep: timedelta = rotation.KEEP
    ) -> Report | None:
        """Looks everything up, completes a rotation if it can be, and stores the result.

        None if the company has no such domain (any more). `keep` is for how long the keys that a
        completed rotation replaces have to stay published.
        """
        machine = await find_machine(self._settings, self._names)
        about = await check_machine(machine, self._names)
        return await self._check(company, domain_id, machine, about, keep)

    async def _check(
        self,
        company: UUID,
        domain_id: UUID,
        machine: Machine,
        about: Sequence[Finding],
        keep: timedelta = rotation.KEEP,
    ) -> Report | None:
        async with self._sessions.read(company) as session:
            domain = await session.scalar(select(Domain).where(Domain.id == domain_id))
            if domain is None:
                return None
            records = await records_of(session, self._seal, domain, machine, self._clock())
        findings = await check_domain_records(
            records, self._names, domain=domain.name, reply=domain.reply_domain, machine=machine
        )
        async with self._sessions.begin(company) as session:
            return await self._store(session, domain_id, findings, about, keep)

    async def _store(
        self,
        session: AsyncSession,
        domain_id: UUID,
        findings: Sequence[Finding],
        about: Sequence[Finding],
        keep: timedelta,
    ) -> Report | None:
        now = self._clock()
        domain = await session.scalar(select(Domain).where(Domain.id == domain_id))
        if domain is None:
            return None
        before = known_states(await _checks(session, domain, LOOK_BACK))
        drifted = tuple(
            finding
            for finding in (*findings, *about)
            if finding.state is not State.UNSURE
            and not finding.fine
            and before.get(place_of(finding.record))
        )
        switched = await rotation.switch(session, self._seal, domain, findings, now=now, keep=keep)
        await rotation.forget(session, domain, findings)
        report = Report(domain.name, now, tuple(findings), tuple(about), drifted, switched)
        if is_ready(findings) and domain.verified_at is None:
            domain.verified_at = now
        domain.checks = {"state": str(report.state), "at": now.isoformat()}
        session.add(
            DomainCheck(
                domain_id=domain.id,
                checked_at=now,
                state=str(report.state),
                ready=report.ready,
                findings=[finding.as_json() for finding in (*findings, *about)],
            )
        )
        old = DomainCheck.checked_at < now - REMEMBERED
        await session.execute(delete(DomainCheck).where(DomainCheck.domain_id == domain.id, old))
        for finding in drifted:
            log.warning(
                "domain.drifted",
                domain=domain.name,
                record=f"{finding.record.type} {finding.record.name}",
                code=finding.code,
            )
        if switched:
            log.info("domain.keys_switched", domain=domain.name, selector=domain.rsa_selector)
        return report

    async def check_all(self, *, older_than: timedelta = NIGHTLY) -> list[Report]:
        """Checks every domain of every company whose last check is older."""
        now = self._clock()
        async with self._sessions.read(EVERY_COMPANY) as session:
            domains = (await session.scalars(select(Domain).order_by(Domain.name))).all()
            lasts = [(one, await last_check(session, one)) for one in domains]
        due = [one for one, last in lasts if last is None or now - last.checked_at >= older_than]
        if not due:
            return []
        machine = await find_machine(self._settings, self._names)
        about = await check_machine(machine, self._names)
        reports = []
        for domain in due:
            report = await self._check(domain.company_id, domain.id, machine, about)
            if report is not None:
                reports.append(report)
        return reports


async def troubled(session: AsyncSession) -> list[Domain]:
    """Domains whose last check found something wrong."""
    domains = (await session.scalars(select(Domain).order_by(Domain.name))).all()
    return [domain for domain in domains if domain.checks.get("state") == State.WRONG]


async def last_right(session: AsyncSession, domain: Domain) -> dict[Place, datetime]:
    """When each record was last found right, as far back as `LOOK_BACK` checks."""
    times: dict[Place, datetime] = {}
    for check in await _checks(session, domain, LOOK_BACK):
        for stored in check.findings:
            finding = Finding.from_json(stored)
            if finding.fine:
                times.setdefault(place_of(finding.record), check.checked_at)
    return times


def known_states(checks: Sequence[DomainCheck]) -> dict[Place, bool]:
    """Whether each record was fine when DNS last told; `checks` begin with the newest."""
    states: dict[Place, bool] = {}
    for check in checks:
        for stored in check.findings:
            finding = Finding.from_json(stored)
            if finding.state is not State.UNSURE:
                states.setdefault(place_of(finding.record), finding.fine)
    return states


def place_of(record: Record) -> Place:
    """What a record stays the same by while its value changes."""
    return (str(record.purpose), record.name, record.type)

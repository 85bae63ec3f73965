"""DOMAINS: point a domain at the appliance by following one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from litestar import Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from console import access
from console.desk import Call, Desk, PageError, go, key_in, missing
from mail.errors import ConfigError
from mta import accounts
from mta.domains import rotation, service
from mta.domains.findings import Finding, State
from mta.domains.records import Machine, Need, Purpose, Record, machine_records
from mta.domains.zone import zone_file, zone_line
from storage.tables import Domain, DomainCheck, DomainKeys

BETWEEN_CHECKS = timedelta(seconds=10)
"""Looks at one domain asked for sooner show the last one: each asks some forty questions."""

MACHINE = {Purpose.HOST, Purpose.REVERSE, Purpose.PUBLIC_HOST}

SAID = {
    "added": "The domain is added. Publish these records, then check them.",
    "checked": "All records were looked up.",
    "soon": "That was looked up a moment ago. Wait ten seconds before the next time.",
    "begun": "New keys are made. Publish their two records; mail is signed with the old ones "
    "until a check finds the new ones.",
    "waiting": "New keys wait already.",
    "cancelled": "The new keys are dropped. Mail is signed with the old ones as before.",
    "switched": "The new keys are published. Mail is signed with them from now on.",
    "removed": "The domain is removed. Take its records out of DNS as well.",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One record as the page shows it; `short` is the name as most panels want it."""

    record: Record
    finding: Finding | None
    short: str
    rest: str
    priority: str
    line: str
    right_at: datetime | None = None

    @property
    def state(self) -> str:
        """For the tag: good, advice, wrong, unsure, or none before the first check."""
        return str(self.finding.state) if self.finding else "none"

    @property
    def done(self) -> bool:
        """Whether there is nothing to do about it."""
        return self.finding is not None and self.finding.state is State.GOOD

    @property
    def target(self) -> str:
        """What goes into the field for the value; the priority of an MX has a field of its own."""
        return self.record.value.partition(" ")[2] if self.priority else self.record.value


def row_of(record: Record, finding: Finding | None, domain: str) -> Row:
    """The record with what was found; a value that had to be merged takes the plain one's place."""
    if finding is not None and finding.value:
        record = replace(record, value=finding.value)
    short, rest = record.name, ""
    if record.name == domain:
        short, rest = "@", f"({domain} itself)"
    elif record.name.endswith(f".{domain}"):
        short = record.name.removesuffix(f".{domain}")
        rest = f".{domain}"
    priority = record.value.partition(" ")[0] if record.type == "MX" else ""
    return Row(record, finding, short, rest, priority, zone_line(record))


def rows_of(
    records: Sequence[Record], check: DomainCheck | None, machine: Machine, domain: str
) -> tuple[list[Row], list[Row]]:
    """Rows of the company's records and of the machine's."""
    findings = [Finding.from_json(one) for one in check.findings] if check else []
    known = {finding.record: finding for finding in findings}
    ours = [row_of(record, _about(record, known), domain) for record in records]
    about = [finding for finding in findings if finding.record.purpose in MACHINE]
    if about:
        return ours, [row_of(finding.record, finding, domain) for finding in about]
    return ours, [row_of(record, None, domain) for record in machine_records(machine)]


def _about(record: Record, known: dict[Record, Finding]) -> Finding | None:
    """The finding about this record as it is now; its reason and need may have changed since."""
    place = (record.name, record.type, record.value)
    for seen, finding in known.items():
        if (seen.name, seen.type, seen.value) == place:
            removed = record.need is Need.REMOVE and seen.need is not Need.REMOVE
            return None if removed else finding
    return None


async def show(desk: Desk, call: Call) -> Response[Any]:
    """All domains, and the form for another one."""
    who = await desk.manager(call)
    async with desk.sessions.read(who.company.id) as session:
        found = (await session.scalars(select(Domain).order_by(Domain.name))).all()
        rows = [(domain, await service.last_check(session, domain)) for domain in found]
    said = SAID.get(call.query_params.get("said", ""), "")
    return desk.page("domains.html", who, rows=rows, said=said, problem="", name="", reply="")


async def add(desk: Desk, call: Call) -> Response[Any]:
    """Another domain, with fresh keys."""
    who = await desk.manager(call)
    fields = await desk.form(call, who)
    name, reply = fields.get("name", "")[:300], fields.get("reply", "")[:300]
    now = desk.clock()
    try:
        async with desk.sessions.begin(who.company.id) as session:
            domain = await accounts.add_domain(
                session, desk.seal, name, reply_domain=reply or None, now=now
            )
            await access.record(session, who.user, "domain added", now=now, subject=domain.name)
    except ConfigError as error:
        async with desk.sessions.read(who.company.id) as session:
            found = (await session.scalars(select(Domain).order_by(Domain.name))).all()
            rows = [(domain, await service.last_check(session, domain)) for domain in found]
        return desk.page(
            "domains.html", who, status=422, rows=rows, said="", problem=str(error), name=name,
            reply=reply,
        )  # fmt: skip
    return go(f"/domains/{domain.id}?said=added")


async def _domain(session: AsyncSession, call: Call) -> Domain:
    domain = await session.scalar(select(Domain).where(Domain.id == key_in(call)))
    if domain is None:
        raise missing()
    return domain


async def _rows(
    desk: Desk, session: AsyncSession, domain: Domain
) -> tuple[list[Row], list[Row], DomainCheck | None, DomainKeys | None]:
    machine = service.machine_named(desk.settings)
    records = await service.records_of(session, desk.seal, domain, machine, desk.clock())
    check = await service.last_check(session, domain)
    ours, machines = rows_of(records, check, machine, domain.name)
    right = await service.last_right(session, domain)
    for rows in (ours, machines):
        rows[:] = [
            replace(row, right_at=right.get(service.place_of(row.record)))
            if row.state == "wrong"
            else row
            for row in rows
        ]
    return ours, machines, check, await rotation.waiting(session, domain)


async def show_one(desk: Desk, call: Call) -> Response[Any]:
    """The page to follow: each record, what was found, and how to mend it."""
    who = await desk.manager(call)
    async with desk.sessions.read(who.company.id) as session:
        domain = await _domain(session, call)
        ours, machines, check, waiting = await _rows(desk, session, domain)
    return desk.page(
        "domain.html",
        who,
        domain=domain,
        groups=[
            ("yours", f"Records of {domain.name}", ours),
            ("machine", f"Records of this machine, {desk.settings.host.name}", machines),
        ],
        done=sum(row.done for row in ours + machines),
        total=len(ours) + len(machines),
        check=check,
        waiting=waiting,
        said=SAID.get(call.query_params.get("said", ""), ""),
        can_check=desk.resolver is not None,
    )


async def zone(desk: Desk, call: Call) -> Response[Any]:
    """The records as a zone file to import."""
    who = await desk.manager(call)
    async with desk.sessions.read(who.company.id) as session:
        domain = await _domain(session, call)
        ours, _, _, _ = await _rows(desk, session, domain)
    text = zone_file(
        f"{domain.name}: records for mail by {desk.settings.host.name}",
        [row.record for row in ours],
        published=[row.record for row in ours if row.done],
    )
    disposition = f'attachment; filename="{domain.name}.zone"'
    return Response(
        text,
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": disposition},
    )


async def check(desk: Desk, call: Call) -> Response[Any]:
    """Looks every record up now."""
    who = await desk.manager(call)
    await desk.form(call, who)
    async with desk.sessions.read(who.company.id) as session:
        domain = await _domain(session, call)
        last = await service.last_check(session, domain)
    if desk.resolver is None:
        raise PageError(503, "No name server", "This console was started without one.")
    if last is not None and desk.clock() - last.checked_at < BETWEEN_CHECKS:
        return go(f"/domains/{domain.id}?said=soon")
    checks = service.DomainChecks(
        desk.sessions, desk.seal, desk.settings, desk.resolver, desk.clock
    )
    report = await checks.check(who.company.id, domain.id)
    if report is None:
        raise missing()
    return go(f"/domains/{domain.id}?said={'switched' if report.switched else 'checked'}")


async def rotate(desk: Desk, call: Call) -> Response[Any]:
    """Makes new keys, or drops those that were not signed with yet."""
    who = await desk.manager(call)
    fields = await desk.form(call, who)
    now = desk.clock()
    async with desk.sessions.begin(who.company.id) as session:
        domain = await _domain(session, call)
        if fields.get("what") == "cancel":
            await rotation.cancel(session, domain)
            said, done = "cancelled", "domain keys dropped"
        elif await rotation.waiting(session, domain) is not None:
            return go(f"/domains/{domain.id}?said=waiting")
        else:
            await rotation.begin(session, desk.seal, domain, now=now)
            said, done = "begun", "domain keys made"
        await access.record(session, who.user, done, now=now, subject=domain.name)
    return go(f"/domains/{domain.id}?said={said}")


async def remove(desk: Desk, call: Call) -> Response[Any]:
    """Takes the domain away, if its name was typed."""
    who = await desk.manager(call)
    fields = await desk.form(call, who)
    async with desk.sessions.begin(who.company.id) as session:
        domain = await _domain(session, call)
        if fields.get("name", "").strip().lower() != domain.name:
            raise PageError(
                422, "Nothing was removed", f"Type {domain.name} into the field to remove it."
            )
        await accounts.remove_domain(session, domain)
        await access.record(
            session, who.user, "domain removed", now=desk.clock(), subject=domain.name
        )
    return go("/domains?said=removed")

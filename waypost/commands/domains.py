"""`waypost domain`: what companies send from, and whether DNS says so."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select

from mail.errors import PermanentError
from mta import accounts
from mta.domains import rotation, service
from mta.domains.check import check_machine
from mta.domains.findings import Finding, State
from mta.domains.records import Need, Record, machine_records
from mta.domains.service import DomainChecks, Report
from mta.domains.zone import zone_file, zone_line
from storage.sessions import EVERY_COMPANY
from storage.tables import Company, Delivery, Domain, Message
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance

WORDS = {State.GOOD: "right", State.ADVICE: "could be better", State.WRONG: "WRONG",
         State.UNSURE: "not sure"}  # fmt: skip

WAITING = ("queued", "sending", "deferred", "uncertain", "held")


def add_domain(chosen: Namespace) -> int:
    """Adds a sending domain and prints the records it needs."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            domain = await accounts.add_domain(
                session,
                parts.seal,
                chosen.name,
                reply_domain=chosen.reply_domain,
                now=parts.clock(),
            )
        await print_records(parts, domain)
        return 0

    return run(chosen, work)


def list_domains(chosen: Namespace) -> int:
    """Lists domains and what the last check found."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        query = select(Domain, Company.name).join(Company, Company.id == Domain.company_id)
        if chosen.company:
            company = await company_named(parts.sessions, chosen.company)
            query = query.where(Domain.company_id == company)
        async with parts.sessions.read(EVERY_COMPANY) as session:
            found = (await session.execute(query.order_by(Domain.name))).all()
            rows = []
            for domain, name in found:
                last = await service.last_check(session, domain)
                state = WORDS[State(last.state)] if last else "not checked"
                checked = last.checked_at if last else None
                rows.append((domain.name, domain.reply_domain, name, state, checked))
        heads = ("domain", "replies come to", "company", "DNS", "checked (UTC)")
        table(heads, rows, "No domain yet: waypost domain add NAME --company COMPANY")
        return 0

    return run(chosen, work)


async def _named(parts: Appliance, name: str) -> Domain:
    async with parts.sessions.read(EVERY_COMPANY) as session:
        wanted = name.strip().rstrip(".").lower()
        found = await session.scalars(select(Domain).where(Domain.name == wanted))
        domain = found.one_or_none()
    if domain is None:
        raise PermanentError(f"No company sends from {name}. `waypost domain list` shows all.")
    return domain


def show_records(chosen: Namespace) -> int:
    """Prints the records of one domain."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        domain = await _named(parts, chosen.name)
        if chosen.format == "text":
            await print_records(parts, domain)
            return 0
        ours, machines = await _records(parts, domain)
        if chosen.format == "zone":
            print(zone_file(f"{domain.name}: records for {parts.settings.host.name}", ours))
        else:
            both = {"domain": ours, "machine": machines}
            as_json = {name: [one.as_json() for one in part] for name, part in both.items()}
            print(json.dumps(as_json, indent=2))
        return 0

    return run(chosen, work)


async def _records(parts: Appliance, domain: Domain) -> tuple[list[Record], list[Record]]:
    machine = service.machine_named(parts.settings)
    async with parts.sessions.read(EVERY_COMPANY) as session:
        ours = await service.records_of(session, parts.seal, domain, machine, parts.clock())
    return ours, machine_records(machine)


async def print_records(parts: Appliance, domain: Domain) -> None:
    """The DNS records to add, as a zone file would have them, each with its reason."""
    ours, machines = await _records(parts, domain)
    print(f"Add these records to the DNS of {domain.name}:\n")
    _print(ours)
    print(f"And once for this machine, {parts.settings.host.name}, where they are not there yet:\n")
    _print(machines)
    print(f"Then: waypost domain check {domain.name}")


def _print(records: Sequence[Record]) -> None:
    for record in records:
        print(f"; {record.need}: {record.why}")
        mark = "; remove: " if record.need is Need.REMOVE else ""
        line = zone_line(record)
        print(f"{mark}{line}" + ("" if record.value else "(the machine's public address)") + "\n")


def check_domains(chosen: Namespace) -> int:
    """Looks the records up and says how to mend what is wrong; 1 if something is wrong."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        checks = _checks(parts)
        if chosen.name:
            domain = await _named(parts, chosen.name)
            one = await checks.check(domain.company_id, domain.id)
            reports = [one] if one else []
        else:
            reports = await checks.check_all(older_than=timedelta(0))
        machine = await service.find_machine(parts.settings, parts.resolver)
        known = reports[0].machine if reports else await check_machine(machine, parts.resolver)
        machines = list(known)
        if chosen.json:
            print(json.dumps(_as_json(reports, machines), indent=2))
        else:
            for report in reports:
                print_report(report)
            print(f"This machine, {machine.host}:")
            for finding in machines:
                print_finding(finding)
        states = {finding.state for report in reports for finding in report.findings}
        states |= {finding.state for finding in machines}
        return 1 if states & {State.WRONG, State.UNSURE} else 0

    return run(chosen, work)


def _checks(parts: Appliance) -> DomainChecks:
    return DomainChecks(parts.sessions, parts.seal, parts.settings, parts.resolver, parts.clock)


def _as_json(reports: Sequence[Report], machines: Sequence[Finding]) -> dict[str, object]:
    return {
        "domains": [
            {
                "domain": report.domain,
                "checked_at": report.checked_at.isoformat(),
                "state": str(report.state),
                "ready": report.ready,
                "switched": report.switched,
                "findings": [finding.as_json() for finding in report.findings],
            }
            for report in reports
        ],
        "machine": [finding.as_json() for finding in machines],
    }


def print_report(report: Report) -> None:
    """All findings about one domain."""
    print(f"{report.domain}: {'ready' if report.ready else 'not ready yet'}")
    for finding in report.findings:
        print_finding(finding)
    for finding in report.drifted:
        print(f"  {finding.record.name} was right at an earlier check: something was changed.")
    if report.switched:
        print("  The new keys are published. Mail is signed with them from now on.")
    print()


def print_finding(finding: Finding) -> None:
    """One record: how it stands, and what to do."""
    record = finding.record
    print(f"  {WORDS[finding.state]:<16}{record.type} {record.name}  ({record.need})")
    lines = [finding.problem, finding.remedy]
    if finding.value and finding.state in {State.WRONG, State.ADVICE}:
        found = " | ".join(finding.found) or "nothing"
        lines += [f"found:    {found}", f"expected: {finding.value}"]
    for line in [*lines, finding.note]:
        if line:
            print(f"{'':18}{line}")


def rotate_keys(chosen: Namespace) -> int:
    """Makes new keys; when they are published, signs with them."""
    if not 0 <= chosen.keep <= 365:
        raise PermanentError("--keep takes 0 to 365 days. Fourteen fit mail that is retried.")

    async def work(parts: Appliance, chosen: Namespace) -> int:
        domain = await _named(parts, chosen.name)
        async with parts.sessions.begin(domain.company_id) as session:
            if chosen.cancel:
                dropped = await rotation.cancel(session, domain)
                print("The new keys are dropped." if dropped else "No new keys wait.")
                return 0
            keys = await rotation.waiting(session, domain)
            if keys is None:
                await rotation.begin(session, parts.seal, domain, now=parts.clock())
        ours, _ = await _records(parts, domain)
        if keys is None:
            print("New keys are made. Add these records; the old ones stay:\n")
            _print([record for record in ours if record.need is Need.NEXT])
            print(f"Then once more: waypost domain rotate {domain.name}")
            return 0
        keep = timedelta(days=chosen.keep)
        report = await _checks(parts).check(domain.company_id, domain.id, keep=keep)
        if report is None:
            raise PermanentError(f"{domain.name} was removed meanwhile.")
        if report.switched:
            print("The new keys are published. Mail is signed with them from now on.")
            print(f"Keep the records of the old ones for {chosen.keep} days, then remove them;")
            print(f"`waypost domain records {domain.name}` says when.")
            return 0
        print("The new keys are not to be seen yet; mail is still signed with the old ones.")
        for finding in report.findings:
            if finding.record.need is Need.NEXT:
                print_finding(finding)
        return 1

    return run(chosen, work)


def remove_domain(chosen: Namespace) -> int:
    """Takes a domain away, after saying what that ends."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        domain = await _named(parts, chosen.name)
        async with parts.sessions.read(domain.company_id) as session:
            waiting = await session.scalar(
                select(func.count(Delivery.id))
                .join(Message, Message.id == Delivery.message_id)
                .where(Delivery.state.in_(WAITING), Message.sender.like(f"%@{domain.name}"))
            )
        print(f"{waiting or 0} messages from {domain.name} wait to be sent; they will fail.")
        print(f"Replies to mail sent before will no longer be taken at {domain.reply_domain}.")
        ask = f"Type {domain.name} to remove it: "
        if not chosen.yes and (await asyncio.to_thread(input, ask)).strip() != domain.name:
            print("Nothing was changed.")
            return 1
        async with parts.sessions.begin(domain.company_id) as session:
            found = await session.scalar(select(Domain).where(Domain.id == domain.id))
            if found is not None:
                await accounts.remove_domain(session, found)
        print(f"{domain.name} is removed. Take its records out of DNS as well.")
        return 0

    return run(chosen, work)

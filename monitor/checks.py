"""What stands between the owner and a delivered message: settings, disk, store, names, domains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import func, select

from config.settings import Settings
from mta.domains import findings, service
from mta.domains.check import check_machine
from mta.resolver import Resolver
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Credential, Hold, User, Webhook

LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do if it is not right."""

    what: str
    right: bool
    remedy: str = ""


async def all_checks(
    *,
    settings: Settings,
    sessions: Sessions,
    seal: Seal,
    resolver: Resolver | None,
    clock: Callable[[], datetime],
) -> list[Finding]:
    """Every check; without a resolver those that need no name server."""
    found = [_disk(settings), _certificate(settings), _public_url(settings)]
    found += await _store(sessions)
    if resolver is not None:
        checks = service.DomainChecks(sessions, seal, settings, resolver, clock)
        machine = await service.find_machine(settings, resolver)
        found += [_in_words(one) for one in await check_machine(machine, resolver)]
        for report in await checks.check_all(older_than=timedelta(0)):
            found += [_in_words(one) for one in report.findings]
            found += [
                Finding(f"{one.record.name} was right before", False, "Undo what was changed.")
                for one in report.drifted
            ]
    return found


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.host.data).free
    return Finding(
        f"{free / (1 << 30):.1f} GiB are free in {settings.host.data}",
        free >= LEAST_FREE_BYTES,
        "Make room, or point [host] data to a larger disk.",
    )


def _certificate(settings: Settings) -> Finding:
    smtp = settings.smtp
    if smtp.certificate is None:
        return Finding("a self-made certificate serves SMTP (enough to begin with)", True)
    for path in (smtp.certificate, smtp.private_key):
        if path is None or not path.is_file():
            return Finding(
                f"the certificate's file {path or '[smtp] private_key'}",
                False,
                "Set [smtp] certificate and private_key to PEM files, or leave both out.",
            )
    return Finding(f"the certificate {smtp.certificate}", True)


def _public_url(settings: Settings) -> Finding:
    parts = urlsplit(settings.public.url)
    local = parts.hostname in {"localhost", "127.0.0.1", "::1", None}
    return Finding(
        f"links in mail begin with {settings.public.url}",
        parts.scheme in {"http", "https"} and not local,
        'Recipients can\'t reach it. Set [public] url to "https://" and the host they see.',
    )


async def _store(sessions: Sessions) -> list[Finding]:
    async with sessions.read(EVERY_COMPANY) as session:
        companies = await session.scalar(select(func.count(Company.id))) or 0
        users = await session.scalar(select(func.count(User.id))) or 0
        logins = select(func.count(Credential.id)).where(Credential.revoked_at.is_(None))
        credentials = await session.scalar(logins) or 0
        held = select(func.count(Hold.id)).where(Hold.released_at.is_(None))
        holds = await session.scalar(held) or 0
        off = select(func.count(Webhook.id)).where(Webhook.state == "disabled")
        silent = await session.scalar(off) or 0
    return [
        Finding(f"companies: {companies}", companies > 0, "waypost company add NAME"),
        Finding(f"users: {users}", users > 0, "waypost user add EMAIL --company NAME"),
        Finding(
            f"live credentials: {credentials}",
            credentials > 0,
            "Nobody can submit mail yet: waypost credential add --company NAME",
        ),
        Finding(f"events on hold: {holds}", holds == 0, "waypost bus hold list shows why."),
        Finding(
            f"webhooks switched off: {silent}",
            silent == 0,
            "waypost webhook list says why; enable or remove them.",
        ),
    ]


def _in_words(one: findings.Finding) -> Finding:
    what = f"{one.record.type} {one.record.name}"
    remedy = f"{one.problem} {one.remedy} {one.note}".strip()
    if one.value and one.state is findings.State.WRONG:
        remedy = f"{remedy}\n       {one.record.type} {one.value}"
    right = one.state in {findings.State.GOOD, findings.State.ADVICE}
    if one.state is findings.State.ADVICE:
        what = f"{what}, but: {one.problem}"
    return Finding(what, right, "" if right else remedy)

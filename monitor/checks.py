"""What stands between the owner and a delivered message: settings, disk, store, names, domains."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import func, select

from config.settings import Settings
from mail.errors import TemporaryError
from mta import accounts
from mta.resolver import Resolver
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Credential, Domain, Hold, User

LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do if it is not right."""

    what: str
    right: bool
    remedy: str = ""


async def all_checks(
    *, settings: Settings, sessions: Sessions, seal: Seal, resolver: Resolver | None
) -> list[Finding]:
    """Every check; without a resolver those that need no name server."""
    findings = [_disk(settings), _certificate(settings), _public_url(settings)]
    findings += await _store(sessions)
    if resolver is not None:
        findings.append(await _host_name(settings, resolver))
        async with sessions.read(EVERY_COMPANY) as session:
            domains = (await session.scalars(select(Domain).order_by(Domain.name))).all()
        for domain in domains:
            findings += await _domain(settings, seal, resolver, domain)
    return findings


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
    return [
        Finding(f"companies: {companies}", companies > 0, "waypost company add NAME"),
        Finding(f"users: {users}", users > 0, "waypost user add EMAIL --company NAME"),
        Finding(
            f"live credentials: {credentials}",
            credentials > 0,
            "Nobody can submit mail yet: waypost credential add --company NAME",
        ),
        Finding(f"events on hold: {holds}", holds == 0, "waypost bus hold list shows why."),
    ]


async def _host_name(settings: Settings, resolver: Resolver) -> Finding:
    name = settings.host.name
    remedy = f"Add an A or AAAA record for {name}, and ask your provider for the reverse name."
    try:
        addresses = await resolver.addresses(name)
    except TemporaryError as error:
        return Finding(f"the host name {name} ({error.public})", False, "Try again later.")
    return Finding(f"the host name {name} has {len(addresses)} addresses", bool(addresses), remedy)


async def _domain(
    settings: Settings, seal: Seal, resolver: Resolver, domain: Domain
) -> list[Finding]:
    try:
        found = await accounts.check_domain(resolver, domain, seal, host=settings.host.name)
    except TemporaryError as error:
        return [Finding(f"{domain.name} ({error.public})", False, "Try again later.")]
    return [
        Finding(f"{one.record.type} {one.record.name}", not one.problem, one.problem)
        for one in found
    ]

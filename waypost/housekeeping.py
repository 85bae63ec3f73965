"""What has to be tidied now and then; each job may run twice at once without harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy import delete, or_, select

from storage.sessions import EVERY_COMPANY
from storage.tables import Arrival, Message, SignInLink, Template, WebSession

if TYPE_CHECKING:
    from waypost.wiring import Appliance

log = structlog.get_logger()


async def forget_sessions(parts: Appliance) -> None:
    """Removes sign-in links that no longer work and browser sessions that are over."""
    now = parts.clock()
    idle = now - parts.settings.console.session
    async with parts.sessions.begin(EVERY_COMPANY) as session:
        await session.execute(delete(SignInLink).where(SignInLink.expires_at < now))
        over = or_(WebSession.ended_at.is_not(None), WebSession.last_seen_at < idle)
        await session.execute(delete(WebSession).where(over))


async def collect_spool(parts: Appliance) -> None:
    """Removes spool files in which nothing is referred to any more."""
    async with parts.sessions.read(EVERY_COMPANY) as session:
        kept = [
            place
            for column in (Arrival.spool, Message.spool, Template.spool)
            for place in await session.scalars(select(column).where(column.is_not(None)))
        ]
    removed = parts.spool.collect(kept, now=parts.clock().timestamp())
    if removed:
        log.info("spool.collected", segments=len(removed))


async def check_domains(parts: Appliance) -> None:
    """Looks all domains' DNS records up, keeps what was found, and tells what has become worse."""
    from mta.domains.service import DomainChecks

    checks = DomainChecks(parts.sessions, parts.seal, parts.settings, parts.resolver, parts.clock)
    reports = await checks.check_all()
    if reports:
        wrong = sum(report.state == "wrong" for report in reports)
        log.info("domains.checked", domains=len(reports), wrong=wrong)

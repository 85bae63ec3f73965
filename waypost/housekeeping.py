"""What has to be tidied now and then; each job may run twice at once without harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy import delete, or_, select, update

from mta import queue_samples, traces
from mta.retry import OPEN
from storage.sessions import EVERY_COMPANY
from storage.tables import (
    Arrival,
    Delivery,
    Message,
    SignInLink,
    SpoolMark,
    Template,
    WebSession,
)

if TYPE_CHECKING:
    from waypost.wiring import Appliance

log = structlog.get_logger()

FORGET_AT_ONCE = 10_000


async def forget_sessions(parts: Appliance) -> None:
    """Removes sign-in links that no longer work and browser sessions that are over."""
    now = parts.clock()
    idle = now - parts.settings.console.session
    async with parts.sessions.begin(EVERY_COMPANY) as session:
        await session.execute(delete(SignInLink).where(SignInLink.expires_at < now))
        over = or_(WebSession.ended_at.is_not(None), WebSession.last_seen_at < idle)
        await session.execute(delete(WebSession).where(over))


async def sample_queue(parts: Appliance) -> None:
    """Keeps how the queue stands now, for pictures and numbers."""
    now = parts.clock()
    async with parts.sessions.read(EVERY_COMPANY) as session:
        samples = await queue_samples.count(session, now=now)
    async with parts.sessions.begin(EVERY_COMPANY) as session:
        await queue_samples.keep(session, samples, now=now)


async def forget_sent(parts: Appliance) -> None:
    """Lets go of the bytes of submitted mail that went out long ago; its record stays."""
    before = parts.clock() - parts.settings.store.keep_sent
    open_ones = select(Delivery.message_id).where(Delivery.state.in_([str(s) for s in OPEN]))
    old = (
        select(Message.id)
        .where(
            Message.direction == "out",
            Message.spool.is_not(None),
            Message.created_at < before,
            Message.id.not_in(open_ones),
        )
        .limit(FORGET_AT_ONCE)
    )
    async with parts.sessions.begin(EVERY_COMPANY) as session:
        await session.execute(
            update(Message)
            .where(Message.id.in_(old))
            .values(spool=None)
            .execution_options(synchronize_session=False)
        )


async def forget_batches(parts: Appliance) -> None:
    """Removes what programs handed in longer ago than their keys are remembered."""
    from console import batches

    kept, now = parts.settings.api.keep_requests, parts.clock()
    async with parts.sessions.begin(EVERY_COMPANY) as session:
        await batches.forget_old(session, now=now, kept=kept)


async def forget_traces(parts: Appliance) -> None:
    """Removes conversations that somebody looked at days ago."""
    async with parts.sessions.begin(EVERY_COMPANY) as session:
        await traces.forget_old(session, now=parts.clock())


async def collect_spool(parts: Appliance) -> None:
    """Removes spool files that are sorted and in which nothing is referred to any more."""
    async with parts.sessions.read(EVERY_COMPANY) as session:
        kept: set[str] = set()
        for column in (Arrival.spool, Message.spool, Template.spool):
            named = select(column["segment"].as_string()).where(column.is_not(None)).distinct()
            kept.update(await session.scalars(named))
        rows = await session.execute(select(SpoolMark.segment, SpoolMark.sorted_to))
        marks = {row.segment: row.sorted_to for row in rows}
    for segment in parts.spool.segments():
        if marks.get(segment.name, -1) < segment.stat().st_size:
            kept.add(segment.name)
    removed = parts.spool.collect(kept, now=parts.clock().timestamp())
    if removed:
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            await session.execute(delete(SpoolMark).where(SpoolMark.segment.in_(removed)))
        log.info("spool.collected", segments=len(removed))


async def check_domains(parts: Appliance) -> None:
    """Looks all domains' DNS records up, keeps what was found, and tells what has become worse."""
    from mta.domains.service import DomainChecks

    checks = DomainChecks(parts.sessions, parts.seal, parts.settings, parts.resolver, parts.clock)
    reports = await checks.check_all()
    if reports:
        wrong = sum(report.state == "wrong" for report in reports)
        log.info("domains.checked", domains=len(reports), wrong=wrong)

"""What people stopped for a while: a company, a campaign, a domain. (Sites: `mta.shaping`.)

Deliveries that come up meanwhile are put off until the end, at no cost of an attempt; ending a
suspension early makes them due again. The host's operator stops a domain for every company; a
company stops only its own mail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import PermanentError
from mta.queue_selection import Which
from storage.sessions import scope_of
from storage.tables import QueueSuspension

KINDS = ("company", "campaign", "domain")
LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Suspension:
    """Nothing goes until then, and why."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """All that is stopped now, to be asked in memory."""

    rows: Mapping[tuple[str, str, UUID | None], Suspension] = field(default_factory=dict)

    def of(self, company: UUID, campaign: str, destination: str) -> Suspension | None:
        """What stops such mail; None if nothing does."""
        if not self.rows:
            return None
        keys: tuple[tuple[str, str, UUID | None], ...] = (
            ("company", "", company),
            ("campaign", campaign, company),
            ("domain", destination, company),
            ("domain", destination, None),
        )
        found = [self.rows[key] for key in keys if key in self.rows]
        return max(found, key=lambda one: one.until, default=None)


NOTHING = Suspended()


async def suspend(
    session: AsyncSession,
    what: str,
    name: str = "",
    *,
    company: UUID | None,
    until: datetime,
    reason: str,
    by: str,
    now: datetime,
) -> None:
    """Stops something until then; takes the place of an earlier suspension of the same.

    `company` None is for every company, of domains only. Raises `PermanentError` for what makes no
    sense.
    """
    name = name.strip().rstrip(".").lower() if what == "domain" else name.strip()
    if what not in KINDS or (company is None and what != "domain"):
        raise PermanentError("A company, one of its campaigns, or a domain can be suspended.")
    if bool(name) == (what == "company") or len(name) > 255:
        raise PermanentError(f"Which {what}?")
    if not now < until <= now + LONGEST:
        raise PermanentError("A suspension ends in the future and within a year.")
    _check_scope(session, company)
    await _end(session, what, name, company, now=now)
    session.add(
        QueueSuspension(
            what=what,
            name=name,
            of_company=company,
            until=until,
            reason=reason[:300],
            by=by[:100],
            created_at=now,
            ended_at=None,
        )
    )
    await session.flush()


async def resume(
    session: AsyncSession, what: str, name: str = "", *, company: UUID | None, now: datetime
) -> Which:
    """Ends a suspension; returns what it had put off, to be made due (`Action.AGAIN`).

    What another suspension stops too is put off again when it comes up. Raises `PermanentError` if
    there is no such suspension.
    """
    name = name.strip().rstrip(".").lower() if what == "domain" else name.strip()
    _check_scope(session, company)
    if not await _end(session, what, name, company, now=now):
        raise PermanentError(f"This {what} is not suspended.")
    return Which(
        suspended=True,
        company=company,
        destination=name if what == "domain" else None,
        campaign=name if what == "campaign" else None,
    )


async def _end(
    session: AsyncSession, what: str, name: str, company: UUID | None, *, now: datetime
) -> bool:
    whose = (
        QueueSuspension.of_company.is_(None)
        if company is None
        else QueueSuspension.of_company == company
    )
    done = await session.execute(
        update(QueueSuspension)
        .where(
            QueueSuspension.what == what,
            QueueSuspension.name == name,
            whose,
            QueueSuspension.ended_at.is_(None),
            QueueSuspension.until > now,
        )
        .values(ended_at=now)
        .execution_options(synchronize_session=False)
    )
    return bool(getattr(done, "rowcount", 0))


def _check_scope(session: AsyncSession, company: UUID | None) -> None:
    scope = scope_of(session)
    if isinstance(scope, UUID) and scope != company:
        raise PermanentError("A company suspends only its own mail.")


async def in_force(session: AsyncSession, *, now: datetime) -> list[QueueSuspension]:
    """What is stopped now: of the session's company and of the operator, or all there is."""
    query = select(QueueSuspension).where(
        QueueSuspension.until > now, QueueSuspension.ended_at.is_(None)
    )
    scope = scope_of(session)
    if isinstance(scope, UUID):
        ours = or_(QueueSuspension.of_company == scope, QueueSuspension.of_company.is_(None))
        query = query.where(ours)
    return list(await session.scalars(query.order_by(QueueSuspension.created_at)))


async def suspended(session: AsyncSession, *, now: datetime) -> Suspended:
    """The same, for claiming."""
    rows = await in_force(session, now=now)
    return Suspended(
        {(row.what, row.name, row.of_company): Suspension(row.until, row.reason) for row in rows}
    )

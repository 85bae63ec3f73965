"""Where people sent a domain's mail for a while, whatever its MX records say.

For a destination whose servers are being moved, or to see mail go to a server of one's own. Only
the host's operator does this, for every company or for one, and every override ends by itself.
Processes know all of them from memory, read anew with every look at the queue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import PermanentError
from mta.routes import Host
from storage.sessions import EVERY_COMPANY, scope_of
from storage.tables import RouteOverride

LONGEST = timedelta(days=366)
MOST = 1000
"""Overrides that are in force at a time."""

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_-]{1,63})*\Z")


def host_of(text: str) -> Host:
    """Reads "host", "host:port", "192.0.2.1:port" or "[2001:db8::1]:port"; 25 without a port.

    Raises `PermanentError`.
    """
    name, port = text.strip().lower(), "25"
    if name.startswith("["):
        name, closed, rest = name[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ("" if rest or not closed else port)
    elif name.count(":") == 1:
        name, _, port = name.partition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise PermanentError(f'"{text[:80]}" has no port between 1 and 65535: write host:port.')
    if not _is_address(name) and not _NAME.match(name):
        raise PermanentError(f'"{text[:80]}" is no mail server: write host:port.')
    return Host(name, int(port))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def add(
    session: AsyncSession,
    destination: str,
    host: Host,
    *,
    company: UUID | None,
    until: datetime,
    reason: str,
    by: str,
    now: datetime,
) -> None:
    """Sends mail for a domain to a host until then; takes the place of an earlier override.

    `company` None is for every company. Raises `PermanentError` for what makes no sense.
    """
    _check_scope(session)
    name = _domain(destination)
    if not now < until <= now + LONGEST:
        raise PermanentError("An override ends in the future and within a year.")
    await _end(session, name, company, now=now)
    if len(await in_force(session, now=now)) >= MOST:
        raise PermanentError(f"{MOST} overrides are in force already; end some.")
    session.add(
        RouteOverride(
            destination=name,
            of_company=company,
            host=host.name,
            port=host.port,
            until=until,
            reason=reason[:300],
            by=by[:100],
            created_at=now,
            ended_at=None,
        )
    )
    await session.flush()


async def end(
    session: AsyncSession, destination: str, *, company: UUID | None, now: datetime
) -> None:
    """Lets a domain's mail go where its MX records say again. Raises `PermanentError`."""
    _check_scope(session)
    if not await _end(session, _domain(destination), company, now=now):
        raise PermanentError(f"Mail for {destination[:255]} is not sent elsewhere.")


async def in_force(session: AsyncSession, *, now: datetime) -> list[RouteOverride]:
    """All overrides of now; needs a session for every company."""
    _check_scope(session)
    query = select(RouteOverride).where(RouteOverride.until > now, RouteOverride.ended_at.is_(None))
    return list(await session.scalars(query.order_by(RouteOverride.created_at)))


class Overrides:
    """The overrides of now, in memory."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._rows: dict[tuple[str, UUID | None], tuple[datetime, Host]] = {}

    async def load(self, session: AsyncSession) -> None:
        """Reads them anew."""
        self._rows = {
            (row.destination, row.of_company): (row.until, Host(row.name, row.port))
            for row in await session.execute(
                select(
                    RouteOverride.destination,
                    RouteOverride.of_company,
                    RouteOverride.until,
                    RouteOverride.host.label("name"),
                    RouteOverride.port,
                )
                .where(RouteOverride.until > self._clock(), RouteOverride.ended_at.is_(None))
                .order_by(RouteOverride.created_at)
            )
        }

    def of(self, destination: str, company: UUID) -> Host | None:
        """Where such mail goes instead; a company's own override comes first."""
        if not self._rows:
            return None
        for key in ((destination, company), (destination, None)):
            until, host = self._rows.get(key, (None, None))
            if until is not None and until > self._clock():
                return host
        return None


def sentences(rows: Sequence[RouteOverride], destination: str, company: UUID) -> list[str]:
    """What holds for such mail, for people; a company's own override alone, if there is one."""
    found = [row for row in rows if row.destination == destination]
    own = [row for row in found if row.of_company == company]
    return [
        f"Mail for {row.destination} is sent to {row.host}, port {row.port}, until "
        f"{row.until:%Y-%m-%d %H:%M:%S} UTC by {row.by}: {row.reason}"
        for row in own or [row for row in found if row.of_company is None]
    ]


def _domain(text: str) -> str:
    name = text.strip().rstrip(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            name = ""
    if not _NAME.match(name):
        raise PermanentError(f'"{text[:80]}" is no domain.')
    return name


async def _end(
    session: AsyncSession, destination: str, company: UUID | None, *, now: datetime
) -> bool:
    whose = (
        RouteOverride.of_company.is_(None)
        if company is None
        else RouteOverride.of_company == company
    )
    done = await session.execute(
        update(RouteOverride)
        .where(
            RouteOverride.destination == destination,
            whose,
            RouteOverride.ended_at.is_(None),
            RouteOverride.until > now,
        )
        .values(ended_at=now)
        .execution_options(synchronize_session=False)
    )
    return bool(getattr(done, "rowcount", 0))


def _check_scope(session: AsyncSession) -> None:
    if scope_of(session) is not EVERY_COMPANY:
        raise PermanentError("Only the host's operator sends mail elsewhere.")

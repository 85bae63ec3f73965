"""The stream as one company sees it: places in it, and the events after a place.

For readers that are not stations: programs that fetch, webhooks that are told. A place stays good
while its events are kept; nothing appears before a place that was given out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, and_, cast, func, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from storage.tables import Event

_PLACE = re.compile(r"(\d{1,18})-(\d{1,18})\Z", re.ASCII)

CLOCKS_DIFFER = timedelta(seconds=2)
"""How much earlier than asked for a place by time begins: ids of several processes mingle."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the stream: after the event with these numbers."""

    tx: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.tx}-{self.seq}"

    @classmethod
    def of(cls, text: str) -> Place | None:
        """The place that was written as text; None if it is none."""
        found = _PLACE.match(text)
        return cls(int(found[1]), int(found[2])) if found else None


START = Place()


async def events_after(
    session: AsyncSession,
    place: Place,
    *,
    kinds: Collection[str] = (),
    until: Place | None = None,
    limit: int,
) -> list[Event]:
    """The next events of the session's company, of these kinds or of all; up to `until`."""
    query = (
        select(Event)
        .where(tuple_(Event.tx, Event.seq) > tuple_(place.tx, place.seq), _settled(session))
        .order_by(Event.tx, Event.seq)
        .limit(limit)
    )
    if kinds:
        query = query.where(Event.kind.in_(sorted(kinds)))
    if until is not None:
        query = query.where(tuple_(Event.tx, Event.seq) <= tuple_(until.tx, until.seq))
    return list(await session.scalars(query))


async def newest(session: AsyncSession) -> Place:
    """The place after everything that is settled, as far as the session sees."""
    query = select(Event.tx, Event.seq).where(_settled(session))
    found = (
        await session.execute(query.order_by(Event.tx.desc(), Event.seq.desc()).limit(1))
    ).first()
    return Place(found.tx, found.seq) if found else START


async def place_before(session: AsyncSession, at: datetime) -> Place:
    """A place before every event that was written at this time or later."""
    milliseconds = max(int((at - CLOCKS_DIFFER).timestamp() * 1000), 0)
    least = UUID(int=(milliseconds << 80) & ((1 << 128) - 1))  # Ids begin with the time.
    query = select(func.min(Event.tx), func.min(Event.seq)).where(Event.id >= least)
    tx, seq = (await session.execute(query)).one()
    return await newest(session) if seq is None else Place(tx, seq - 1)


def _settled(session: AsyncSession) -> ColumnElement[bool]:
    """On PostgreSQL only rows that none can slip in before (see `storage.tables.events`)."""
    if session.get_bind().dialect.name == "sqlite":
        return true()
    oldest = func.pg_snapshot_xmin(func.pg_current_snapshot())
    return and_(Event.tx < cast(cast(oldest, Text), BigInteger))

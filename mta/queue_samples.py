"""How the queue stood, minute by minute: for the console's picture and for /metrics.

The engine takes a sample a minute. Counting what is open reads an index of open deliveries, and
what ended is found by the keys of attempts, which sort by time: neither looks at old mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.ids import first_uuid7
from mta.queue_selection import is_open
from mta.retry import State
from storage.bulk import insert_many
from storage.tables import Attempt, Delivery, QueueSample

MINUTE = timedelta(minutes=1)
LAG = timedelta(seconds=5)
"""Attempts of the last seconds may be on their way into the table still."""

KEPT = timedelta(hours=24)
OVER_LIMIT = timedelta(minutes=5)
"""A sample older than this says nothing of now."""

_OF_OPEN = {
    State.QUEUED: "queued",
    State.SENDING: "sending",
    State.DEFERRED: "deferred",
    State.UNCERTAIN: "deferred",
    State.HELD: "held",
}
_OF_ENDED: dict[str, str] = {
    State.DELIVERED: "delivered",
    State.DEFERRED: "put_off",
    State.UNCERTAIN: "put_off",
    State.HELD: "put_off",
    State.BOUNCED: "bounced",
}


async def count(session: AsyncSession, *, now: datetime) -> list[dict[str, Any]]:
    """How each company stands, for `keep`; needs a session for every company."""
    rows = await session.execute(
        select(Delivery.company_id, Delivery.state, func.count())
        .where(is_open())
        .group_by(Delivery.company_id, Delivery.state)
    )
    found: dict[UUID, dict[str, Any]] = {}
    for company, state, number in rows:
        sample = found.setdefault(company, _empty(company, now))
        sample[_OF_OPEN[State(state)]] += number
    ended = await session.execute(
        select(Attempt.company_id, Attempt.outcome, func.count())
        .where(Attempt.id >= first_uuid7(now - LAG - MINUTE), Attempt.id < first_uuid7(now - LAG))
        .group_by(Attempt.company_id, Attempt.outcome)
    )
    for company, outcome, number in ended:
        name = _OF_ENDED.get(outcome)
        if name is not None:
            found.setdefault(company, _empty(company, now))[name] += number
    return list(found.values())


def _empty(company: UUID, now: datetime) -> dict[str, Any]:
    counts = dict.fromkeys((*_OF_OPEN.values(), *_OF_ENDED.values()), 0)
    return {"company_id": company, "at": now, **counts}


async def keep(session: AsyncSession, samples: Sequence[dict[str, Any]], *, now: datetime) -> None:
    """Writes samples and forgets those of yesterday."""
    await insert_many(session, QueueSample, samples)
    await session.execute(
        delete(QueueSample)
        .where(QueueSample.id < first_uuid7(now - KEPT))
        .execution_options(synchronize_session=False)
    )


async def since(session: AsyncSession, *, after: datetime) -> list[QueueSample]:
    """Samples of the session's company, or of all, the oldest first."""
    rows = await session.scalars(
        select(QueueSample).where(QueueSample.at > after).order_by(QueueSample.at)
    )
    return list(rows)


async def depths(session: AsyncSession, *, now: datetime) -> dict[str, int]:
    """Deliveries by state at the last sample; nothing if there is none that is fresh."""
    last = await session.scalar(
        select(func.max(QueueSample.at)).where(QueueSample.id >= first_uuid7(now - OVER_LIMIT))
    )
    names = ("queued", "sending", "deferred", "held")
    if last is None:
        return dict.fromkeys(names, 0)
    sums = [func.sum(getattr(QueueSample, name)) for name in names]
    row = (await session.execute(select(*sums).where(QueueSample.at == last))).one()
    return {name: int(value or 0) for name, value in zip(names, row, strict=True)}

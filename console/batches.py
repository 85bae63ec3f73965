"""Requests to send, kept under their Idempotency-Key until all their recipients are ordered.

Recipients are ordered in parts, each with what came of it in one transaction. So the same request
again, after a crash or beside the first, goes on where the parts end, and what was answered can be
answered again: nobody is ordered for twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mail.ids import uuid7
from storage.sessions import company_of, insert_new
from storage.tables import Batch, BatchPart, Delivery

PART = 500
"""Recipients of one part; also as many ids as go into one query."""


@dataclass(frozen=True, slots=True)
class Results:
    """What came of a batch's recipients so far."""

    accepted: list[list[Any]]
    refused: list[list[Any]]

    @property
    def looked_at(self) -> int:
        """How many recipients these are."""
        return len(self.accepted) + len(self.refused)


def digest_of(shared: Mapping[str, Any], recipients: Sequence[Any]) -> str:
    """Names a request by what it asks for, however its JSON was written."""
    digest = hashlib.sha256()
    for value in (shared, *recipients):
        digest.update(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
        digest.update(b"\n")
    return digest.hexdigest()


async def open_batch(
    session: AsyncSession, *, key: str, digest: str, campaign: str, total: int, now: datetime
) -> tuple[Batch, bool]:
    """The batch with this key, and whether it is new: not if the request came before."""
    row = {
        "id": uuid7(),
        "key": key,
        "digest": digest,
        "campaign": campaign,
        "total": total,
        "created_at": now,
    }
    added = await insert_new(session, Batch, [row], unless=["company_id", "key"])
    found = select(Batch).where(Batch.company_id == company_of(session), Batch.key == key)
    return (await session.scalars(found)).one(), bool(added)


async def find_batch(session: AsyncSession, batch_id: UUID) -> Batch | None:
    """A batch of the session's company."""
    return (await session.scalars(select(Batch).where(Batch.id == batch_id))).one_or_none()


async def begin_part(session: AsyncSession, batch: Batch, first: int) -> UUID | None:
    """Takes a part for this transaction; None if it is ordered already."""
    row = {"id": uuid7(), "batch_id": batch.id, "first": first}
    added = await insert_new(session, BatchPart, [row], unless=["batch_id", "first"])
    return row["id"] if added else None  # type: ignore[return-value]


async def end_part(session: AsyncSession, part: UUID, results: Results) -> None:
    """Writes what came of a part, in the transaction that took it."""
    await session.execute(
        update(BatchPart)
        .where(BatchPart.id == part)
        .values(accepted=results.accepted, refused=results.refused)
    )


async def finish(session: AsyncSession, batch: Batch, *, now: datetime) -> None:
    """Marks a batch as done: all its parts are there."""
    await session.execute(
        update(Batch)
        .where(Batch.id == batch.id, Batch.finished_at.is_(None))
        .values(finished_at=now)
    )


async def drop(session: AsyncSession, batch: Batch) -> None:
    """Forgets a batch of which nobody was accepted, so that its key is free for a mended one."""
    await session.execute(delete(BatchPart).where(BatchPart.batch_id == batch.id))
    await session.execute(delete(Batch).where(Batch.id == batch.id))


async def results_of(session: AsyncSession, batch: Batch) -> Results:
    """What came of the recipients so far, in their order."""
    parts = select(BatchPart).where(BatchPart.batch_id == batch.id).order_by(BatchPart.first)
    results = Results([], [])
    for part in await session.scalars(parts):
        results.accepted.extend(part.accepted)
        results.refused.extend(part.refused)
    return results


async def standing(session: AsyncSession, results: Results) -> dict[str, int]:
    """How many of a batch's messages are in which state."""
    ids = [UUID(row[2]) for row in results.accepted]
    states: Counter[str] = Counter()
    for start in range(0, len(ids), PART):
        some = Delivery.message_id.in_(ids[start : start + PART])
        query = select(Delivery.state, func.count(Delivery.id)).where(some)
        for state, count in await session.execute(query.group_by(Delivery.state)):
            states[state] += count
    return dict(states)


async def forget_old(session: AsyncSession, *, now: datetime, kept: timedelta) -> int:
    """Removes batches that are older than `kept`; needs a session for every company."""
    old = select(Batch.id).where(Batch.created_at < now - kept)
    ids = list(await session.scalars(old.limit(PART)))
    if ids:
        await session.execute(delete(BatchPart).where(BatchPart.batch_id.in_(ids)))
        await session.execute(delete(Batch).where(Batch.id.in_(ids)))
    return len(ids)

"""Who hands over which delivery, and what came of it.

A claim is a lease with a fence: `claimed_by` names role, run and round, and a result is recorded
only while the row still carries it. The attempt and the time of the next one are written before
anybody dials, so that a crash never leads to hammering a server.

The table is the queue: memory holds only what is being worked on. What is due is found by time
(`due_destinations`), taken by destination (`claim`), each by an index that holds waiting rows only,
so that neither a million waiting for one dead site nor millions delivered cost the others anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, String, Uuid, bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish_many
from mta.gate import decide, facts_for
from mta.outbound import Outbound
from mta.outcome import Outcome
from mta.queue_selection import SUSPENDED
from mta.recipients import suppress
from mta.retry import RetrySchedule, State
from mta.suspensions import NOTHING, Suspended
from storage.bulk import change_many, insert_many, read_rows
from storage.sessions import narrow
from storage.tables import Attempt, Delivery
from storage.types import UtcDateTime

LEASE = timedelta(seconds=60)

DESTINATIONS = 100
"""Destinations that one claim takes from."""

_WAITING = "state IN ('queued', 'deferred', 'uncertain')"
"""Written out as the indexes have it: SQLite uses a partial index only for the same words."""

_OPEN = "state IN ('queued', 'deferred', 'uncertain', 'sending', 'held')"

_EVENTS = {
    State.DELIVERED: Kind.DELIVERY_DELIVERED,
    State.DEFERRED: Kind.DELIVERY_DEFERRED,
    State.UNCERTAIN: Kind.DELIVERY_DEFERRED,
    State.BOUNCED: Kind.DELIVERY_BOUNCED,
    State.SKIPPED: Kind.DELIVERY_SKIPPED,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours until the lease ends. `attempts` counts this one."""

    id: UUID
    company_id: UUID
    recipient: str
    destination: str
    lane: int
    attempts: int
    expires_at: datetime
    fence: str
    message: Outbound


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is due, as it stood when it was read."""

    id: UUID
    company_id: UUID
    message_id: UUID
    recipient: str
    destination: str
    lane: int
    state: str
    attempts: int
    expires_at: datetime


async def due_destinations(
    session: AsyncSession, *, after: datetime | None, now: datetime
) -> dict[str, int]:
    """Destinations with mail that came due after `after` (None: ever), with their best lane."""
    table = Delivery.__table__.c
    found = select(table.destination, func.min(table.lane).label("lane")).where(
        text(_WAITING), table.due_at <= now
    )
    if after is not None:
        found = found.where(table.due_at > after)
    rows = await read_rows(session, found.group_by(table.destination))
    return {row.destination: row.lane for row in rows}


async def backlogs(session: AsyncSession, *, over: int) -> dict[UUID, int]:
    """Companies with more open deliveries than this, and how many they are; from an index."""
    table = Delivery.__table__.c
    query = (
        select(table.company_id, func.count().label("waiting"))
        .where(text(_OPEN))
        .group_by(table.company_id)
        .having(func.count() > over)
    )
    return {row.company_id: row.waiting for row in await read_rows(session, query)}


async def lapse(session: AsyncSession, *, now: datetime) -> int:
    """Puts back what was claimed by a process that is gone or stuck; says how much that was."""
    done = await session.execute(
        update(Delivery)
        .where(Delivery.state == State.SENDING, Delivery.claimed_until <= now)
        .values(
            state=State.UNCERTAIN,
            due_at=now,
            claimed_by=None,
            claimed_until=None,
            reason="the process that sent it ended",
        )
        .execution_options(synchronize_session=False)
    )
    return int(getattr(done, "rowcount", 0))


async def claim(
    session: AsyncSession,
    wanted: Mapping[str, int],
    *,
    now: datetime,
    fence: str,
    schedule: RetrySchedule,
    suspended: Suspended = NOTHING,
) -> tuple[list[Claim], set[str]]:
    """Takes up to so many deliveries of each destination; needs a session for every company.

    `fence` is never used for two claims. Interactive mail comes before transactional before bulk.
    What the gate refuses is skipped, and what people suspended
    is put off. Also returns the destinations that have no more due now.
    """
    due = await _due(session, wanted, now=now)
    facts = await facts_for(session, due, now=now)
    allowed: list[Waiting] = []
    refused: list[tuple[Waiting, Outbound, str]] = []
    put_off: list[tuple[Any, ...]] = []
    for waiting in due:
        known, message = facts[waiting.id]
        stop = suspended.of(waiting.company_id, message.campaign, waiting.destination)
        if stop is not None and stop.until > now:
            reason = f"{SUSPENDED}: {stop.reason}"
            put_off.append((stop.until, reason, waiting.id, waiting.state))
            continue
        why = decide(known, now=now)
        if why:
            refused.append((waiting, message, why))
        else:
            allowed.append(waiting)
    until = now + LEASE
    await change_many(
        session,
        Delivery,
        set_=("state", "claimed_by", "claimed_until", "attempts", "due_at"),
        where=("id", "state"),
        rows=[
            (
                State.SENDING,
                fence,
                until,
                waiting.attempts + 1,
                now + schedule.wait(waiting.attempts + 1),
                waiting.id,
                waiting.state,
            )
            for waiting in allowed
        ],
    )
    await change_many(
        session, Delivery, set_=("due_at", "reason"), where=("id", "state"), rows=put_off
    )
    await _skip(session, refused, now=now)
    counts: dict[str, int] = {}
    for waiting in due:
        counts[waiting.destination] = counts.get(waiting.destination, 0) + 1
    drained = {name for name, limit in wanted.items() if counts.get(name, 0) < limit}
    return [
        Claim(
            waiting.id,
            waiting.company_id,
            waiting.recipient,
            waiting.destination,
            waiting.lane,
            waiting.attempts + 1,
            waiting.expires_at,
            fence,
            facts[waiting.id][1],
        )
        for waiting in allowed
    ], drained


async def _due(session: AsyncSession, wanted: Mapping[str, int], *, now: datetime) -> list[Waiting]:
    """The first due rows of each destination, locked for us."""
    if not wanted:
        return []
    locked = "" if session.get_bind().dialect.name == "sqlite" else " FOR UPDATE SKIP LOCKED"
    part = (
        "SELECT * FROM (SELECT id, company_id, message_id, recipient, destination, lane, state,"
        " attempts, expires_at FROM delivery WHERE destination = :d{0} AND"
        " " + _WAITING + " AND due_at <= :now"
        " ORDER BY lane, due_at LIMIT :k{0}" + locked + ") AS p{0}"
    )
    values: dict[str, Any] = {"now": now}
    for place, (destination, limit) in enumerate(wanted.items()):
        values |= {f"d{place}": destination, f"k{place}": limit}
    query = text(" UNION ALL ".join(part.format(place) for place in range(len(wanted))))
    query = query.bindparams(bindparam("now", type_=UtcDateTime()))
    rows = await session.execute(
        query.columns(
            id=Uuid,
            company_id=Uuid,
            message_id=Uuid,
            recipient=String,
            destination=String,
            lane=BigInteger,
            state=String,
            attempts=BigInteger,
            expires_at=UtcDateTime,
        ),
        values,
    )
    return [Waiting(*row) for row in rows.all()]


async def _skip(
    session: AsyncSession, refused: Sequence[tuple[Waiting, Outbound, str]], *, now: datetime
) -> None:
    await change_many(
        session,
        Delivery,
        set_=("state", "reason", "finished_at"),
        where=("id", "state"),
        rows=[(State.SKIPPED, why, now, waiting.id, waiting.state) for waiting, _, why in refused],
    )
    events = [
        told(message, {"code": None, "text": "", "reason": why}) for _, message, why in refused
    ]
    await publish_many(session, Kind.DELIVERY_SKIPPED, events, occurred_at=now)


async def record(
    session: AsyncSession, results: Sequence[tuple[Claim, Outcome]], *, now: datetime
) -> set[UUID]:
    """Writes what attempts came to; returns those whose claim was still ours.

    A bounce that says the address is no good suppresses it in the same transaction. Needs a session
    for every company.
    """
    written = await change_many(
        session,
        Delivery,
        set_=(
            "state",
            "last_code",
            "last_text",
            "reason",
            "claimed_by",
            "claimed_until",
            "finished_at",
            "due_at",
        ),
        where=("id", "claimed_by"),
        rows=[
            (
                outcome.state,
                outcome.code,
                outcome.said,
                outcome.reason,
                None,
                None,
                now if outcome.state in {State.DELIVERED, State.BOUNCED} else None,
                outcome.due_at or now,
                c.id,
                c.fence,
            )
            for c, outcome in results
        ],
    )
    still = set(written)
    ours = [(c, outcome) for c, outcome in results if c.id in still]
    await insert_many(session, Attempt, [_attempt(c, outcome, now) for c, outcome in results])
    by_kind: dict[Kind, list[dict[str, Any]]] = {}
    for c, outcome in ours:
        kind = _EVENTS.get(outcome.state)
        if kind is not None:
            by_kind.setdefault(kind, []).append(told(c.message, _payload(outcome)))
    for kind, events in by_kind.items():
        await publish_many(session, kind, events, occurred_at=now)
    for c, outcome in ours:
        if outcome.bounce is not None and outcome.bounce.hard:
            narrow(session, c.company_id)
            detail = {"code": outcome.code, "text": outcome.said, "message": str(c.message.id)}
            await suppress(session, c.recipient, "bounced", now=now, detail=detail)
    return {c.id for c, _ in ours}


def _attempt(c: Claim, outcome: Outcome, now: datetime) -> dict[str, Any]:
    return {
        "company_id": c.company_id,
        "delivery_id": c.id,
        "at": now,
        "host": outcome.host,
        "tls": outcome.tls,
        "code": outcome.code,
        "text": outcome.said,
        "outcome": outcome.state,
        "seconds": outcome.seconds,
    }


def _payload(outcome: Outcome) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "code": outcome.code,
        "text": outcome.said,
        "reason": outcome.reason,
    }
    if outcome.bounce is not None:
        payload |= {"class": str(outcome.bounce), "hard": outcome.bounce.hard}
    return payload


def told(message: Outbound, payload: dict[str, Any]) -> dict[str, Any]:
    """An event about a message, for `publish_many`."""
    return {
        "company_id": message.company_id,
        "contact_id": message.contact_id,
        "message_id": message.id,
        "enrolment_id": message.enrolment_id,
        "user_id": message.user_id,
        "payload": payload,
    }


async def give_back(session: AsyncSession, claims: Sequence[Claim], *, now: datetime) -> None:
    """Frees claims that nobody began to send; their attempt does not count."""
    await change_many(
        session,
        Delivery,
        set_=("state", "attempts", "claimed_by", "claimed_until", "due_at"),
        where=("id", "claimed_by"),
        rows=[
            (
                State.QUEUED if c.attempts <= 1 else State.DEFERRED,
                c.attempts - 1,
                None,
                None,
                now,
                c.id,
                c.fence,
            )
            for c in claims
        ],
    )


async def renew(session: AsyncSession, held: Mapping[UUID, str], *, until: datetime) -> None:
    """Keeps the leases of deliveries that are still in progress, by id with their fences."""
    rows = [(until, key, fence) for key, fence in held.items()]
    await change_many(
        session, Delivery, set_=("claimed_until",), where=("id", "claimed_by"), rows=rows
    )


async def take_back(session: AsyncSession, role: str, *, now: datetime) -> int:
    """Frees what an earlier run of this role had claimed when it died; says how much it was.

    Whether those messages were taken is not known, and so they say.
    """
    done = await session.execute(
        update(Delivery)
        .where(
            Delivery.state == State.SENDING,
            Delivery.claimed_by.startswith(f"{role}/", autoescape=True),
        )
        .values(
            state=State.UNCERTAIN,
            due_at=now,
            claimed_by=None,
            claimed_until=None,
            reason="the process that sent it ended",
        )
        .execution_options(synchronize_session=False)
    )
    return int(getattr(done, "rowcount", 0))

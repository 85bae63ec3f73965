"""Mail waiting to leave, as people see it and what they may do to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish_many
from mta.claims import told
from mta.outbound import load_outbound
from mta.queue_selection import EVERYTHING, Which, is_open, is_waiting
from mta.retry import WAITING, State
from storage.bulk import change_many
from storage.sessions import Scope, Sessions
from storage.tables import Delivery


@dataclass(frozen=True, slots=True)
class Standing:
    """What waits for one destination."""

    destination: str
    waiting: int
    sending: int
    deferred: int
    held: int
    oldest: datetime
    next_due: datetime | None


CAP = 50_000
"""Deliveries that a list looks at; where there are more, it says so."""

BATCH = 1000
"""Deliveries changed in one transaction."""


class Action(StrEnum):
    """What people may do to deliveries. `drop` gives up without a report to the sender;
    `again` makes due what a suspension put off.
    """

    HOLD = "hold"
    RELEASE = "release"
    FLUSH = "flush"
    BOUNCE = "bounce"
    DROP = "drop"
    AGAIN = "again"


_FROM: dict[Action, tuple[State, ...]] = {
    Action.HOLD: WAITING,
    Action.RELEASE: (State.HELD,),
    Action.FLUSH: (State.DEFERRED, State.UNCERTAIN),
    Action.BOUNCE: (*WAITING, State.HELD),
    Action.DROP: (*WAITING, State.HELD),
    Action.AGAIN: WAITING,
}


async def standings(
    session: AsyncSession, which: Which = EVERYTHING, *, cap: int = CAP
) -> list[Standing]:
    """The queue by destination, the longest first; of the session's company or of all.

    Counts the first `cap` open deliveries only: a sum of `cap` means that there are more.
    """
    some = (
        select(
            Delivery.destination.label("destination"),
            Delivery.state.label("state"),
            Delivery.created_at.label("created_at"),
            Delivery.due_at.label("due_at"),
        )
        .where(is_open(), which.clause())
        .limit(cap)
        .subquery()
    )
    rows = await session.execute(
        select(
            some.c.destination,
            some.c.state,
            func.count(),
            func.min(some.c.created_at),
            func.min(some.c.due_at),
        ).group_by(some.c.destination, some.c.state)
    )
    grouped: dict[str, dict[State, tuple[int, datetime, datetime]]] = {}
    for name, state, count, oldest, due in rows:
        grouped.setdefault(name, {})[State(state)] = (count, oldest, due)
    found = [_standing(name, by_state) for name, by_state in grouped.items()]
    found.sort(key=lambda one: (-(one.waiting + one.deferred + one.held), one.destination))
    return found


def _standing(name: str, by_state: Mapping[State, tuple[int, datetime, datetime]]) -> Standing:
    def count_of(*states: State) -> int:
        return sum(by_state[state][0] for state in states if state in by_state)

    return Standing(
        name,
        count_of(State.QUEUED),
        count_of(State.SENDING),
        count_of(State.DEFERRED, State.UNCERTAIN),
        count_of(State.HELD),
        min(oldest for _, oldest, _ in by_state.values()),
        min((due for state, (_, _, due) in by_state.items() if state in WAITING), default=None),
    )


async def last_replies(
    session: AsyncSession, destinations: Sequence[str]
) -> dict[str, tuple[int | None, str]]:
    """What each destination, of a page of them, said last to mail that still waits."""
    found = {}
    for name in destinations:
        row = (
            await session.execute(
                select(Delivery.last_code, Delivery.last_text)
                .where(is_waiting(), Delivery.destination == name, Delivery.last_text != "")
                .limit(1)
            )
        ).first()
        if row is not None:
            found[name] = (row.last_code, row.last_text)
    return found


async def waiting(
    session: AsyncSession,
    which: Which = EVERYTHING,
    *,
    limit: int = 100,
    after: tuple[datetime, UUID] | None = None,
) -> list[Delivery]:
    """Deliveries that are not done, the oldest first; `after` is where the last page ended."""
    query = select(Delivery).where(is_open(), which.clause())
    if after is not None:
        created, key = after
        query = query.where(
            or_(
                Delivery.created_at > created,
                and_(Delivery.created_at == created, Delivery.id > key),
            )
        )
    query = query.order_by(Delivery.created_at, Delivery.id).limit(limit)
    return list(await session.scalars(query))


async def affected(session: AsyncSession, which: Which, action: Action) -> list[UUID]:
    """The deliveries that an action would change now: what a dry run counts, and `apply` takes."""
    wanted = Delivery.state.in_([str(state) for state in _FROM[action]])
    query = select(Delivery.id).where(is_open(), wanted, which.clause())
    return list(await session.scalars(query))


async def apply(
    sessions: Sessions,
    scope: Scope,
    action: Action,
    ids: Sequence[UUID],
    *,
    reason: str,
    clock: Callable[[], datetime],
) -> AsyncIterator[Counter[UUID]]:
    """Changes deliveries some at a time, each time in a transaction of its own.

    Yields how many were changed so far, by company. What changed its state meanwhile is left alone.
    """
    done: Counter[UUID] = Counter()
    for start in range(0, len(ids), BATCH):
        which = Which(ids=ids[start : start + BATCH])
        async with sessions.begin(scope) as session:
            done.update(await change(session, action, which, reason=reason, now=clock()))
        yield done


async def change(
    session: AsyncSession, action: Action, which: Which, *, reason: str, now: datetime
) -> Counter[UUID]:
    """One action on part of the queue, in the session's transaction; how many by company."""
    reason = reason[:500]
    if action in {Action.BOUNCE, Action.DROP}:
        return await _end(session, which, bounced=action is Action.BOUNCE, reason=reason, now=now)
    by_action: dict[Action, dict[str, Any]] = {
        Action.HOLD: {"state": State.HELD, "reason": reason},
        Action.RELEASE: {"state": State.DEFERRED, "due_at": now, "reason": "released"},
        Action.FLUSH: {"due_at": now},
        Action.AGAIN: {"due_at": now, "reason": ""},
    }
    wanted = Delivery.state.in_([str(state) for state in _FROM[action]])
    companies = await session.scalars(
        update(Delivery)
        .where(wanted, which.clause())
        .values(**by_action[action])
        .returning(Delivery.company_id)
        .execution_options(synchronize_session=False)
    )
    return Counter(companies)


async def hold(session: AsyncSession, which: Which, *, reason: str) -> int:
    """Sets waiting mail aside until it is released; what is being sent now goes on."""
    now = datetime.now(UTC)  # Nothing of it is written.
    return (await change(session, Action.HOLD, which, reason=reason, now=now)).total()


async def release(session: AsyncSession, which: Which, *, now: datetime) -> int:
    """Lets held mail go; it is due at once."""
    return (await change(session, Action.RELEASE, which, reason="", now=now)).total()


async def flush(session: AsyncSession, which: Which, *, now: datetime) -> int:
    """Makes deferred mail due now; what is planned for later stays planned."""
    return (await change(session, Action.FLUSH, which, reason="", now=now)).total()


async def bounce(session: AsyncSession, which: Which, *, reason: str, now: datetime) -> int:
    """Gives up on mail; its senders are told."""
    return (await change(session, Action.BOUNCE, which, reason=reason, now=now)).total()


async def _end(
    session: AsyncSession, which: Which, *, bounced: bool, reason: str, now: datetime
) -> Counter[UUID]:
    states = [str(state) for state in _FROM[Action.BOUNCE]]
    rows = await session.execute(
        select(Delivery.id, Delivery.message_id, Delivery.company_id)
        .where(Delivery.state.in_(states), which.clause())
        .with_for_update()
    )
    ended = rows.all()
    found = await load_outbound(session, [row.message_id for row in ended])
    state = State.BOUNCED if bounced else State.SKIPPED
    await change_many(
        session,
        Delivery,
        set_=("state", "reason", "finished_at"),
        where=("id",),
        rows=[(state, reason, now, row.id) for row in ended],
    )
    payload: dict[str, Any] = {"code": None, "text": "", "reason": reason}
    if bounced:
        payload |= {"class": "other", "hard": False}
    kind = Kind.DELIVERY_BOUNCED if bounced else Kind.DELIVERY_SKIPPED
    events = [told(message, payload) for message in found.values()]
    await publish_many(session, kind, events, occurred_at=now)
    return Counter(row.company_id for row in ended)

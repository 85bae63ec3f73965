"""Mail waiting to leave: who takes which delivery, what came of it, and what people may do to it.

A claim is a lease with a fence: `claimed_by` names role, run and round, and a result is recorded
only while the row still carries it. The attempt and the time of the next one are written before
anybody dials, so that a crash never leads to hammering a server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mta.gate import decide, facts_for
from mta.outcome import Outcome
from mta.recipients import suppress
from mta.retry import OPEN, WAITING, BounceClass, RetrySchedule, State
from storage.sessions import narrow
from storage.tables import Attempt, Delivery, Message

LEASE = timedelta(seconds=60)
LANES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours until the lease ends. `message` is a detached row."""

    id: UUID
    company_id: UUID
    recipient: str
    destination: str
    attempts: int
    expires_at: datetime
    fence: str
    until: datetime
    message: Message


_EVENTS = {
    State.DELIVERED: Kind.DELIVERY_DELIVERED,
    State.DEFERRED: Kind.DELIVERY_DEFERRED,
    State.UNCERTAIN: Kind.DELIVERY_DEFERRED,
    State.BOUNCED: Kind.DELIVERY_BOUNCED,
    State.SKIPPED: Kind.DELIVERY_SKIPPED,
}


async def claim_due(
    session: AsyncSession,
    *,
    now: datetime,
    owner: str,
    schedule: RetrySchedule,
    limit: int,
    site: Callable[[str], str],
    room: Callable[[str], int],
    full: Collection[str] = (),
) -> list[Claim]:
    """Takes up to `limit` due deliveries; needs a session for every company.

    `owner` names the claim and is never used for two of them.

    `room` says how many more may be in progress at a site, which is what `site` makes of a
    destination; destinations in `full` are passed by.
    Interactive mail comes before transactional before bulk. What the gate refuses is skipped.
    The session is narrowed to some company afterwards: use it for nothing else.
    """
    due = await _due(session, now=now, limit=limit, site=site, room=room, full=full)
    facts = await facts_for(session, due)
    allowed: list[Delivery] = []
    refused: list[tuple[Delivery, Message, str]] = []
    for delivery in due:
        known, message = facts[delivery.id]
        why = decide(known, now=now)
        if not why:
            allowed.append(delivery)
        elif await _set(session, delivery, state=State.SKIPPED, reason=why, finished_at=now):
            refused.append((delivery, message, why))
    taken = await _take(session, allowed, owner=owner, now=now, schedule=schedule)
    claims = [
        Claim(
            delivery.id,
            delivery.company_id,
            delivery.recipient,
            delivery.destination,
            delivery.attempts + 1,
            delivery.expires_at,
            owner,
            now + LEASE,
            facts[delivery.id][1],
        )
        for delivery in allowed
        if delivery.id in taken
    ]
    for delivery, message, why in refused:
        narrow(session, delivery.company_id)
        await _tell(session, message, State.SKIPPED, now=now, reason=why)
    return claims


async def _due(
    session: AsyncSession,
    *,
    now: datetime,
    limit: int,
    site: Callable[[str], str],
    room: Callable[[str], int],
    full: Collection[str],
) -> list[Delivery]:
    """Due rows by lane, no more for one site than there is room."""
    chosen: list[Delivery] = []
    taken: Counter[str] = Counter()
    for lane in LANES:
        for state in (*WAITING, State.SENDING):
            if len(chosen) >= limit:
                return chosen
            time_is_up = Delivery.due_at <= now
            if state is State.SENDING:  # Its process is gone or stuck: the lease has run out.
                time_is_up = Delivery.claimed_until <= now
            query = (
                select(Delivery)
                .where(Delivery.state == state, Delivery.lane == lane, time_is_up)
                .order_by(Delivery.due_at)
                .limit(limit * 4)
                .with_for_update(skip_locked=True)
            )
            if full:
                query = query.where(Delivery.destination.not_in(sorted(full)))
            for delivery in await session.scalars(query):
                name = site(delivery.destination)
                if len(chosen) < limit and taken[name] < room(name):
                    taken[name] += 1
                    chosen.append(delivery)
    return chosen


async def _take(
    session: AsyncSession,
    allowed: Sequence[Delivery],
    *,
    owner: str,
    now: datetime,
    schedule: RetrySchedule,
) -> set[UUID]:
    """Claims by compare and set, those with the same history in one statement.

    The count of attempts is what is compared: every claim raises it.
    """
    groups: dict[tuple[str, int], list[UUID]] = {}
    for delivery in allowed:
        groups.setdefault((delivery.state, delivery.attempts), []).append(delivery.id)
    taken: set[UUID] = set()
    for (state, attempts), ids in groups.items():
        taken.update(
            await session.scalars(
                update(Delivery)
                .where(Delivery.id.in_(ids), Delivery.state == state, Delivery.attempts == attempts)
                .values(
                    state=State.SENDING,
                    claimed_by=owner,
                    claimed_until=now + LEASE,
                    attempts=attempts + 1,
                    due_at=now + schedule.wait(attempts + 1),
                )
                .returning(Delivery.id)
                .execution_options(synchronize_session=False)
            )
        )
    return taken


async def _set(session: AsyncSession, delivery: Delivery, **values: Any) -> bool:
    """Compare and set: nobody else has touched the row since it was read."""
    same_claim = (
        Delivery.claimed_by.is_(None)
        if delivery.claimed_by is None
        else Delivery.claimed_by == delivery.claimed_by
    )
    done = await session.execute(
        update(Delivery)
        .where(Delivery.id == delivery.id, Delivery.state == delivery.state, same_claim)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return getattr(done, "rowcount", 0) == 1


async def record(session: AsyncSession, claim: Claim, outcome: Outcome, *, now: datetime) -> bool:
    """Writes what an attempt came to; False if the claim was lost to somebody else meanwhile.

    A bounce that says the address is no good suppresses it in the same transaction.
    """
    narrow(session, claim.company_id)
    over = outcome.state in {State.DELIVERED, State.BOUNCED}
    values: dict[str, Any] = {
        "state": outcome.state,
        "last_code": outcome.code,
        "last_text": outcome.said,
        "reason": outcome.reason,
        "claimed_by": None,
        "claimed_until": None,
        "finished_at": now if over else None,
    }
    if outcome.due_at is not None:
        values["due_at"] = outcome.due_at
    done = await session.execute(
        update(Delivery)
        .where(Delivery.id == claim.id, Delivery.claimed_by == claim.fence)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    session.add(
        Attempt(
            delivery_id=claim.id,
            at=now,
            host=outcome.host,
            tls=outcome.tls,
            code=outcome.code,
            text=outcome.said,
            outcome=outcome.state,
            seconds=outcome.seconds,
        )
    )
    await session.flush()
    if getattr(done, "rowcount", 0) != 1:
        return False
    if outcome.bounce is not None and outcome.bounce.hard:
        detail = {"code": outcome.code, "text": outcome.said, "message": str(claim.message.id)}
        await suppress(session, claim.recipient, "bounced", now=now, detail=detail)
    await _tell(
        session,
        claim.message,
        outcome.state,
        now=now,
        code=outcome.code,
        text=outcome.said,
        reason=outcome.reason,
        kind_of_bounce=outcome.bounce,
    )
    return True


async def _tell(
    session: AsyncSession,
    message: Message,
    state: State,
    *,
    now: datetime,
    code: int | None = None,
    text: str = "",
    reason: str = "",
    kind_of_bounce: BounceClass | None = None,
) -> None:
    kind = _EVENTS.get(state)
    if kind is None:
        return
    payload: dict[str, Any] = {"code": code, "text": text, "reason": reason}
    if kind_of_bounce is not None:
        payload["class"] = str(kind_of_bounce)
        payload["hard"] = kind_of_bounce.hard
    await publish(
        session,
        kind,
        contact=message.contact_id,
        message=message.id,
        enrolment=message.enrolment_id,
        user=message.user_id,
        occurred_at=now,
        **payload,
    )


async def renew(session: AsyncSession, held: Mapping[UUID, str], *, until: datetime) -> None:
    """Keeps the leases of deliveries that are still in progress, by id with their fences."""
    by_fence: dict[str, list[UUID]] = {}
    for key, fence in held.items():
        by_fence.setdefault(fence, []).append(key)
    for fence, keys in by_fence.items():
        await session.execute(
            update(Delivery)
            .where(
                Delivery.state == State.SENDING,
                Delivery.claimed_by == fence,
                Delivery.id.in_(keys),
            )
            .values(claimed_until=until)
            .execution_options(synchronize_session=False)
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
    return getattr(done, "rowcount", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Part of the queue; what is left out does not limit it."""

    destination: str | None = None
    campaign: str | None = None
    ids: Sequence[UUID] | None = None

    def clause(self) -> ColumnElement[bool]:
        """As a condition on deliveries."""
        parts: list[ColumnElement[bool]] = [Delivery.id.is_not(None)]
        if self.destination is not None:
            parts.append(Delivery.destination == self.destination.lower())
        if self.campaign is not None:
            of_it = select(Message.id).where(Message.campaign == self.campaign)
            parts.append(Delivery.message_id.in_(of_it))
        if self.ids is not None:
            parts.append(Delivery.id.in_(list(self.ids)))
        return and_(*parts)


EVERYTHING = Which()


@dataclass(frozen=True, slots=True)
class Standing:
    """What waits for one destination, and what it said last."""

    destination: str
    waiting: int
    sending: int
    deferred: int
    held: int
    oldest: datetime
    next_due: datetime | None
    last_code: int | None
    last_text: str


async def standings(session: AsyncSession, which: Which = EVERYTHING) -> list[Standing]:
    """The queue by destination, the longest first; of the session's company or of all."""
    open_states = [str(state) for state in OPEN]
    rows = await session.execute(
        select(
            Delivery.destination,
            Delivery.state,
            func.count(Delivery.id),
            func.min(Delivery.created_at),
            func.min(Delivery.due_at),
        )
        .where(Delivery.state.in_(open_states), which.clause())
        .group_by(Delivery.destination, Delivery.state)
    )
    grouped: dict[str, dict[str, tuple[int, datetime, datetime]]] = {}
    for name, state, count, oldest, due in rows:
        grouped.setdefault(name, {})[state] = (count, oldest, due)
    found = []
    for name, by_state in grouped.items():
        last = (
            await session.execute(
                select(Delivery.last_code, Delivery.last_text)
                .where(
                    Delivery.destination == name,
                    Delivery.last_text != "",
                    Delivery.state.in_(open_states),
                )
                .order_by(Delivery.due_at.desc())
                .limit(1)
            )
        ).first()
        dues = [due for state, (_, _, due) in by_state.items() if state in WAITING]

        def count_of(*states: State, kept: dict[str, tuple[int, datetime, datetime]]) -> int:
            return sum(kept[state][0] for state in states if state in kept)

        found.append(
            Standing(
                name,
                count_of(State.QUEUED, kept=by_state),
                count_of(State.SENDING, kept=by_state),
                count_of(State.DEFERRED, State.UNCERTAIN, kept=by_state),
                count_of(State.HELD, kept=by_state),
                min(oldest for _, oldest, _ in by_state.values()),
                min(dues, default=None),
                last.last_code if last else None,
                last.last_text if last else "",
            )
        )
    found.sort(key=lambda standing: -(standing.waiting + standing.deferred + standing.held))
    return found


async def waiting(
    session: AsyncSession, which: Which = EVERYTHING, *, limit: int = 100
) -> list[Delivery]:
    """Deliveries that are not done, the oldest first."""
    query = (
        select(Delivery)
        .where(Delivery.state.in_([str(state) for state in OPEN]), which.clause())
        .order_by(Delivery.created_at)
        .limit(limit)
    )
    return list(await session.scalars(query))


async def hold(session: AsyncSession, which: Which, *, reason: str) -> int:
    """Sets waiting mail aside until it is released; what is being sent now goes on."""
    return await _change(session, which, WAITING, state=State.HELD, reason=reason[:500])


async def release(session: AsyncSession, which: Which, *, now: datetime) -> int:
    """Lets held mail go; it is due at once."""
    return await _change(
        session, which, (State.HELD,), state=State.DEFERRED, due_at=now, reason="released"
    )


async def flush(session: AsyncSession, which: Which, *, now: datetime) -> int:
    """Makes deferred mail due now; what is planned for later stays planned."""
    return await _change(session, which, (State.DEFERRED, State.UNCERTAIN), due_at=now)


async def bounce(session: AsyncSession, which: Which, *, reason: str, now: datetime) -> int:
    """Gives up on mail; its senders' stations are told. Needs a session of one company."""
    states = [*WAITING, State.HELD]
    rows = list(
        await session.scalars(
            select(Delivery).where(Delivery.state.in_([str(s) for s in states]), which.clause())
        )
    )
    count = 0
    for delivery in rows:
        ended = {"state": State.BOUNCED, "reason": reason[:500], "finished_at": now}
        if not await _set(session, delivery, **ended):
            continue
        count += 1
        message = (
            await session.scalars(select(Message).where(Message.id == delivery.message_id))
        ).one()
        await _tell(
            session,
            message,
            State.BOUNCED,
            now=now,
            reason=reason[:500],
            kind_of_bounce=BounceClass.OTHER,
        )
    return count


async def _change(
    session: AsyncSession, which: Which, states: Sequence[State], **values: Any
) -> int:
    wanted = or_(*(Delivery.state == state for state in states))
    done = await session.execute(
        update(Delivery)
        .where(wanted, which.clause())
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return getattr(done, "rowcount", 0)

"""Mail waiting to leave, as people see it and what they may do to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish_many
from mta.claims import told
from mta.outbound import load_outbound
from mta.retry import OPEN, WAITING, State
from storage.bulk import change_many
from storage.tables import Delivery, Message


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
    states = [str(state) for state in (*WAITING, State.HELD)]
    rows = await session.execute(
        select(Delivery.id, Delivery.message_id)
        .where(Delivery.state.in_(states), which.clause())
        .with_for_update()
    )
    messages = {row.message_id: row.id for row in rows}
    found = await load_outbound(session, list(messages))
    await change_many(
        session,
        Delivery,
        set_=("state", "reason", "finished_at"),
        where=("id",),
        rows=[(State.BOUNCED, reason[:500], now, key) for key in messages.values()],
    )
    payload = {"code": None, "text": "", "reason": reason[:500], "class": "other", "hard": False}
    events = [told(message, payload) for message in found.values()]
    await publish_many(session, Kind.DELIVERY_BOUNCED, events, occurred_at=now)
    return len(messages)


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

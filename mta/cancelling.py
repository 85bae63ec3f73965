"""Taking an order back while it waits. What is being sent, or was, can't be taken back.

Compare and set on the delivery's state, as everybody does who changes one: of a cancellation and a
claim at the same moment one wins, and the other sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mta.retry import State
from storage.tables import Delivery, Message

CANCELLABLE = (State.QUEUED, State.DEFERRED, State.HELD)
"""Not `uncertain`: that one may have been delivered."""

REASON = "cancelled"
STRIDE = 500


async def cancel(session: AsyncSession, ids: Sequence[UUID], *, by: str, now: datetime) -> int:
    """Cancels those of these messages that still wait; says how many. Needs one company's session.

    `by` says who did it. At most `STRIDE` ids at a time.
    """
    waiting = [str(state) for state in CANCELLABLE]
    done = await session.scalars(
        update(Delivery)
        .where(Delivery.message_id.in_(list(ids)), Delivery.state.in_(waiting))
        .values(state=State.SKIPPED, reason=f"{REASON} {by}"[:500], finished_at=now)
        .returning(Delivery.message_id)
        .execution_options(synchronize_session=False)
    )
    taken = list(done)
    if not taken:
        return 0
    rows = await session.scalars(select(Message).where(Message.id.in_(taken)).order_by(Message.id))
    for message in rows:
        await publish(
            session,
            Kind.DELIVERY_SKIPPED,
            contact=message.contact_id,
            message=message.id,
            enrolment=message.enrolment_id,
            user=message.user_id,
            occurred_at=now,
            code=None,
            text="",
            reason=f"{REASON} {by}"[:500],
        )
    return len(taken)


async def waiting_of_campaign(session: AsyncSession, campaign: str) -> list[UUID]:
    """The next messages of a campaign that can be cancelled, `STRIDE` at the most."""
    waiting = [str(state) for state in CANCELLABLE]
    query = (
        select(Delivery.message_id)
        .join(Message, Message.id == Delivery.message_id)
        .where(Message.campaign == campaign, Delivery.state.in_(waiting))
        .limit(STRIDE)
    )
    return list(await session.scalars(query))

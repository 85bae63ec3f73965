"""Writes down by itself what the appliance sees: replies that came, answers that a rep approved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind
from bus.stations import Station
from storage.tables import Contact, Event
from tracker.activities import log_activity
from tracker.owners import rep_of

KINDS = frozenset({Kind.REPLY_READ, Kind.DRAFT_APPROVED})


def stations(clock: Callable[[], datetime]) -> list[Station]:
    """The tracker's one reader of the stream."""

    async def handle(session: AsyncSession, event: Event) -> None:
        await record(session, event, now=clock())

    return [Station("tracker", KINDS, handle)]


async def record(session: AsyncSession, event: Event, *, now: datetime) -> None:
    """The activity that an event stands for; its key comes from the event, so twice is once."""
    contact = await session.get(Contact, event.contact_id) if event.contact_id else None
    if contact is None:
        return
    payload = event.payload
    if event.kind == Kind.REPLY_READ:
        rep = await rep_of(session, contact, otherwise=event.user_id)
        user, kind = (rep.id if rep else None), "reply"
        response = "unclear" if payload.get("abstain") else str(payload.get("top") or "")
        note = f"A reply came and was read as {response or 'nothing in particular'}."
    else:
        user, kind, response = event.user_id, "mail", "answered"
        note = "An answer was approved and sent."
    await log_activity(
        session,
        contact=contact.id,
        kind=kind,
        user=user,
        response=response,
        note=note,
        at=event.occurred_at,
        origin="auto",
        key=uuid5(event.id, "activity"),
        now=now,
    )

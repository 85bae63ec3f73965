"""Events as programs are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.stream import Place
from storage.tables import Event, Message

IN_ONE_QUERY = 500


async def tell(session: AsyncSession, events: Sequence[Event]) -> list[dict[str, Any]]:
    """The events with what belongs to their messages. `cursor` is the place after an event."""
    ids = sorted({event.message_id for event in events if event.message_id is not None})
    messages: dict[Any, Any] = {}
    for start in range(0, len(ids), IN_ONE_QUERY):
        query = select(
            Message.id, Message.sender, Message.recipient, Message.campaign, Message.kind
        ).where(Message.id.in_(ids[start : start + IN_ONE_QUERY]))
        messages |= {row.id: row for row in await session.execute(query)}
    return [_told(event, messages.get(event.message_id)) for event in events]


def _told(event: Event, message: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": str(event.id),
        "type": event.kind,
        "at": event.occurred_at.isoformat(),
        "cursor": str(Place(event.tx, event.seq)),
        "agent": event.agent,
        "data": event.payload,
    }
    for name in ("contact", "lead", "user", "enrolment"):
        value = getattr(event, f"{name}_id")
        if value is not None:
            told[name] = str(value)
    if message is not None:
        told["message"] = {
            "id": str(message.id),
            "kind": message.kind,
            "from": message.sender,
            "to": message.recipient,
            "campaign": message.campaign,
        }
    return told

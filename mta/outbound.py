"""What has to be known of a message to send it, without the weight of a mapped row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from storage.tables import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """One personal message on its way out; the columns of `Message` that sending needs."""

    id: UUID
    company_id: UUID
    kind: str
    template_id: UUID | None
    spool: Mapping[str, Any] | None
    values: Mapping[str, Any]
    campaign: str
    sender: str
    sender_name: str
    recipient: str
    recipient_name: str
    subject: str
    rfc_message_id: str
    references: str
    parsed: Mapping[str, Any]
    contact_id: UUID | None
    user_id: UUID | None
    enrolment_id: UUID | None
    answers_id: UUID | None
    created_at: datetime


FIELDS = tuple(Outbound.__dataclass_fields__)
_COLUMNS = [getattr(Message, name) for name in FIELDS]


def outbound_of(row: Mapping[str, Any]) -> Outbound:
    """From the values that were written."""
    return Outbound(**{name: row[name] for name in FIELDS})


async def load_outbound(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, Outbound]:
    """The messages with these ids, in one query."""
    if not ids:
        return {}
    rows = await session.execute(select(*_COLUMNS).where(Message.id.in_(ids)))
    found = [Outbound(**dict(zip(FIELDS, row, strict=True))) for row in rows]
    return {message.id: message for message in found}

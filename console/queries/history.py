"""Messages: found by words, and the whole way of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind
from storage.tables import Attempt, Delivery, Event, Message, Reading, StepRun

PAGE = 50
STATES = ("queued", "deferred", "delivered", "bounced", "skipped", "held", "uncertain")


@dataclass(frozen=True, slots=True)
class Row:
    """One message of the list."""

    message: Message
    delivery: Delivery | None


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a message; `kind` colours it."""

    at: datetime
    what: str
    detail: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """One message and all that happened to it."""

    message: Message
    delivery: Delivery | None
    moments: Sequence[Moment]
    answers: Sequence[Message]


async def find(
    session: AsyncSession,
    *,
    words: str,
    state: str,
    direction: str,
    before: UUID | None,
    campaign: str = "",
) -> Sequence[Row]:
    """Messages, newest first; `words` are looked for in addresses and subjects."""
    query = (
        select(Message, Delivery)
        .outerjoin(Delivery, Delivery.message_id == Message.id)
        .order_by(Message.id.desc())
        .limit(PAGE + 1)
    )
    if words:
        like = "%" + words.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
        fields = (Message.recipient, Message.sender, Message.subject)
        query = query.where(or_(*(field.ilike(like, escape="\\") for field in fields)))
    if state in STATES:
        query = query.where(Delivery.state == state)
    if direction in {"in", "out"}:
        query = query.where(Message.direction == direction)
    if campaign:  # The empty text stands there because the index is of those that have one.
        query = query.where(Message.campaign != literal_column("''"))
        query = query.where(Message.campaign == campaign)
    if before is not None:
        query = query.where(Message.id < before)
    return [Row(m, d) for m, d in (await session.execute(query))]


async def way(session: AsyncSession, message_id: UUID) -> Way | None:
    """One message's way; None if this company has no such message."""
    message = await session.get(Message, message_id)
    if message is None:
        return None
    delivery = (
        await session.scalars(select(Delivery).where(Delivery.message_id == message.id))
    ).one_or_none()
    moments = [_beginning(message)]
    if delivery is not None:
        tries = select(Attempt).where(Attempt.delivery_id == delivery.id).order_by(Attempt.at)
        for attempt in await session.scalars(tries.limit(200)):
            said = f"{attempt.code or ''} {attempt.text}".strip()
            tls = f" with {attempt.tls}" if attempt.tls else ""
            moments.append(Moment(attempt.at, f"tried {attempt.host}{tls}", said, attempt.outcome))
    events = select(Event).where(Event.message_id == message.id).order_by(Event.seq).limit(500)
    for event in await session.scalars(events):
        moments += _of_event(event)
    if message.enrolment_id and message.step_id:
        run = (
            await session.scalars(select(StepRun).where(StepRun.message_id == message.id))
        ).first()
        if run is not None:
            moments.append(Moment(run.at, f"step {run.step_id} of {message.campaign}", run.reason))
    reading = (
        await session.scalars(select(Reading).where(Reading.message_id == message.id))
    ).one_or_none()
    if reading is not None:
        read = f"read as {reading.top.replace('_', ' ')}"
        moments.append(Moment(reading.created_at, read, f"decided: {reading.decision}"))
    answers = (
        await session.scalars(
            select(Message).where(Message.answers_id == message.id).order_by(Message.id)
        )
    ).all()
    for answer in answers:
        moments.append(Moment(answer.created_at, f"{answer.kind} came", answer.subject, "in"))
    moments.sort(key=lambda moment: moment.at)
    return Way(message, delivery, moments, answers)


def _beginning(message: Message) -> Moment:
    if message.direction == "in":
        return Moment(message.created_at, f"came in as {message.kind}", message.subject, "in")
    return Moment(message.created_at, f"ordered as {message.kind}", message.subject)


_WORDS = {
    Kind.DELIVERY_DELIVERED: "delivered",
    Kind.DELIVERY_BOUNCED: "bounced",
    Kind.DELIVERY_SKIPPED: "not sent",
    Kind.CLICKED: "link followed",
    Kind.OPENED: "opened",
    Kind.UNSUBSCRIBED: "unsubscribed",
    Kind.BOUNCE_RECEIVED: "a bounce report came",
    Kind.COMPLAINT_RECEIVED: "reported as spam",
    Kind.FORM_FORWARDED: "passed on by form",
    Kind.DRAFT_APPROVED: "draft approved",
    Kind.DRAFT_REJECTED: "draft rejected",
    Kind.APPROVAL_REFUSED: "an approval was refused",
}


def _of_event(event: Event) -> list[Moment]:
    words = _WORDS.get(Kind(event.kind)) if event.kind in set(Kind) else None
    if words is None:
        return []
    facts = event.payload
    detail = " · ".join(
        str(facts[name])
        for name in ("url", "code", "text", "reason", "class", "how")
        if facts.get(name) not in (None, "")
    )
    if event.kind in {Kind.CLICKED, Kind.OPENED}:
        why = f" ({', '.join(map(str, event.reasons))})" if event.reasons else ""
        return [Moment(event.occurred_at, f"{words} by a {event.agent}{why}", detail, event.agent)]
    kind = {Kind.DELIVERY_DELIVERED: "delivered", Kind.DELIVERY_BOUNCED: "bounced"}
    return [Moment(event.occurred_at, words, detail, kind.get(Kind(event.kind), ""))]

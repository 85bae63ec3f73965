"""What waits for a person: drafts, tasks, untied mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from console.access import Visit
from storage.tables import (
    Contact,
    ContentItem,
    Delivery,
    Draft,
    Enrolment,
    Lead,
    Message,
    Reading,
    Task,
    User,
)
from storage.tables import (
    Sequence as SequenceTable,
)

PAGE = 50


@dataclass(frozen=True, slots=True)
class Waiting:
    """One conversation of the inbox."""

    message: Message
    contact: Contact | None
    reading: Reading | None
    draft: Draft | None
    rep: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What the first page counts."""

    drafts: int
    tasks: int
    review: int
    leads: int
    queued: int
    under_way: int
    delivered: int
    replies: int


async def inbox(
    session: AsyncSession, who: Visit, *, everything: bool, before: UUID | None
) -> Sequence[Waiting]:
    """Replies, newest first: those with a draft that waits for this user, or all of them."""
    query = (
        select(Message, Contact, Reading, Draft, User.name)
        .join(Reading, Reading.message_id == Message.id)
        .outerjoin(Draft, Draft.message_id == Message.id)
        .outerjoin(Contact, Contact.id == Message.contact_id)
        .outerjoin(User, User.id == Draft.user_id)
        .where(Message.direction == "in")
        .order_by(Message.id.desc())
        .limit(PAGE + 1)
    )
    if not everything:
        query = query.where(Draft.state == "proposed")
        if not who.may_manage:
            query = query.where(or_(Draft.user_id == who.user.id, Draft.user_id.is_(None)))
    if before is not None:
        query = query.where(Message.id < before)
    rows = (await session.execute(query)).all()
    return [Waiting(m, c, r, d, rep or "") for m, c, r, d, rep in rows]


async def review(session: AsyncSession) -> Sequence[Message]:
    """Mail that nobody could tie to a message, newest first."""
    query = select(Message).where(Message.direction == "in", Message.state.in_(("review", "held")))
    return (await session.scalars(query.order_by(Message.id.desc()).limit(200))).all()


async def open_tasks(session: AsyncSession, who: Visit) -> Sequence[tuple[Task, Contact | None]]:
    """Tasks of this user, or of everybody for those who manage, the most urgent first."""
    query = (
        select(Task, Contact)
        .outerjoin(Contact, Contact.id == Task.contact_id)
        .where(Task.state == "open")
        .order_by(Task.due_at.is_(None), Task.due_at, Task.id)
        .limit(100)
    )
    if not who.may_manage:
        query = query.where(or_(Task.user_id == who.user.id, Task.user_id.is_(None)))
    return [(task, contact) for task, contact in (await session.execute(query))]


async def counts(session: AsyncSession, who: Visit, now: datetime) -> Counts:
    """Figures for the first page."""

    async def number(query: Any) -> int:
        return await session.scalar(query) or 0

    drafts = select(func.count(Draft.id)).where(Draft.state == "proposed")
    tasks = select(func.count(Task.id)).where(Task.state == "open")
    if not who.may_manage:
        drafts = drafts.where(or_(Draft.user_id == who.user.id, Draft.user_id.is_(None)))
        tasks = tasks.where(or_(Task.user_id == who.user.id, Task.user_id.is_(None)))
    unsent = ("queued", "sending", "deferred", "uncertain", "held")
    return Counts(
        drafts=await number(drafts),
        tasks=await number(tasks),
        review=await number(
            select(func.count(Message.id)).where(Message.state.in_(("review", "held")))
        ),
        leads=await number(select(func.count(Lead.id)).where(Lead.status == "new")),
        queued=await number(select(func.count(Delivery.id)).where(Delivery.state.in_(unsent))),
        under_way=await number(select(func.count(Enrolment.id)).where(Enrolment.state != "ended")),
        delivered=await number(
            select(func.count(Delivery.id)).where(Delivery.state == "delivered")
        ),
        replies=await number(
            select(func.count(Message.id)).where(Message.direction == "in", Message.kind == "reply")
        ),
    )


async def first_steps(session: AsyncSession) -> dict[str, bool]:
    """What a new company has done already."""
    contacts = await session.scalar(select(func.count(Contact.id)))
    items = await session.scalar(select(func.count(ContentItem.id)))
    plans = await session.scalar(select(func.count(SequenceTable.id)))
    return {"contacts": bool(contacts), "content": bool(items), "sequences": bool(plans)}

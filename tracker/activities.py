"""What people did with a contact: one row for each call, mail or meeting, and what is next.

A next activity becomes an open task, so that a rep needs to plan it only once.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mail.ids import uuid7
from storage.sessions import insert_new
from storage.tables import Activity, Contact
from tracker.owners import rep_of
from tracker.tasks import finish_task, open_task

MAX_NOTE = 10_000


async def log_activity(
    session: AsyncSession,
    *,
    contact: UUID,
    kind: str,
    user: UUID | None = None,
    response: str = "",
    note: str = "",
    at: datetime | None = None,
    next_kind: str = "",
    next_at: datetime | None = None,
    finishes: UUID | None = None,
    origin: str = "manual",
    key: UUID | None = None,
    now: datetime,
) -> Activity:
    """Adds an activity; `finishes` is the task that it fulfils.

    The same `key` again (a repeated event, a form sent twice) gives back what is there already.
    """
    identity = key or uuid7()
    task_id: UUID | None = None
    person = await session.get(Contact, contact)
    if person is None:
        raise ValueError("the contact of this activity does not exist")
    row = {
        "id": identity,
        "user_id": user,
        "contact_id": contact,
        "kind": kind,
        "response": response,
        "note": note[:MAX_NOTE],
        "at": at or now,
        "next_kind": next_kind,
        "next_at": next_at,
        "origin": origin,
        "created_at": now,
    }
    if not await insert_new(session, Activity, [row], unless=["id"]):
        there = await session.get(Activity, identity)
        if there is None:
            raise ValueError("this key belongs to another activity")
        return there
    if next_kind:
        rep = await rep_of(session, person, otherwise=user)
        whose = user or (rep.id if rep else None)
        task = await open_task(
            session,
            key=f"activity:{identity}",
            kind=next_kind,
            title=f"{next_kind.capitalize()} {person.name or person.address}",
            user=whose,
            contact=contact,
            due_at=next_at,
            detail={"after": str(identity)},
            now=now,
        )
        task_id = task.id
    if finishes is not None:
        await finish_task(session, finishes, user=user, now=now)
    activity = await session.get(Activity, identity, populate_existing=True)
    if activity is None:
        raise RuntimeError("an activity that was just added is gone")
    activity.task_id = task_id
    await publish(
        session,
        Kind.ACTIVITY_LOGGED,
        contact=contact,
        user=user,
        occurred_at=at or now,
        activity=identity,
    )
    return activity

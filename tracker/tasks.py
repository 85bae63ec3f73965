"""What reps have to do. A task's key makes it unique, so whoever asks twice gets the same one."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mail.ids import uuid7
from storage.sessions import insert_new
from storage.tables import Task

MAX_TITLE = 300


async def open_task(
    session: AsyncSession,
    *,
    key: str,
    kind: str,
    title: str,
    user: UUID | None = None,
    contact: UUID | None = None,
    enrolment: UUID | None = None,
    due_at: datetime | None = None,
    detail: dict[str, Any] | None = None,
    now: datetime,
) -> Task:
    """Opens a task, or gives back the one that has this key, in whatever state it is."""
    row = {
        "id": uuid7(),
        "key": key,
        "kind": kind,
        "title": " ".join(title.split())[:MAX_TITLE],
        "user_id": user,
        "contact_id": contact,
        "enrolment_id": enrolment,
        "detail": detail or {},
        "due_at": due_at,
        "state": "open",
        "created_at": now,
    }
    added = await insert_new(session, Task, [row], unless=["company_id", "key"])
    task = (await session.scalars(select(Task).where(Task.key == key))).one()
    if added:
        await publish(
            session,
            Kind.TASK_OPENED,
            contact=contact,
            enrolment=enrolment,
            user=user,
            occurred_at=now,
            task=task.id,
            key=key,
        )
    return task


async def finish_task(
    session: AsyncSession, task_id: UUID, *, user: UUID | None = None, now: datetime
) -> bool:
    """Marks a task as done; false if it was not open (any more), and then nothing happens.

    `user` is who did it, where that is not the person it was given to.
    """
    moved = await session.execute(
        update(Task)
        .where(Task.id == task_id, Task.state == "open")
        .values(state="done", done_at=now)
        .execution_options(synchronize_session=False)
    )
    if not getattr(moved, "rowcount", 0):
        return False
    task = await session.get(Task, task_id, populate_existing=True)
    if task is not None:
        await publish(
            session,
            Kind.TASK_DONE,
            contact=task.contact_id,
            enrolment=task.enrolment_id,
            user=user or task.user_id,
            occurred_at=now,
            task=task.id,
            key=task.key,
        )
    return True


async def cancel_tasks(
    session: AsyncSession, enrolment: UUID, *, keys: str = "", now: datetime
) -> int:
    """Takes back open tasks of an enrolment, those whose keys begin so; says how many."""
    moved = await session.execute(
        update(Task)
        .where(Task.enrolment_id == enrolment, Task.state == "open")
        .where(Task.key.startswith(keys, autoescape=True))
        .values(state="cancelled", done_at=now)
        .execution_options(synchronize_session=False)
    )
    return int(getattr(moved, "rowcount", 0))

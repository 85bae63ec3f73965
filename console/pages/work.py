"""TRACKER: tasks to do, and activities written in one line."""

from __future__ import annotations

from typing import Any

from litestar import Response
from sqlalchemy import select

from console.desk import Call, Desk, PageError, go, key_in, missing
from console.queries import waiting
from mail.errors import PermanentError
from mta.recipients import canonical_address, find_contact
from storage.tables import Activity, Contact, Task, User
from tracker.activities import log_activity
from tracker.line import LineProblem, read_line
from tracker.tasks import finish_task


async def show(desk: Desk, call: Call) -> Response[Any]:
    """Tasks, the line, and what was done lately."""
    return await _page(desk, call, "", "")


async def add(desk: Desk, call: Call) -> Response[Any]:
    """Logs what the line says, or says where the line is wrong."""
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    line, now = fields.get("line", ""), desk.clock()
    entry = read_line(line, now=now, zone=who.user.zone)
    if isinstance(entry, LineProblem):
        return await _page(desk, call, line, str(entry))
    try:
        address = canonical_address(entry.address)
    except PermanentError as error:
        return await _page(desk, call, line, error.public)
    async with desk.sessions.begin(who.company.id) as session:
        contact = await find_contact(session, address)
        if contact is not None:
            await log_activity(
                session,
                contact=contact.id,
                kind=entry.kind,
                user=who.user.id,
                response=entry.response,
                note=entry.note,
                next_kind=entry.next_kind,
                next_at=entry.next_at,
                now=now,
            )
    if contact is None:
        return await _page(desk, call, line, f"{address} is not one of your contacts.")
    return go("/tracker")


async def finish(desk: Desk, call: Call) -> Response[Any]:
    """A task is done."""
    who = await desk.signed_in(call)
    await desk.form(call, who)
    key = key_in(call)
    async with desk.sessions.begin(who.company.id) as session:
        task = await session.get(Task, key)
        if task is None:
            raise missing()
        if not who.may_manage and task.user_id not in (None, who.user.id):
            raise PageError(403, "Not your task", "It was given to somebody else.")
        await finish_task(session, key, user=who.user.id, now=desk.clock())
    return go("/tracker")


async def _page(desk: Desk, call: Call, line: str, problem: str) -> Response[Any]:
    who = await desk.signed_in(call)
    query = (
        select(Activity, Contact, User.name)
        .join(Contact, Contact.id == Activity.contact_id)
        .outerjoin(User, User.id == Activity.user_id)
        .order_by(Activity.at.desc(), Activity.id.desc())
        .limit(50)
    )
    async with desk.sessions.read(who.company.id) as session:
        tasks = await waiting.open_tasks(session, who)
        done = (await session.execute(query)).all()
    return desk.page(
        "work.html",
        who,
        status=422 if problem else 200,
        tasks=tasks,
        activities=done,
        line=line,
        problem=problem,
    )

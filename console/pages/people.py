"""PEOPLE: who may do what, and who gets answers as mail."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Response
from sqlalchemy import select

from console import access
from console.desk import Call, Desk, PageError, go
from storage.tables import User


async def forward(desk: Desk, call: Call) -> Response[Any]:
    """Switches whether a user gets answers in their own mailbox; everybody may for themselves."""
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    try:
        key = UUID(fields.get("user", ""))
    except ValueError:
        raise PageError(404, "No such person", "Go back to the list of people.") from None
    if key != who.user.id and not who.may_manage:
        raise PageError(403, "Not yours to change", "Ask an owner or a manager of the company.")
    on = fields.get("forward") == "yes"
    async with desk.sessions.begin(who.company.id) as session:
        user = await session.scalar(select(User).where(User.id == key))
        if user is None:
            raise PageError(404, "No such person", "Go back to the list of people.")
        await access.forward_replies(session, user, on=on)
        what = "answers as mail" if on else "no answers as mail"
        await access.record(session, who.user, what, now=desk.clock(), subject=user.email)
    return go("/people" if who.may_manage else "/")

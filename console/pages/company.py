"""CONTENT and PEOPLE: what the company has to say, and who may do what."""

from __future__ import annotations

from typing import Any

from litestar import Response
from sqlalchemy import select

from console.desk import Call, Desk
from content import library
from storage.tables import User


async def content(desk: Desk, call: Call) -> Response[Any]:
    """The library, searched by words."""
    who = await desk.signed_in(call)
    words = call.query_params.get("q", "")[:200]
    async with desk.sessions.read(who.company.id) as session:
        items = await library.search(session, words, limit=200)
    return desk.page("content.html", who, items=items, words=words)


async def people(desk: Desk, call: Call) -> Response[Any]:
    """The company's users."""
    who = await desk.manager(call)
    async with desk.sessions.read(who.company.id) as session:
        users = (await session.scalars(select(User).order_by(User.email))).all()
    return desk.page("people.html", who, users=users)

"""MESSAGES: found by words, and the whole way of one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response

from console.desk import Call, Desk, key_in, missing
from console.queries import conversation, history


async def show(desk: Desk, call: Call) -> Response[Any]:
    """The list; its filters stand in the URL."""
    who = await desk.signed_in(call)
    asked = {name: call.query_params.get(name, "")[:200] for name in ("q", "state", "direction")}
    try:
        before = UUID(call.query_params["before"]) if call.query_params.get("before") else None
    except ValueError:
        before = None
    async with desk.sessions.read(who.company.id) as session:
        rows = await history.find(
            session,
            words=asked["q"].strip(),
            state=asked["state"],
            direction=asked["direction"],
            before=before,
        )
    older = ""
    if len(rows) > history.PAGE:
        older = urlencode({**asked, "before": rows[history.PAGE - 1].message.id})
    return desk.page(
        "messages.html",
        who,
        rows=rows[: history.PAGE],
        asked=asked,
        older=older,
        states=history.STATES,
    )


async def show_one(desk: Desk, call: Call) -> Response[Any]:
    """Everything that happened to one message."""
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        way = await history.way(session, key_in(call))
        if way is None:
            raise missing()
        texts = await conversation.texts(session, [way.message])
    return desk.page("message.html", who, way=way, text=texts[way.message.id])

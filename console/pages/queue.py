"""QUEUE: where mail waits and why."""

from __future__ import annotations

from typing import Any

from litestar import Response

from console import access
from console.desk import Call, Desk, PageError, go
from mta import queue_control as control
from mta.queue_selection import Which

SHOWN = 200
"""Destinations on the page, the longest queues first."""


async def show(desk: Desk, call: Call) -> Response[Any]:
    """The company's queue by destination."""
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        rows = await control.standings(session)
        names = [row.destination for row in rows[:SHOWN]]
        said_last = await control.last_replies(session, names)
        waiting = await control.waiting(session, limit=50)
    said = call.query_params.get("said", "")[:200]
    return desk.page(
        "queue.html", who, rows=rows[:SHOWN], said_last=said_last, waiting=waiting, said=said
    )


async def act(desk: Desk, call: Call) -> Response[Any]:
    """Holds, releases, tries now or gives up what waits for one destination."""
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    if not who.may_manage:
        raise PageError(403, "Not yours to change", "Ask an owner or a manager of the company.")
    which, now = Which(destination=fields.get("destination", "")), desk.clock()
    reason, what = f"by {who.user.name}", fields.get("what", "")
    async with desk.sessions.begin(who.company.id) as session:
        if what == "hold":
            count = await control.hold(session, which, reason=reason)
        elif what == "release":
            count = await control.release(session, which, now=now)
        elif what == "flush":
            count = await control.flush(session, which, now=now)
        elif what == "bounce":
            count = await control.bounce(session, which, reason=reason, now=now)
        else:
            raise PageError(400, "No such action", "Use the buttons of the page.")
        await access.record(
            session,
            who.user,
            f"queue {what}",
            now=now,
            subject=which.destination or "",
            count=count,
        )
    return go(f"/queue?said={count}+messages+changed")

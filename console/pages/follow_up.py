"""FOLLOW-UP: sequences, and who is where in them."""

from __future__ import annotations

from typing import Any

from litestar import Response

from console import access
from console.desk import Call, Desk, PageError, go, key_in, missing
from console.queries import plans
from sequencer import service as sequencer
from storage.tables import Enrolment


async def show(desk: Desk, call: Call) -> Response[Any]:
    """All sequences."""
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        rows = await plans.all_plans(session)
    return desk.page("follow_up.html", who, rows=rows)


async def show_one(desk: Desk, call: Call) -> Response[Any]:
    """One sequence: its picture and its people."""
    who = await desk.signed_in(call)
    state, step = (call.query_params.get(name, "")[:100] for name in ("state", "step"))
    async with desk.sessions.read(who.company.id) as session:
        found = await plans.plan(session, str(call.path_params["name"]), state=state, step=step)
    if found is None:
        raise missing()
    return desk.page("sequence.html", who, it=found, state=state, step=step, width=plans.WIDTH)


async def switch(desk: Desk, call: Call) -> Response[Any]:
    """Pauses a sequence, or lets it run again."""
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    if not who.may_manage:
        raise PageError(403, "Not yours to change", "Ask an owner or a manager of the company.")
    name, now = str(call.path_params["name"]), desk.clock()
    async with desk.sessions.begin(who.company.id) as session:
        found = await plans.plan(session, name, state="", step="")
        if found is None:
            raise missing()
        if fields.get("to") == "paused":
            await sequencer.pause_sequence(session, found.sequence.id)
        else:
            await sequencer.resume_sequence(session, found.sequence.id, now=now)
        await access.record(
            session, who.user, "sequence switched", now=now, subject=name, to=fields.get("to", "")
        )
    return go(f"/follow-up/{name}")


async def explain(desk: Desk, call: Call) -> Response[Any]:
    """Why somebody is where they are, and what comes next."""
    who = await desk.signed_in(call)
    key = key_in(call)
    async with desk.sessions.read(who.company.id) as session:
        enrolment = await session.get(Enrolment, key)
        if enrolment is None:
            raise missing()
        story = await sequencer.explain(session, key, now=desk.clock())
    return desk.page("explain.html", who, story=story, enrolment=enrolment)

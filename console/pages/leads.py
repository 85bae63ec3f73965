"""LEADS: the list, and the clusters they came by."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Response

from console.desk import Call, Desk, key_in, missing
from console.queries import circles


async def show(desk: Desk, call: Call) -> Response[Any]:
    """Leads and clusters."""
    who = await desk.signed_in(call)
    try:
        before = UUID(call.query_params["before"]) if call.query_params.get("before") else None
    except ValueError:
        before = None
    async with desk.sessions.read(who.company.id) as session:
        rows = await circles.all_leads(session, before=before)
        found = await circles.clusters(session)
    older = rows[circles.PAGE - 1].lead.id if len(rows) > circles.PAGE else None
    return desk.page("leads.html", who, rows=rows[: circles.PAGE], clusters=found, older=older)


async def show_cluster(desk: Desk, call: Call) -> Response[Any]:
    """One cluster: its picture beside its table."""
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        found = await circles.cluster(session, key_in(call))
    if found is None:
        raise missing()
    return desk.page("cluster.html", who, it=found)

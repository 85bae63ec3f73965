"""TODAY: what waits for me."""

from __future__ import annotations

from typing import Any

from litestar import Response

from console.desk import Call, Desk
from console.queries import waiting
from mta.domains import service


async def show(desk: Desk, call: Call) -> Response[Any]:
    """Figures, drafts, tasks, and for a new company what to do first."""
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        figures = await waiting.counts(session, who, desk.clock())
        drafts = await waiting.inbox(session, who, everything=False, before=None)
        tasks = await waiting.open_tasks(session, who)
        steps = await waiting.first_steps(session)
        domains = await service.troubled(session) if who.may_manage else []
    return desk.page(
        "today.html",
        who,
        figures=figures,
        drafts=drafts[:5],
        tasks=tasks[:8],
        steps=steps,
        domains=domains,
    )

"""WEBHOOKS: where the company's own servers are told of events, and how that goes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Response
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind
from bus.stream import place_before
from console import access
from console.access import Visit
from console.desk import Call, Desk, PageError, missing
from mail.errors import PermanentError
from monitor.webhooks import registry
from storage.tables import Webhook

HOURS = {str(hours): timedelta(hours=hours) for hours in (1, 24, 168)}
"""How far back "tell again" may reach, by what the form says."""


async def show(desk: Desk, call: Call) -> Response[Any]:
    """All webhooks with their last tries."""
    who = await _manager(desk, call)
    return await _page(desk, who)


async def act(desk: Desk, call: Call) -> Response[Any]:
    """Adds, removes, switches, tells again, or makes a new secret, which is shown this once."""
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    if not who.may_manage:
        raise PageError(403, "Not yours to change", "Ask an owner or a manager of the company.")
    what, now, secret = fields.get("what", ""), desk.clock(), ""
    async with desk.sessions.begin(who.company.id) as session:
        try:
            if what == "add":
                webhook, secret = await registry.add(
                    session,
                    desk.seal,
                    desk.settings.webhooks,
                    url=fields.get("url", "").strip(),
                    kinds=fields.get("kinds", "").replace(",", " ").split(),
                    description=fields.get("description", ""),
                    now=now,
                )
            else:
                webhook = await _find(session, fields.get("id", ""))
                secret = await _change(desk, session, webhook, what, fields)
        except PermanentError as error:
            return await _page(desk, who, problem=error.public, status=422)
        await access.record(session, who.user, f"webhook {what}", now=now, subject=str(webhook.id))
    said = {"add": "It is told of what happens from now on.", "secret": "Both sign for a day."}
    return await _page(desk, who, secret=secret, said=said.get(what, "Done."))


async def _change(
    desk: Desk, session: AsyncSession, webhook: Webhook, what: str, fields: dict[str, str]
) -> str:
    now = desk.clock()
    if what == "secret":
        return await registry.rotate(session, desk.seal, webhook, now=now)
    if what == "on":
        await registry.switch_on(session, webhook, now=now)
    elif what == "off":
        await registry.switch_off(session, webhook, reason="switched off in the console")
    elif what == "remove":
        await registry.remove(session, webhook)
    elif what == "replay" and fields.get("hours") in HOURS:
        place = await place_before(session, now - HOURS[fields["hours"]])
        await registry.replay(session, webhook, place, now=now)
    else:
        raise PageError(400, "No such action", "Use the buttons of the page.")
    return ""


async def _page(
    desk: Desk,
    who: Visit,
    *,
    secret: str = "",
    said: str = "",
    problem: str = "",
    status: int = 200,
) -> Response[Any]:
    async with desk.sessions.read(who.company.id) as session:
        found = await registry.all_of(session)
        rows = [(one, await registry.attempts_of(session, one, limit=5)) for one in found]
    return desk.page(
        "webhooks.html",
        who,
        status=status,
        rows=rows,
        secret=secret,
        said=said,
        problem=problem,
        kinds=sorted(str(kind) for kind in Kind),
    )


async def _find(session: AsyncSession, text: str) -> Webhook:
    try:
        webhook = await registry.find(session, UUID(text))
    except ValueError:
        webhook = None
    if webhook is None:
        raise missing()
    return webhook


async def _manager(desk: Desk, call: Call) -> Visit:
    who = await desk.signed_in(call)
    if not who.may_manage:
        raise PageError(403, "For owners and managers", "Ask one of them to look for you.")
    return who

"""The button of a delivery's page that tries it now and shows what both sides say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from litestar import Response
from sqlalchemy import select

from console import access
from console.desk import Call, Desk, PageError, go, key_in, missing
from mail.errors import PermanentError
from mta import traces
from storage.sessions import EVERY_COMPANY
from storage.tables import Delivery

WAIT = timedelta(minutes=2)
"""How long an attempt may take to begin."""


async def ask(desk: Desk, call: Call) -> Response[Any]:
    """Traces the next attempt of a message's delivery, which is due now."""
    who = await desk.signed_in(call)
    await desk.form(call, who)
    key, now = key_in(call), desk.clock()
    if not who.may_manage:
        raise PageError(403, "Not yours to change", "Ask an owner or a manager of the company.")
    everything = who.user.email in desk.settings.console.operators
    scope = EVERY_COMPANY if everything else who.company.id
    try:
        async with desk.sessions.begin(scope) as session:
            delivery = await session.scalar(select(Delivery).where(Delivery.message_id == key))
            if delivery is None:
                raise missing()
            await traces.ask(session, delivery, by=who.user.name, until=now + WAIT, now=now)
    except PermanentError as error:
        raise PageError(409, "There is nothing to see", error.public) from None
    async with desk.sessions.begin(who.company.id) as session:
        await access.record(session, who.user, "queue trace", now=now, subject=str(key))
    return go(f"/queue/messages/{key}")

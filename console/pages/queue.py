"""QUEUE: where mail waits and why. The host's operator sees every company's, others their own."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response
from sqlalchemy import select

from console import access
from console.access import Visit
from console.desk import Call, Desk, PageError, go, key_in, missing
from console.queries import queue_picture
from mail.errors import PermanentError
from mta import queue_control as control
from mta import queue_samples, suspensions, traces
from mta.queue_control import Action
from mta.queue_explain import why_it_waits
from mta.queue_selection import Which
from storage.sessions import EVERY_COMPANY, Scope
from storage.tables import Attempt, Delivery, Message

SHOWN = 200
"""Destinations on the page, the longest queues first."""

PAGE = 50
SUSPENDED_FOR = timedelta(hours=1)


def _scope(desk: Desk, who: Visit) -> Scope:
    everything = who.user.email in desk.settings.console.operators
    return EVERY_COMPANY if everything else who.company.id


async def show(desk: Desk, call: Call) -> Response[Any]:
    """The queue by destination, or what waits for one."""
    who = await desk.signed_in(call)
    now, destination = desk.clock(), call.query_params.get("to", "")[:255].lower()
    which = Which(destination=destination or None)
    async with desk.sessions.read(_scope(desk, who)) as session:
        rows = await control.standings(session, which)
        names = [row.destination for row in rows[:SHOWN]]
        said_last = await control.last_replies(session, names)
        waiting = await control.waiting(
            session, which, limit=PAGE, after=_after(call.query_params.get("after", ""))
        )
        samples = await queue_samples.since(session, after=now - queue_picture.SPAN)
        stopped = await suspensions.in_force(session, now=now)
    more = ""
    if len(waiting) == PAGE:
        last = waiting[-1]
        after = f"{last.created_at.isoformat()} {last.id}"
        more = "?" + urlencode({"to": destination, "after": after})
    total = sum(row.waiting + row.sending + row.deferred + row.held for row in rows)
    return desk.page(
        "queue.html",
        who,
        rows=rows[:SHOWN],
        said_last=said_last,
        waiting=waiting,
        more=more,
        destination=destination,
        stopped=stopped,
        capped=control.CAP if total >= control.CAP else 0,
        picture=None if destination else queue_picture.draw(samples, now=now),
        everybody=_scope(desk, who) is EVERY_COMPANY,
        said=call.query_params.get("said", "")[:200],
    )


def _after(text: str) -> tuple[datetime, UUID] | None:
    if not text:
        return None
    created, _, key = text.partition(" ")
    try:
        instant = datetime.fromisoformat(created)
        if instant.tzinfo is None:
            raise ValueError("an instant has a zone")
        return instant, UUID(key)
    except ValueError:
        raise PageError(400, "No such page", "Begin again with the first.") from None


async def show_one(desk: Desk, call: Call) -> Response[Any]:
    """One message's delivery: why it waits, and what was tried."""
    who = await desk.signed_in(call)
    key = key_in(call)
    async with desk.sessions.read(_scope(desk, who)) as session:
        found = await session.execute(
            select(Delivery, Message)
            .join(Message, Message.id == Delivery.message_id)
            .where(Delivery.message_id == key)
        )
        row = found.one_or_none()
        if row is None:
            raise missing()
        delivery, message = row
        attempts = await session.scalars(
            select(Attempt)
            .where(Attempt.delivery_id == delivery.id)
            .order_by(Attempt.id.desc())
            .limit(100)
        )
        tried = list(attempts)
        stopped = await suspensions.in_force(session, now=desk.clock())
        traced = await traces.newest(session, delivery.id)
    why = why_it_waits(delivery, stopped, campaign=message.campaign, now=desk.clock())
    return desk.page(
        "queue_message.html",
        who,
        delivery=delivery,
        message=message,
        tried=tried,
        why=why,
        traced=traced,
        waiting=traced is not None and traces.is_awaited(traced, now=desk.clock()),
    )


async def act(desk: Desk, call: Call) -> Response[Any]:
    """Holds, releases, tries now, gives up, suspends or resumes mail to one destination."""
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    if not who.may_manage:
        raise PageError(403, "Not yours to change", "Ask an owner or a manager of the company.")
    destination, what = fields.get("destination", "").strip().lower(), fields.get("what", "")
    if not destination:
        raise PageError(400, "Which destination?", "Use the buttons of the page.")
    scope, which = _scope(desk, who), Which(destination=destination)
    try:
        if what == "suspend":
            await _suspend(desk, who, scope, destination)
            action = None
        elif what == "resume":
            which, action = await _resume(desk, who, scope, destination), Action.AGAIN
        else:
            action = Action(what)
    except PermanentError as error:
        raise PageError(400, "That can't be done", error.public) from None
    except ValueError:
        raise PageError(400, "No such action", "Use the buttons of the page.") from None
    count = 0
    if action is not None:
        async with desk.sessions.read(scope) as session:
            ids = await control.affected(session, which, action)
        async for done in control.apply(
            desk.sessions, scope, action, ids, reason=f"by {who.user.name}", clock=desk.clock
        ):
            count = done.total()
    async with desk.sessions.begin(who.company.id) as session:
        await access.record(
            session,
            who.user,
            f"queue {what}",
            now=desk.clock(),
            subject=destination,
            count=count,
            every_company=scope is EVERY_COMPANY,
        )
    return go(f"/queue?said={count}+messages+changed")


async def _suspend(desk: Desk, who: Visit, scope: Scope, destination: str) -> None:
    now = desk.clock()
    async with desk.sessions.begin(scope) as session:
        await suspensions.suspend(
            session,
            "domain",
            destination,
            company=None if scope is EVERY_COMPANY else who.company.id,
            until=now + SUSPENDED_FOR,
            reason="for an hour, on the page Queue",
            by=who.user.name,
            now=now,
        )


async def _resume(desk: Desk, who: Visit, scope: Scope, destination: str) -> Which:
    company = None if scope is EVERY_COMPANY else who.company.id
    async with desk.sessions.begin(scope) as session:
        return await suspensions.resume(
            session, "domain", destination, company=company, now=desk.clock()
        )

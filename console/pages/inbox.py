"""INBOX: replies with their reading, and drafts to approve, edit or reject."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Response
from sqlalchemy.ext.asyncio import AsyncSession

from console import access
from console.access import Visit
from console.desk import Call, Desk, PageError, go, key_in, missing
from console.queries import conversation, waiting
from responder import approval
from storage.tables import Draft


async def show(desk: Desk, call: Call) -> Response[Any]:
    """What waits; with `?all=1` every reply."""
    who = await desk.signed_in(call)
    everything = call.query_params.get("all") == "1"
    before = _place(call.query_params.get("before"))
    async with desk.sessions.read(who.company.id) as session:
        rows = await waiting.inbox(session, who, everything=everything, before=before)
        untied = await waiting.review(session)
    more = rows[waiting.PAGE - 1].message.id if len(rows) > waiting.PAGE else None
    return desk.page(
        "inbox.html",
        who,
        rows=rows[: waiting.PAGE],
        everything=everything,
        more=more,
        untied=len(untied),
    )


async def show_one(desk: Desk, call: Call) -> Response[Any]:
    """One conversation with all that leads to a decision."""
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        found = await conversation.conversation(session, key_in(call))
    if found is None:
        raise missing()
    said = call.query_params.get("said", "")[:300]
    return desk.page("conversation.html", who, it=found, said=said)


async def review(desk: Desk, call: Call) -> Response[Any]:
    """Mail that could not be tied or taken apart."""
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        rows = await waiting.review(session)
    return desk.page("review.html", who, rows=rows)


async def approve(desk: Desk, call: Call) -> Response[Any]:
    """Sends the draft, or what the rep made of it in the same form."""
    return await _decide(desk, call, "approve")


async def edit(desk: Desk, call: Call) -> Response[Any]:
    """Sends what the rep wrote."""
    return await _decide(desk, call, "edit")


async def reject(desk: Desk, call: Call) -> Response[Any]:
    """Sends nothing."""
    return await _decide(desk, call, "reject")


async def _decide(desk: Desk, call: Call, how: str) -> Response[Any]:
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    key, now = key_in(call), desk.clock()
    async with desk.sessions.begin(who.company.id) as session:
        if how == "reject":
            outcome = await approval.reject(
                session, key, user=who.user, via="console", note=fields.get("note", ""), now=now
            )
        else:
            text = fields.get("text", "") if how == "edit" else await _changed(session, key, fields)
            outcome = await approval.approve(
                session, key, user=who.user, via="console", text=text, now=now
            )
        if outcome.result is approval.Result.NOT_FOUND:
            raise missing()
        await access.record(
            session, who.user, f"draft {how}", now=now, subject=str(key), result=outcome.result
        )
    if not outcome.done and outcome.result is not approval.Result.ALREADY:
        raise PageError(409, "Nothing was sent", outcome.says)
    return await _onwards(desk, who)


async def _changed(session: AsyncSession, draft_id: UUID, fields: dict[str, str]) -> str | None:
    """What stands in the form, if it is not the draft any more: nobody's edit gets lost."""
    draft = await session.get(Draft, draft_id)
    text = fields.get("text")
    if draft is None or text is None or text.strip() == draft.text.strip():
        return None
    return text


async def _onwards(desk: Desk, who: Visit) -> Response[Any]:
    async with desk.sessions.read(who.company.id) as session:
        following = await conversation.next_waiting(session, who.user.id, everyone=who.may_manage)
    return go(f"/inbox/{following}" if following else "/inbox")


def _place(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None

"""Drafts: answers that wait for a rep's word."""

from __future__ import annotations

from typing import Any

from litestar import Response
from sqlalchemy import select

from console.api import documents
from console.api.problems import ApiError, json_answer
from console.api.tokens import credential_for
from console.desk import Call, Desk
from responder import approval
from storage.tables import Draft, User

PAGE = 100


async def list_drafts(desk: Desk, call: Call) -> Response[Any]:
    """Drafts that wait, the oldest first, a page at a time."""
    credential = await credential_for(desk, call, "read")
    query = select(Draft).where(Draft.state == "proposed").order_by(Draft.id).limit(PAGE + 1)
    if (after := documents.after_id(call)) is not None:
        query = query.where(Draft.id > after)
    async with desk.sessions.read(credential.company_id) as session:
        rows = (await session.scalars(query)).all()
    found = [
        {
            "id": str(row.id),
            "message": str(row.message_id),
            "subject": row.subject,
            "text": row.text,
            "gaps": row.gaps,
        }
        for row in rows[:PAGE]
    ]
    more = str(rows[PAGE - 1].id) if len(rows) > PAGE else None
    return json_answer({"drafts": found, "cursor": more})


async def approve_draft(desk: Desk, call: Call) -> Response[Any]:
    """Sends a draft, or `text` in its place, as a user of the company (`user`: an address)."""
    return await _decide(desk, call, approving=True)


async def reject_draft(desk: Desk, call: Call) -> Response[Any]:
    """Sends nothing; `note` says why."""
    return await _decide(desk, call, approving=False)


async def _decide(desk: Desk, call: Call, *, approving: bool) -> Response[Any]:
    credential = await credential_for(desk, call, "approve")
    key, body, now = documents.key_in_path(call), await documents.read_object(call), desk.clock()
    async with desk.sessions.begin(credential.company_id) as session:
        if await session.scalar(select(Draft.id).where(Draft.id == key)) is None:
            raise ApiError(404, "There is no such draft")
        documents.only(body, {"user", "text"} if approving else {"user", "note"})
        email = documents.text(body, "user").lower()
        user = (await session.scalars(select(User).where(User.email == email))).one_or_none()
        if user is None:
            raise ApiError(422, "No user has this address", "Name one of the company.", "/user")
        if approving:
            words = body.get("text")
            text = None if words is None else documents.text(body, "text")
            outcome = await approval.approve(session, key, user=user, via="api", text=text, now=now)
        else:
            note = documents.text(body, "note", needed=False)
            outcome = await approval.reject(session, key, user=user, via="api", note=note, now=now)
    if outcome.result is approval.Result.NOT_FOUND:
        raise ApiError(404, "There is no such draft")
    if not outcome.done and outcome.result is not approval.Result.ALREADY:
        raise ApiError(409, f"The draft {outcome.result}", outcome.says)
    return json_answer({"result": str(outcome.result), "says": outcome.says})

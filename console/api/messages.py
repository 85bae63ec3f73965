"""Messages and batches: what became of them, and taking back what still waits."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Response
from sqlalchemy import select

from console import batches
from console.api import documents
from console.api.problems import ApiError, json_answer
from console.api.tokens import credential_for
from console.desk import Call, Desk
from console.queries import history
from mta import cancelling
from storage.tables import Attempt, Credential, Delivery, Event, Message

MAX_MOMENTS = 200
DIRECTIONS = ("in", "out")
SAYS = {
    "sending": "It is being handed over at this moment.",
    "uncertain": "It may have been delivered: the connection broke before the answer.",
    "delivered": "It is delivered.",
    "bounced": "It has bounced.",
    "skipped": "It was not sent, and never will be.",
}


async def list_messages(desk: Desk, call: Call) -> Response[Any]:
    """Messages, newest first, a page at a time."""
    credential = await credential_for(desk, call, "read")
    asked = call.query_params
    async with desk.sessions.read(credential.company_id) as session:
        rows = await history.find(
            session,
            words=asked.get("q", "")[:200],
            state=_one_of(asked.get("state", ""), history.STATES, "state"),
            direction=_one_of(asked.get("direction", ""), DIRECTIONS, "direction"),
            campaign=asked.get("campaign", "")[:200],
            before=documents.after_id(call),
        )
    more = str(rows[history.PAGE - 1].message.id) if len(rows) > history.PAGE else None
    found = [_message(row.message, row.delivery) for row in rows[: history.PAGE]]
    return json_answer({"messages": found, "cursor": more})


def _one_of(value: str, known: tuple[str, ...], name: str) -> str:
    if value and value not in known:
        raise ApiError(400, f"`{name}` is not one of ours", f"There are: {', '.join(known)}.")
    return value


async def one_message(desk: Desk, call: Call) -> Response[Any]:
    """One message with everything that happened to it."""
    credential = await credential_for(desk, call, "read")
    key = documents.key_in_path(call)
    async with desk.sessions.read(credential.company_id) as session:
        way = await history.way(session, key)
        if way is None:
            raise ApiError(404, "There is no such message")
        delivery = way.delivery
        tries: list[Attempt] = []
        if delivery is not None:
            query = select(Attempt).where(Attempt.delivery_id == delivery.id)
            tries = list(await session.scalars(query.order_by(Attempt.id).limit(MAX_MOMENTS)))
        query_events = select(Event).where(Event.message_id == key).order_by(Event.seq)
        events = (await session.scalars(query_events.limit(MAX_MOMENTS))).all()
    return json_answer(
        {
            **_message(way.message, delivery),
            "attempts": [
                {
                    "at": one.at.isoformat(),
                    "host": one.host,
                    "tls": one.tls,
                    "code": one.code,
                    "text": one.text,
                    "outcome": one.outcome,
                    "seconds": one.seconds,
                }
                for one in tries
            ],
            "events": [
                {"at": one.occurred_at.isoformat(), "type": one.kind, "data": one.payload}
                for one in events
            ],
            "way": [
                {"at": m.at.isoformat(), "what": m.what, "detail": m.detail} for m in way.moments
            ],
        }
    )


def _message(message: Message, delivery: Delivery | None) -> dict[str, Any]:
    said: dict[str, Any] | None = None
    if delivery is not None and (delivery.last_code is not None or delivery.last_text):
        said = {"code": delivery.last_code, "text": delivery.last_text}
    open_ = delivery is not None and delivery.state in {"queued", "deferred", "uncertain"}
    return {
        "id": str(message.id),
        "direction": message.direction,
        "kind": message.kind,
        "from": message.sender,
        "to": message.recipient,
        "subject": message.subject,
        "campaign": message.campaign,
        "message_id": message.rfc_message_id,
        "state": delivery.state if delivery is not None else message.state,
        "reason": delivery.reason if delivery is not None else "",
        "tries": delivery.attempts if delivery is not None else 0,
        "last_reply": said,
        "next_attempt": _iso(delivery.due_at if delivery is not None and open_ else None),
        "expires": _iso(delivery.expires_at if delivery is not None and open_ else None),
        "finished_at": _iso(delivery.finished_at if delivery is not None else None),
        "created_at": message.created_at.isoformat(),
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


async def cancel_message(desk: Desk, call: Call) -> Response[Any]:
    """Takes a message back that still waits; 409 with its state if it is too late."""
    credential = await credential_for(desk, call, "send")
    key, now = documents.key_in_path(call), desk.clock()
    async with desk.sessions.begin(credential.company_id) as session:
        done = await cancelling.cancel(session, [key], by=_by(credential), now=now)
        query = select(Delivery).where(Delivery.message_id == key)
        delivery = (await session.scalars(query)).one_or_none()
    if delivery is None:
        raise ApiError(404, "There is no such message")
    if not done and not delivery.reason.startswith(cancelling.REASON):
        raise ApiError(
            409,
            "It is too late to cancel this message",
            SAYS.get(delivery.state, f"It is {delivery.state}."),
            state=delivery.state,
            last_reply={"code": delivery.last_code, "text": delivery.last_text},
        )
    return json_answer({"id": str(key), "state": delivery.state, "reason": delivery.reason})


async def cancel_many(desk: Desk, call: Call) -> Response[Any]:
    """Takes back what still waits of a campaign or of a batch."""
    credential = await credential_for(desk, call, "send")
    body = await documents.read_object(call)
    documents.only(body, {"campaign", "batch"})
    campaign = documents.text(body, "campaign", needed=False, longest=200)
    batch = documents.text(body, "batch", needed=False, longest=60)
    if bool(campaign) == bool(batch):
        raise ApiError(422, "Name a campaign or a batch", "One of the two.", "/campaign")
    count = 0
    if batch:
        ids = await _ids_of_batch(desk, credential, batch)
        for start in range(0, len(ids), cancelling.STRIDE):
            some = ids[start : start + cancelling.STRIDE]
            count += await _cancel_some(desk, credential, some)
        return json_answer({"cancelled": count, "too_late": len(ids) - count})
    while True:
        async with desk.sessions.read(credential.company_id) as session:
            some = await cancelling.waiting_of_campaign(session, campaign)
        done = await _cancel_some(desk, credential, some)
        count += done
        if not done:
            return json_answer({"cancelled": count})


async def _cancel_some(desk: Desk, credential: Credential, ids: list[UUID]) -> int:
    if not ids:
        return 0
    async with desk.sessions.begin(credential.company_id) as session:
        return await cancelling.cancel(session, ids, by=_by(credential), now=desk.clock())


async def _ids_of_batch(desk: Desk, credential: Credential, batch: str) -> list[UUID]:
    try:
        key = UUID(batch)
    except ValueError:
        raise ApiError(422, "batch is not an id of ours", "", "/batch") from None
    async with desk.sessions.read(credential.company_id) as session:
        found = await batches.find_batch(session, key)
        if found is None:
            raise ApiError(422, "There is no such batch", "", "/batch")
        results = await batches.results_of(session, found)
    return [UUID(row[2]) for row in results.accepted]


def _by(credential: Credential) -> str:
    return f"by API token {credential.login}"


async def one_batch(desk: Desk, call: Call) -> Response[Any]:
    """How far a batch is: ordered, and its messages by state."""
    credential = await credential_for(desk, call, "read")
    key = documents.key_in_path(call)
    async with desk.sessions.read(credential.company_id) as session:
        batch = await batches.find_batch(session, key)
        if batch is None:
            raise ApiError(404, "There is no such batch")
        results = await batches.results_of(session, batch)
        states = await batches.standing(session, results)
    return json_answer(
        {
            "id": str(batch.id),
            "key": batch.key,
            "campaign": batch.campaign,
            "state": "complete" if batch.finished_at is not None else "incomplete",
            "recipients": batch.total,
            "accepted": len(results.accepted),
            "refused": len(results.refused),
            "messages": states,
            "created_at": batch.created_at.isoformat(),
        }
    )

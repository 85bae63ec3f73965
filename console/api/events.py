"""`GET /events`: the company's events after a place, for programs that would rather fetch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from litestar import Response

from bus.events import Kind
from bus.stream import START, Place, events_after, place_before
from console.api.problems import ApiError, json_answer
from console.api.tokens import credential_for
from console.desk import Call, Desk
from monitor.webhooks.story import tell

USUAL, MOST = 100, 1000


async def list_events(desk: Desk, call: Call) -> Response[Any]:
    """Events in their order, after a cursor or since an instant."""
    credential = await credential_for(desk, call, "read")
    asked = call.query_params
    limit, kinds = _limit(asked.get("limit", "")), _kinds(asked.get("type", ""))
    after, since = asked.get("after", ""), asked.get("since", "")
    if after and since:
        raise ApiError(400, "Give `after` or `since`", "Not both.")
    async with desk.sessions.read(credential.company_id) as session:
        place = place_of(after) if after else START
        if since:
            place = await place_before(session, instant_of(since))
        events = await events_after(session, place, kinds=kinds, limit=limit)
        story = await tell(session, events)
    end = Place(events[-1].tx, events[-1].seq) if events else place
    return json_answer(
        {"events": story, "cursor": str(end), "more": len(events) == limit},
    )


def place_of(text: str) -> Place:
    """A cursor of ours. Raises `ApiError` if it is none."""
    found = Place.of(text)
    if found is None:
        raise ApiError(400, "`after` is not one of ours", "Take the cursor from an answer.")
    return found


def instant_of(text: str) -> datetime:
    """An instant with its zone. Raises `ApiError` if it is none."""
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # A plus sign in a query is one.
        if found.tzinfo is None or not 1970 < found.year < 9000:
            raise ValueError
    except ValueError:
        remedy = "Write it like 2026-12-24T18:00:00Z (RFC 3339), with its zone."
        raise ApiError(400, "`since` is not an instant", remedy) from None
    return found


def _limit(text: str) -> int:
    if not text:
        return USUAL
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST):
        raise ApiError(400, "`limit` is no number of events", f"Give 1 to {MOST}.")
    return int(text)


def _kinds(text: str) -> list[str]:
    known = {str(kind) for kind in Kind}
    kinds = [part for part in text.split(",") if part]
    for kind in kinds:
        if kind not in known:
            raise ApiError(400, "`type` is none of ours", f"There are: {', '.join(sorted(known))}.")
    return kinds

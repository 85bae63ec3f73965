"""Webhooks: where a company's own servers are told of its events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from litestar import Response
from sqlalchemy.ext.asyncio import AsyncSession

from bus.stream import place_before
from console.api import documents
from console.api.events import place_of
from console.api.problems import ApiError, json_answer
from console.api.tokens import credential_for
from console.desk import Call, Desk
from mail.errors import PermanentError
from monitor.webhooks import registry
from storage.tables import Webhook

FIELDS = frozenset({"url", "kinds", "description"})
STATES = ("active", "disabled")


async def list_webhooks(desk: Desk, call: Call) -> Response[Any]:
    """All webhooks of the company."""
    credential = await credential_for(desk, call, "manage")
    async with desk.sessions.read(credential.company_id) as session:
        found = await registry.all_of(session)
    return json_answer({"webhooks": [_webhook(one) for one in found]})


async def add_webhook(desk: Desk, call: Call) -> Response[Any]:
    """A new webhook and its secret, which is shown this once."""
    credential = await credential_for(desk, call, "manage")
    body = await documents.read_object(call)
    documents.only(body, FIELDS)
    url = documents.text(body, "url")
    async with desk.sessions.begin(credential.company_id) as session:
        try:
            webhook, secret = await registry.add(
                session,
                desk.seal,
                desk.settings.webhooks,
                url=url,
                kinds=_kinds(body) or (),
                description=documents.text(body, "description", needed=False, longest=200),
                now=desk.clock(),
            )
        except PermanentError as error:
            raise _placed(error) from None
    return json_answer({**_webhook(webhook), "secret": secret}, 201)


async def one_webhook(desk: Desk, call: Call) -> Response[Any]:
    """A webhook with its last tries."""
    credential = await credential_for(desk, call, "manage")
    async with desk.sessions.read(credential.company_id) as session:
        webhook = await _find(session, call)
        tries = await registry.attempts_of(session, webhook)
    attempts = [
        {
            "at": one.at.isoformat(),
            "webhook_id": one.batch,
            "events": one.events,
            "status": one.status,
            "error": one.error,
            "seconds": one.seconds,
        }
        for one in tries
    ]
    return json_answer({**_webhook(webhook), "attempts": attempts})


async def change_webhook(desk: Desk, call: Call) -> Response[Any]:
    """Changes URL, kinds, description or state."""
    credential = await credential_for(desk, call, "manage")
    body = await documents.read_object(call)
    async with desk.sessions.begin(credential.company_id) as session:
        webhook = await _find(session, call)
        documents.only(body, FIELDS | {"state"})
        state = body.get("state")
        if "state" in body and state not in STATES:
            raise ApiError(422, "state is neither active nor disabled", "", "/state")
        try:
            await registry.change(
                session,
                webhook,
                desk.settings.webhooks,
                url=documents.text(body, "url") if "url" in body else None,
                kinds=_kinds(body),
                description=(
                    documents.text(body, "description", needed=False, longest=200)
                    if "description" in body
                    else None
                ),
            )
        except PermanentError as error:
            raise _placed(error) from None
        if state == "active":
            await registry.switch_on(session, webhook, now=desk.clock())
        elif state == "disabled":
            await registry.switch_off(session, webhook, reason="switched off through the API")
    return json_answer(_webhook(webhook))


async def remove_webhook(desk: Desk, call: Call) -> Response[Any]:
    """Forgets a webhook."""
    credential = await credential_for(desk, call, "manage")
    async with desk.sessions.begin(credential.company_id) as session:
        await registry.remove(session, await _find(session, call))
    return Response(None, status_code=204)


async def rotate_secret(desk: Desk, call: Call) -> Response[Any]:
    """A new secret; the one before signs too for a day."""
    credential = await credential_for(desk, call, "manage")
    async with desk.sessions.begin(credential.company_id) as session:
        webhook = await _find(session, call)
        secret = await registry.rotate(session, desk.seal, webhook, now=desk.clock())
    return json_answer({**_webhook(webhook), "secret": secret})


async def replay(desk: Desk, call: Call) -> Response[Any]:
    """Tells it again of all after a cursor or since an instant."""
    credential = await credential_for(desk, call, "manage")
    body = await documents.read_object(call)
    async with desk.sessions.begin(credential.company_id) as session:
        webhook = await _find(session, call)
        documents.only(body, {"after", "since"})
        after = documents.text(body, "after", needed=False, longest=60)
        since = documents.instant(body, "since")
        if bool(after) == (since is not None):
            raise ApiError(422, "Give `after` or `since`", "One of the two.", "/after")
        if since is not None:
            place = await place_before(session, since)
        else:
            try:
                place = place_of(after)
            except ApiError as error:
                raise ApiError(422, error.title, error.detail, "/after") from None
        await registry.replay(session, webhook, place, now=desk.clock())
    return json_answer(_webhook(webhook))


async def _find(session: AsyncSession, call: Call) -> Webhook:
    webhook = await registry.find(session, documents.key_in_path(call))
    if webhook is None:
        raise ApiError(404, "There is no such webhook")
    return webhook


def _kinds(body: dict[str, Any]) -> list[str] | None:
    kinds = body.get("kinds")
    if "kinds" not in body:
        return None
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ApiError(422, "kinds is not a list of texts", "Leave it out for all.", "/kinds")
    return kinds


def _placed(error: PermanentError) -> ApiError:
    field, _, words = error.public.partition(": ")
    return ApiError(422, f"{field} can't be this", words, f"/{field}")


def _webhook(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": str(webhook.id),
        "url": webhook.url,
        "description": webhook.description,
        "kinds": webhook.kinds,
        "state": webhook.state,
        "reason": webhook.reason,
        "cursor": f"{webhook.tx}-{webhook.seq}",
        "failures": webhook.failures,
        "failing_since": _iso(webhook.failing_since),
        "told_at": _iso(webhook.told_at),
        "created_at": webhook.created_at.isoformat(),
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None

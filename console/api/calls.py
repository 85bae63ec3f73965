"""The calls of the API. Everything happens in a session of the token's company."""

from __future__ import annotations

from typing import Any

from litestar import HttpMethod, Response

from console.api import contacts, drafts, events, messages, webhooks
from console.api.description import DESCRIPTION
from console.api.problems import json_answer
from console.api.sending import send
from console.desk import Answer, Call, Desk


async def description(desk: Desk, call: Call) -> Response[Any]:
    """The API's description (OpenAPI 3.1)."""
    return json_answer(DESCRIPTION)


CALLS: tuple[tuple[HttpMethod, str, Answer], ...] = (
    (HttpMethod.GET, "/api/openapi.json", description),
    (HttpMethod.GET, "/api/v1/openapi.json", description),
    (HttpMethod.POST, "/api/v1/messages", send),
    (HttpMethod.GET, "/api/v1/messages", messages.list_messages),
    (HttpMethod.POST, "/api/v1/messages/cancel", messages.cancel_many),
    (HttpMethod.GET, "/api/v1/messages/{id:str}", messages.one_message),
    (HttpMethod.POST, "/api/v1/messages/{id:str}/cancel", messages.cancel_message),
    (HttpMethod.GET, "/api/v1/batches/{id:str}", messages.one_batch),
    (HttpMethod.GET, "/api/v1/contacts", contacts.list_contacts),
    (HttpMethod.POST, "/api/v1/contacts", contacts.add_contact),
    (HttpMethod.GET, "/api/v1/drafts", drafts.list_drafts),
    (HttpMethod.POST, "/api/v1/drafts/{id:str}/approve", drafts.approve_draft),
    (HttpMethod.POST, "/api/v1/drafts/{id:str}/reject", drafts.reject_draft),
    (HttpMethod.GET, "/api/v1/events", events.list_events),
    (HttpMethod.GET, "/api/v1/webhooks", webhooks.list_webhooks),
    (HttpMethod.POST, "/api/v1/webhooks", webhooks.add_webhook),
    (HttpMethod.GET, "/api/v1/webhooks/{id:str}", webhooks.one_webhook),
    (HttpMethod.PATCH, "/api/v1/webhooks/{id:str}", webhooks.change_webhook),
    (HttpMethod.DELETE, "/api/v1/webhooks/{id:str}", webhooks.remove_webhook),
    (HttpMethod.POST, "/api/v1/webhooks/{id:str}/secret", webhooks.rotate_secret),
    (HttpMethod.POST, "/api/v1/webhooks/{id:str}/replay", webhooks.replay),
)

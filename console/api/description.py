"""The API described for programs (OpenAPI 3.1); a test keeps it in step with the calls."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}
_CURSOR = {"name": "cursor", "in": "query", "schema": _TEXT, "description": "from the last page"}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}


def _call(
    summary: str,
    *,
    status: str = "200",
    body: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    problem = {"content": {"application/problem+json": {"schema": _OBJECT}}}
    call: dict[str, Any] = {
        "summary": summary,
        "responses": {
            status: {"description": "done", "content": {"application/json": {"schema": _OBJECT}}},
            "default": {"description": "a problem, with its place and remedy", **problem},
        },
    }
    if body is not None:
        call["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        call["parameters"] = parameters
    return call


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_RECIPIENT = _object(["address"], address=_TEXT, name=_TEXT, values=_OBJECT)
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": _TEXT,
    "description": "the same key again sends nothing twice",
}

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Waypost", "version": "1"},
    "security": [{"token": []}],
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    "paths": {
        "/api/v1/openapi.json": {"get": _call("This description.")},
        "/api/v1/messages": {
            "post": _call(
                "One generic message and its recipients: one personal message each.",
                status="202",
                parameters=[_KEY],
                body=_object(
                    ["sender", "subject", "text", "recipients"],
                    sender=_TEXT,
                    sender_name=_TEXT,
                    subject=_TEXT,
                    text=_TEXT,
                    html=_TEXT,
                    campaign=_TEXT,
                    kind={"enum": ["mail", "bulk"]},
                    recipients={"type": "array", "maxItems": 10_000, "items": _RECIPIENT},
                ),
            ),
            "get": _call("Messages, newest first.", parameters=[_CURSOR]),
        },
        "/api/v1/messages/{id}": {"get": _call("One message's whole way.", parameters=[_ID])},
        "/api/v1/contacts": {
            "get": _call("Contacts, newest first.", parameters=[_CURSOR]),
            "post": _call(
                "A contact, or the one with this address.",
                status="201",
                body=_object(
                    ["address"], address=_TEXT, name=_TEXT, organisation=_TEXT, fields=_OBJECT
                ),
            ),
        },
        "/api/v1/drafts": {"get": _call("Drafts that wait.")},
        "/api/v1/drafts/{id}/approve": {
            "post": _call(
                "Sends a draft as a user of the company.",
                parameters=[_ID],
                body=_object(["user"], user=_TEXT, text=_TEXT),
            )
        },
        "/api/v1/drafts/{id}/reject": {
            "post": _call(
                "Sends nothing.", parameters=[_ID], body=_object(["user"], user=_TEXT, note=_TEXT)
            )
        },
    },
}

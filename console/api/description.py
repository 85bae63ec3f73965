"""The API described for programs (OpenAPI 3.1); tests keep it in step with the calls."""

from __future__ import annotations

from typing import Any

from console.api.schemas import (
    ADDRESS,
    ANYTHING,
    CURSOR,
    KINDS,
    SCHEMAS,
    SCOPE_WORDS,
    URL,
    Schema,
    body,
    instant,
    key,
    listed,
    ref,
    shape,
    text,
    whole,
)
from console.queries.history import STATES

ABOUT = f"""Mail out and what became of it, for companies' programs.

Send `Authorization: Bearer TOKEN`; `waypost credential add --kind api` makes a token. It may be
limited to scopes: {SCOPE_WORDS}.
Everything is in JSON (UTF-8). Errors are problems as in RFC 9457 with the place (a JSON pointer)
and the remedy. Lists come in pages: give the `cursor` of one as `after` to get the next."""

_WORDS = {
    400: "The request can't be read.",
    401: "No token, or one that does not work.",
    403: "The token is not good for this.",
    404: "There is no such thing in this company.",
    409: "Its state does not allow this (any more).",
    413: "The request is too large.",
    422: "Something in the request is wrong; `pointer` says where.",
    500: "Something went wrong here; try again with the same Idempotency-Key.",
    503: "Not now; try again later.",
}


def _parameter(name: str, schema: Schema, words: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": words}


AFTER = _parameter("after", text(), "The `cursor` of the page before.")
ID = {"name": "id", "in": "path", "required": True, "schema": key(), "description": "Its id."}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": text(maxLength=200, examples=["orders-2026-11-23"]),
    "description": (
        "The same key with the same request is answered the same and sends nothing twice, also "
        "after an answer was lost; with another request it is refused. Kept for 30 days."
    ),
}


def call(
    summary: str,
    scope: str | None,
    *,
    status: int = 200,
    answer: Schema = ANYTHING,
    body: Schema | None = None,
    parameters: list[dict[str, Any]] | None = None,
    errors: tuple[int, ...] = (),
    words: str = "",
    more_content: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One call; `scope` is None where no token is needed."""
    codes = {400, 500, 503, *errors}
    codes |= {401, 403} if scope else set()
    codes |= {413, 422} if body is not None else set()
    done: dict[str, Any] = {"description": "Done."}
    if status != 204:
        done["content"] = {"application/json": {"schema": answer}}
    if headers:
        done["headers"] = headers
    made: dict[str, Any] = {
        "summary": summary,
        "description": " ".join(filter(None, [words, scope and f"Scope: `{scope}`."])),
        "responses": {
            str(status): done,
            **{str(code): {"$ref": f"#/components/responses/{code}"} for code in sorted(codes)},
        },
    }
    if scope is None:
        made["security"] = []
    if body is not None:
        content = {"application/json": {"schema": body}, **(more_content or {})}
        made["requestBody"] = {"required": True, "content": content}
    if parameters:
        made["parameters"] = parameters
    return made


_WEBHOOK_FIELDS: dict[str, Schema] = {
    "url": URL,
    "kinds": KINDS,
    "description": text(maxLength=200),
}

_DESCRIPTION = call("This description.", None)

PATHS: dict[str, Any] = {
    "/api/openapi.json": {"get": _DESCRIPTION},
    "/api/v1/openapi.json": {"get": _DESCRIPTION},
    "/api/v1/messages": {
        "post": call(
            "Send: one generic message and its recipients become a personal message each.",
            "send",
            status=202,
            answer=ref("Sent"),
            body=ref("Send"),
            parameters=[IDEMPOTENCY_KEY],
            errors=(409,),
            words=(
                "Recipients that can't be served are named in `refused`, the others are sent to; "
                "with `strict` it is all or none. As `application/x-ndjson` the first line is the "
                "message without `recipients`, each line after it a recipient. "
                "16 MiB and 10,000 recipients fit."
            ),
            more_content={
                "application/x-ndjson": {"schema": text("JSON lines: message, then recipients.")}
            },
            headers={
                "Location": {"schema": text(), "description": "Of the batch."},
                "Idempotent-Replayed": {
                    "schema": text(),
                    "description": "`true` if this was answered before.",
                },
            },
        ),
        "get": call(
            "Messages, newest first.",
            "read",
            answer=shape({"messages": listed(ref("Message")), "cursor": CURSOR}),
            parameters=[
                AFTER,
                _parameter("campaign", text(maxLength=200), "Only of this campaign."),
                _parameter("state", text(enum=list(STATES)), "Only in this state."),
                _parameter("direction", text(enum=["in", "out"]), "Only arrived or outgoing."),
                _parameter("q", text(maxLength=200), "Words in addresses and subjects."),
            ],
        ),
    },
    "/api/v1/messages/cancel": {
        "post": call(
            "Take back what still waits of a campaign or of a batch.",
            "send",
            answer=shape(
                {"cancelled": whole(), "too_late": whole("Of a batch: sent or ended before.")},
                needed="cancelled",
            ),
            body={
                **body(
                    {"campaign": text(minLength=1, maxLength=200), "batch": key()},
                ),
                "minProperties": 1,
                "maxProperties": 1,
            },
        )
    },
    "/api/v1/messages/{id}": {
        "get": call(
            "One message: state, attempts, last reply and all that happened.",
            "read",
            answer=ref("MessageWay"),
            parameters=[ID],
            errors=(404,),
        )
    },
    "/api/v1/messages/{id}/cancel": {
        "post": call(
            "Take a message back while it waits.",
            "send",
            answer=ref("Cancelled"),
            parameters=[ID],
            errors=(404, 409),
            words="409 says in which state it is if that is too late. Twice is harmless.",
        )
    },
    "/api/v1/batches/{id}": {
        "get": call(
            "How far a request to send is.",
            "read",
            answer=ref("Batch"),
            parameters=[ID],
            errors=(404,),
        )
    },
    "/api/v1/contacts": {
        "get": call(
            "Contacts, newest first.",
            "read",
            answer=shape({"contacts": listed(ref("Contact")), "cursor": CURSOR}),
            parameters=[AFTER],
        ),
        "post": call(
            "A contact, or the one with this address.",
            "send",
            status=201,
            answer=ref("Contact"),
            body=body(
                {"address": ADDRESS, "name": text(), "organisation": text(), "fields": ANYTHING},
                needed="address",
            ),
            words="Of a contact that is there only empty fields are filled.",
        ),
    },
    "/api/v1/drafts": {
        "get": call(
            "Drafts that wait, the oldest first.",
            "read",
            answer=shape({"drafts": listed(ref("Draft")), "cursor": CURSOR}),
            parameters=[AFTER],
        )
    },
    "/api/v1/drafts/{id}/approve": {
        "post": call(
            "Send a draft as a user of the company.",
            "approve",
            answer=ref("Decision"),
            parameters=[ID],
            body=body(
                {"user": text("Address of a user."), "text": text("In place of the draft's.")},
                needed="user",
            ),
            errors=(404, 409),
        )
    },
    "/api/v1/drafts/{id}/reject": {
        "post": call(
            "Send nothing.",
            "approve",
            answer=ref("Decision"),
            parameters=[ID],
            body=body(
                {"user": text("Address of a user."), "note": text("Why.")},
                needed="user",
            ),
            errors=(404, 409),
        )
    },
}

PATHS |= {
    "/api/v1/events": {
        "get": call(
            "Events in their order: what webhooks are told, to fetch.",
            "read",
            answer=shape(
                {
                    "events": listed(ref("Event")),
                    "cursor": text("Give it as `after` next time, also if there was nothing."),
                    "more": {"type": "boolean", "description": "Whether to ask again at once."},
                }
            ),
            parameters=[
                _parameter(
                    "after", text(examples=["0-4711"]), "The `cursor` of the answer before."
                ),
                _parameter("since", instant(), "In place of `after`: from this time on."),
                _parameter("type", text(), "Only these types, with commas between."),
                _parameter("limit", whole(minimum=1, maximum=1000), "100 if left out."),
            ],
            words="Each company sees its own. Nothing appears before a cursor that was given out.",
        )
    },
    "/api/v1/webhooks": {
        "get": call("All webhooks.", "manage", answer=shape({"webhooks": listed(ref("Webhook"))})),
        "post": call(
            "A new webhook, told of what happens from now on.",
            "manage",
            status=201,
            answer=ref("WebhookSecret"),
            body=body(_WEBHOOK_FIELDS, needed="url"),
            words=(
                "It gets POSTs of JSON with up to 100 events (`data.events`, as `GET "
                "/api/v1/events` has them), in order, and has to answer 2xx; otherwise the same "
                "batch comes again after growing pauses; after five days it is disabled. Signed "
                "as Standard Webhooks asks: `webhook-signature` is `v1,` and the base64 of "
                "HMAC-SHA-256 over webhook-id.webhook-timestamp.body. Each company may have 20."
            ),
        ),
    },
    "/api/v1/webhooks/{id}": {
        "get": call(
            "A webhook and its last tries.",
            "manage",
            answer=ref("WebhookTries"),
            parameters=[ID],
            errors=(404,),
        ),
        "patch": call(
            "Change it; `state` active tries again at once where it was left.",
            "manage",
            answer=ref("Webhook"),
            parameters=[ID],
            body=body({**_WEBHOOK_FIELDS, "state": text(enum=["active", "disabled"])}),
            errors=(404,),
        ),
        "delete": call("Forget it.", "manage", status=204, parameters=[ID], errors=(404,)),
    },
    "/api/v1/webhooks/{id}/secret": {
        "post": call(
            "A new secret; for a day the one before signs too.",
            "manage",
            answer=ref("WebhookSecret"),
            parameters=[ID],
            errors=(404,),
        )
    },
    "/api/v1/webhooks/{id}/replay": {
        "post": call(
            "Tell it again of all after a cursor, or since an instant.",
            "manage",
            answer=ref("Webhook"),
            parameters=[ID],
            body={
                **body({"after": text(examples=["0-4711"], maxLength=60), "since": instant()}),
                "minProperties": 1,
                "maxProperties": 1,
            },
            errors=(404,),
        )
    },
}

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Waypost", "version": "1", "description": ABOUT},
    "security": [{"token": []}],
    "components": {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "schemas": SCHEMAS,
        "responses": {
            str(code): {
                "description": words,
                "content": {"application/problem+json": {"schema": ref("Problem")}},
            }
            for code, words in _WORDS.items()
        },
    },
    "paths": PATHS,
}

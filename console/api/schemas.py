"""The shapes that the API's description refers to (JSON Schema 2020-12, as OpenAPI 3.1 has it)."""

from __future__ import annotations

from typing import Any

from bus.events import Kind
from console.queries.history import STATES
from mta.accounts import SCOPES

Schema = dict[str, Any]


def text(words: str = "", **more: Any) -> Schema:
    """A text."""
    return {"type": "string", **({"description": words} if words else {}), **more}


def whole(words: str = "", **more: Any) -> Schema:
    """A whole number."""
    return {"type": "integer", **({"description": words} if words else {}), **more}


def instant(words: str = "") -> Schema:
    """An instant (RFC 3339)."""
    return text(words, format="date-time", examples=["2026-12-24T18:00:00Z"])


def key(words: str = "") -> Schema:
    """An id of ours."""
    return text(words, format="uuid", examples=["019aa0d2-0f5b-7a33-9d5c-0a7f6e1f2b11"])


def listed(of: Schema, words: str = "", **more: Any) -> Schema:
    """A list."""
    return {"type": "array", "items": of, **({"description": words} if words else {}), **more}


def shape(properties: dict[str, Schema], *, needed: str = "", words: str = "") -> Schema:
    """An object; all its properties are there, or those that are `needed`."""
    return {
        "type": "object",
        "properties": properties,
        "required": needed.split() if needed else list(properties),
        **({"description": words} if words else {}),
    }


def body(properties: dict[str, Schema], *, needed: str = "") -> Schema:
    """What is sent to us: nothing else may be in it."""
    made = shape(properties, words="")
    made |= {"required": needed.split(), "additionalProperties": False}
    if not needed:
        del made["required"]
    return made


def maybe(of: Schema) -> Schema:
    """The same, or null."""
    return {**of, "type": [of["type"], "null"]}


def ref(name: str) -> Schema:
    """A shape of this file."""
    return {"$ref": f"#/components/schemas/{name}"}


ANYTHING: Schema = {"type": "object"}
ADDRESS = text("A mail address.", maxLength=320, examples=["pat@customers.example"])
CURSOR = maybe(text("Give it as `after` to get the next page; null on the last."))

REPLY = maybe(
    shape(
        {"code": maybe(whole("SMTP code.")), "text": text("What the other server said last.")},
    )
)

_MESSAGE: dict[str, Schema] = {
    "id": key(),
    "direction": text(enum=["in", "out"]),
    "kind": text("mail, bulk, answer …; of arrived mail what it was recognised as."),
    "from": text(),
    "to": text(),
    "subject": text(),
    "campaign": text(),
    "message_id": text("Its Message-ID (RFC 5322 §3.6.4)."),
    "state": text(
        f"Outgoing: {', '.join(STATES)} or sending. Arrived: tied, review or held.",
        examples=["delivered"],
    ),
    "reason": text("Why it is in this state."),
    "tries": whole("Attempts so far."),
    "last_reply": REPLY,
    "next_attempt": maybe(instant("When it is tried next, while it waits.")),
    "expires": maybe(instant("Until when it is tried, while it waits.")),
    "finished_at": maybe(instant()),
    "created_at": instant(),
}

RECIPIENT = body(
    {
        "address": ADDRESS,
        "name": text("Of the person.", maxLength=1000, examples=["Pat Doe"]),
        "values": {
            **ANYTHING,
            "description": "Merge values, 64 KiB as JSON. `contact` is filled in by us.",
            "examples": [{"order": "7"}],
        },
    },
    needed="address",
)

SEND = body(
    {
        "sender": text(
            "From which address, of a domain of the company.",
            maxLength=320,
            examples=["shop@ourfirm.example"],
        ),
        "sender_name": text("Shown beside the address.", maxLength=200),
        "subject": text(
            "A template: `{{ order }}` is a merge value.", examples=["Order {{ order }}"]
        ),
        "text": text("The plain text, a template.", examples=["Order {{ order }} is on its way."]),
        "html": text("The HTML, a template; links of bulk mail are tracked."),
        "campaign": text("A name to find and cancel them by.", maxLength=200),
        "kind": text(
            "mail is transactional; bulk gets unsubscribe headers and footer, and waits behind.",
            enum=["mail", "bulk"],
            default="mail",
        ),
        "user": text("Address of the user whose mail this is: answers are theirs.", maxLength=320),
        "not_before": maybe(instant("Not sent before; a year ahead at the most.")),
        "expires": maybe(instant("Not sent any more after this; five days if left out.")),
        "strict": {
            "type": "boolean",
            "default": False,
            "description": "All recipients or none; for up to 500 of them.",
        },
        "files": listed(
            text(maxLength=64, minLength=1),
            "Keys of files that go with the mail: attached, in the HTML where it has `cid:KEY`, or "
            "as a link where they are too large.",
            maxItems=20,
        ),
        "presentation": text(
            "Key of the page that it leads to, at `{{ presentation_url }}`.", maxLength=64
        ),
        "recipients": listed(ref("Recipient"), minItems=1, maxItems=10_000),
    },
    needed="sender subject recipients",
)

KINDS = listed(
    text(enum=sorted(str(kind) for kind in Kind)), "Of events; none means all.", maxItems=100
)
URL = text(
    "https only, on the public internet.", maxLength=2000, examples=["https://hooks.example.com/in"]
)

_WEBHOOK: dict[str, Schema] = {
    "id": key(),
    "url": URL,
    "description": text(),
    "kinds": KINDS,
    "state": text(enum=["active", "disabled"]),
    "reason": text("What went wrong last, or why it is disabled."),
    "cursor": text("The place up to which it has been told."),
    "failures": whole("In a row."),
    "failing_since": maybe(instant()),
    "told_at": maybe(instant("When it was told last.")),
    "created_at": instant(),
}

_PLACE = text("Which part of the request, as JSON pointer (RFC 6901).", examples=["/sender"])

SCHEMAS: dict[str, Schema] = {
    "Problem": shape(
        {
            "type": text(examples=["about:blank"]),
            "title": text("What is wrong.", examples=["subject is missing"]),
            "status": whole("The HTTP status."),
            "detail": text("How to mend it.", examples=["Give the field subject."]),
            "pointer": _PLACE,
            "errors": listed(
                shape({"pointer": _PLACE, "detail": text()}), "Several at once, 100 at the most."
            ),
            "state": text("Of the message that can't be cancelled."),
        },
        needed="type title status detail",
        words="An error (RFC 9457).",
    ),
    "Recipient": RECIPIENT,
    "Send": SEND,
    "Sent": shape(
        {
            "batch": key("Name of this request: `GET /api/v1/batches/{id}`."),
            "key": text("The Idempotency-Key, or one that was made up."),
            "accepted": listed(
                shape({"index": whole("Of the recipient."), "address": ADDRESS, "id": key()})
            ),
            "refused": listed(
                shape({"index": whole("Of the recipient."), "pointer": _PLACE, "reason": text()})
            ),
        }
    ),
    "Message": shape(_MESSAGE),
    "MessageWay": shape(
        {
            **_MESSAGE,
            "attempts": listed(
                shape(
                    {
                        "at": instant(),
                        "host": text(),
                        "tls": text(),
                        "code": maybe(whole()),
                        "text": text(),
                        "outcome": text(),
                        "seconds": {"type": "number"},
                    }
                ),
                "Tries to hand it over, the first 200.",
            ),
            "events": listed(
                shape({"at": instant(), "type": text(), "data": ANYTHING}),
                "What happened to it, the first 200.",
            ),
            "way": listed(
                shape({"at": instant(), "what": text(), "detail": text()}), "The same for people."
            ),
        }
    ),
    "Batch": shape(
        {
            "id": key(),
            "key": text("Its Idempotency-Key."),
            "campaign": text(),
            "state": text(
                "incomplete: the request broke off; repeat it to go on.",
                enum=["complete", "incomplete"],
            ),
            "recipients": whole(),
            "accepted": whole(),
            "refused": whole(),
            "messages": {
                "type": "object",
                "additionalProperties": whole(),
                "description": "How many of its messages are in which state.",
                "examples": [{"delivered": 9_990, "deferred": 10}],
            },
            "created_at": instant(),
        }
    ),
    "Cancelled": shape({"id": key(), "state": text(), "reason": text()}),
    "Contact": shape(
        {
            "id": key(),
            "address": ADDRESS,
            "name": text(),
            "organisation": text(),
            "fields": ANYTHING,
        }
    ),
    "Draft": shape(
        {
            "id": key(),
            "message": key("The reply that it answers."),
            "subject": text(),
            "text": text(),
            "gaps": {"type": "array", "description": "What nobody knew an answer to."},
        }
    ),
    "Event": shape(
        {
            "id": key(),
            "type": text("What happened.", enum=sorted(str(kind) for kind in Kind)),
            "at": instant(),
            "cursor": text("The place after it.", examples=["0-4711"]),
            "agent": text(
                "Who did it, as far as we can tell.", enum=["human", "machine", "unknown"]
            ),
            "data": ANYTHING,
            "message": shape(
                {"id": key(), "kind": text(), "from": text(), "to": text(), "campaign": text()}
            ),
            "contact": key(),
            "lead": key(),
            "user": key(),
            "enrolment": key(),
        },
        needed="id type at cursor agent data",
    ),
    "Webhook": shape(_WEBHOOK),
    "WebhookSecret": shape(
        {**_WEBHOOK, "secret": text("Shown this once.", examples=["whsec_…"])},
    ),
    "WebhookTries": shape(
        {
            **_WEBHOOK,
            "attempts": listed(
                shape(
                    {
                        "at": instant(),
                        "webhook_id": text("The header `webhook-id` of the batch."),
                        "events": whole(),
                        "status": maybe(whole("null if no answer came.")),
                        "error": text(),
                        "seconds": {"type": "number"},
                    }
                ),
                "The last 20 tries, the newest first.",
            ),
        }
    ),
    "Decision": shape({"result": text(), "says": text("The same for people.")}),
}

SCOPE_WORDS = ", ".join(f"`{name}` ({words})" for name, words in SCOPES.items())

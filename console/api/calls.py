"""The calls of the API. Everything happens in a session of the token's company."""

from __future__ import annotations

import json
import math
import re
import secrets
from typing import Any
from uuid import UUID

from litestar import HttpMethod, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from console.api.description import DESCRIPTION
from console.api.problems import ApiError, json_answer
from console.desk import Answer, Call, Desk
from console.queries import history
from mail.errors import PermanentError
from mta.accounts import check_api
from mta.recipients import canonical_address, ensure_contact
from mta.submission import Order, submit
from responder import approval
from storage.tables import Contact, Credential, Draft, Message, Template, User

MAX_RECIPIENTS = 10_000
MAX_KEY = 200
MAX_DEPTH = 32
MAX_FIELDS_BYTES = 64 << 10
"""Of a contact's own fields as JSON."""

BATCH = 25
"""Recipients that are ordered in one transaction."""

PAGE = 100

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


async def _credential(desk: Desk, call: Call) -> Credential:
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    found = await check_api(desk.sessions, token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise ApiError(
            401, "Who are you?", "Send `Authorization: Bearer TOKEN`; `waypost credential add`."
        )
    return found


async def _body(call: Call) -> dict[str, Any]:
    try:
        body = json.loads(
            (await call.body()).decode(), parse_constant=_no_number, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "This is not JSON", str(error)[:200]) from None
    if not isinstance(body, dict):
        raise ApiError(400, "This is not a JSON object", "Begin with { and end with }.")
    _check(body)
    return body


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON (RFC 8259 §6)")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits[:40])


def _check(body: dict[str, Any]) -> None:
    """Refuses what can be written in JSON and not be kept as text, and what is nested too deep."""
    waiting: list[tuple[str, Any]] = [("", body)]
    while waiting:
        at, value = waiting.pop()
        if isinstance(value, str):
            if not _keepable(value):
                raise ApiError(422, "Text has a NUL or half a character", "Take it out.", at)
        elif isinstance(value, (dict, list)):
            if at.count("/") >= MAX_DEPTH:
                raise ApiError(422, "Nested too deep", f"{MAX_DEPTH} levels are enough.", at)
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for name, inner in pairs:
                place = f"{at}/{str(name).replace('~', '~0').replace('/', '~1')}"
                if isinstance(name, str) and not _keepable(name):
                    raise ApiError(422, "A name has a NUL or half a character", "", at)
                waiting.append((place, inner))


def _keepable(text: str) -> bool:
    return (text.isascii() and "\0" not in text) or not _NOT_TEXT.search(text)


def _text(
    body: dict[str, Any], name: str, *, needed: bool = True, at: str = "", longest: int = 1 << 20
) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise ApiError(422, f"{name} is not text", "Put it in quotes.", f"{at}/{name}")
    if needed and not value.strip():
        raise ApiError(422, f"{name} is missing", "", f"{at}/{name}")
    if len(value) > longest:
        raise ApiError(422, f"{name} is too long", f"{longest} characters at most.", f"{at}/{name}")
    return value


def _key(call: Call) -> UUID:
    try:
        return UUID(str(call.path_params["id"]))
    except ValueError:
        raise ApiError(404, "There is no such thing", "The id is not one of ours.") from None


async def send(desk: Desk, call: Call) -> Response[Any]:
    """One generic message and its recipients: one personal message each, 202 when it is kept."""
    credential = await _credential(desk, call)
    body = await _body(call)
    given = call.headers.get("idempotency-key", "").strip()
    if len(given) > MAX_KEY:
        raise ApiError(400, "The Idempotency-Key is too long", f"{MAX_KEY} characters at most.")
    key = given or f"once-{secrets.token_hex(16)}"
    recipients = body.get("recipients")
    if not isinstance(recipients, list) or not recipients:
        raise ApiError(422, "recipients is not a list", "Name one at least.", "/recipients")
    if len(recipients) > MAX_RECIPIENTS:
        raise ApiError(
            422, "Too many recipients", f"{MAX_RECIPIENTS} fit into a request.", "/recipients"
        )
    kind = body.get("kind", "mail")
    if kind not in ("mail", "bulk"):
        raise ApiError(422, "kind is neither mail nor bulk", "", "/kind")
    shared = {name: _text(body, name) for name in ("sender", "subject", "text")}
    shared |= {
        name: _text(body, name, needed=False, longest=longest)
        for name, longest in (("sender_name", 200), ("html", 1 << 20), ("campaign", 200))
    }
    accepted: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for start in range(0, len(recipients), BATCH):
        async with desk.sessions.begin(credential.company_id) as session:
            for index, one in enumerate(recipients[start : start + BATCH], start):
                try:
                    async with session.begin_nested():
                        address = _recipient(one)
                        if (first := seen.setdefault(address, index)) != index:
                            raise ApiError(422, f"{address} is recipient {first} already")
                        accepted.append(await _order(desk, session, key, kind, shared, one))
                except (PermanentError, ApiError) as error:
                    detail = error.public if isinstance(error, PermanentError) else error.title
                    refused.append({"index": index, "reason": detail})
    if not accepted:
        index, reason = refused[0]["index"], refused[0]["reason"]
        raise ApiError(
            422,
            "Nobody can get this message",
            f"Recipient {index}: {reason}",
            f"/recipients/{index}",
        )
    return json_answer({"accepted": accepted, "refused": refused, "key": key}, 202)


def _recipient(one: Any) -> str:
    """The canonical address of a recipient: two messages to one would share a key."""
    if not isinstance(one, dict):
        raise ApiError(422, "is not an object with an address")
    return canonical_address(_text(one, "address", longest=320))


async def _order(
    desk: Desk,
    session: AsyncSession,
    key: str,
    kind: str,
    shared: dict[str, str],
    one: dict[str, Any],
) -> dict[str, Any]:
    address, name = _text(one, "address"), _text(one, "name", needed=False)
    values = one.get("values", {})
    if not isinstance(values, dict):
        raise ApiError(422, "values is not an object")
    now = desk.clock()
    contact = await ensure_contact(session, address, name=name, origin={"by": "api"}, now=now)
    message = await submit(
        session,
        Order(
            key=f"api:{key}:{contact.address}",
            kind=kind,
            sender=shared["sender"],
            sender_name=shared["sender_name"],
            recipient=contact.address,
            recipient_name=contact.name,
            subject=shared["subject"],
            text=shared["text"],
            html=shared["html"],
            values={**values, "contact": _fields(contact)},
            contact_id=contact.id,
            campaign=shared["campaign"],
            lane=2 if kind == "bulk" else 1,
        ),
        now=now,
    )
    if not await _is_this(session, message, shared, values):
        raise ApiError(422, "this Idempotency-Key sent them something else; take a new one")
    return {"address": contact.address, "id": str(message.id)}


async def _is_this(
    session: AsyncSession, message: Message, shared: dict[str, str], values: dict[str, Any]
) -> bool:
    """Whether a message, perhaps of an earlier request with the same key, is the one asked for.

    What we know of the contact may have changed in between and does not count.
    """
    template = await session.get(Template, message.template_id)
    kept = {name: value for name, value in message.values.items() if name != "contact"}
    wanted = {name: value for name, value in values.items() if name != "contact"}
    texts = template is not None and all(
        getattr(template, name) == shared[name] for name in ("subject", "text", "html")
    )
    return texts and kept == wanted


def _fields(contact: Contact) -> dict[str, Any]:
    return {
        "name": contact.name,
        "first_name": contact.name.split(" ")[0] if contact.name else "",
        "address": contact.address,
        "organisation": contact.organisation,
        "fields": contact.fields,
    }


async def list_messages(desk: Desk, call: Call) -> Response[Any]:
    """Messages, newest first, a page at a time."""
    credential = await _credential(desk, call)
    async with desk.sessions.read(credential.company_id) as session:
        rows = await history.find(
            session,
            words=call.query_params.get("q", "")[:200],
            state=call.query_params.get("state", ""),
            direction=call.query_params.get("direction", ""),
            before=_cursor(call),
        )
    more = str(rows[history.PAGE - 1].message.id) if len(rows) > history.PAGE else None
    found = [_message(row.message, row.delivery) for row in rows[: history.PAGE]]
    return json_answer({"messages": found, "cursor": more})


async def one_message(desk: Desk, call: Call) -> Response[Any]:
    """One message with everything that happened to it."""
    credential = await _credential(desk, call)
    async with desk.sessions.read(credential.company_id) as session:
        way = await history.way(session, _key(call))
    if way is None:
        raise ApiError(404, "There is no such message")
    moments = [{"at": m.at.isoformat(), "what": m.what, "detail": m.detail} for m in way.moments]
    return json_answer({**_message(way.message, way.delivery), "way": moments})


def _message(message: Any, delivery: Any) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "direction": message.direction,
        "kind": message.kind,
        "from": message.sender,
        "to": message.recipient,
        "subject": message.subject,
        "state": delivery.state if delivery is not None else message.state,
        "reason": delivery.reason if delivery is not None else "",
        "created_at": message.created_at.isoformat(),
    }


async def list_contacts(desk: Desk, call: Call) -> Response[Any]:
    """Contacts, newest first, a page at a time."""
    credential = await _credential(desk, call)
    query = select(Contact).order_by(Contact.id.desc()).limit(PAGE + 1)
    if (before := _cursor(call)) is not None:
        query = query.where(Contact.id < before)
    async with desk.sessions.read(credential.company_id) as session:
        rows = (await session.scalars(query)).all()
    more = str(rows[PAGE - 1].id) if len(rows) > PAGE else None
    return json_answer({"contacts": [_contact(row) for row in rows[:PAGE]], "cursor": more})


async def add_contact(desk: Desk, call: Call) -> Response[Any]:
    """A contact, or the one that is there with this address."""
    credential = await _credential(desk, call)
    body = await _body(call)
    fields = body.get("fields", {})
    if not isinstance(fields, dict):
        raise ApiError(422, "fields is not an object", "", "/fields")
    if len(json.dumps(fields)) > MAX_FIELDS_BYTES:
        raise ApiError(422, "fields are too large", f"{MAX_FIELDS_BYTES} bytes fit.", "/fields")
    async with desk.sessions.begin(credential.company_id) as session:
        contact = await ensure_contact(
            session,
            _text(body, "address"),
            name=_text(body, "name", needed=False),
            organisation=_text(body, "organisation", needed=False),
            fields=fields,
            origin={"by": "api"},
            now=desk.clock(),
        )
    return json_answer(_contact(contact), 201)


def _contact(contact: Contact) -> dict[str, Any]:
    return {
        "id": str(contact.id),
        "address": contact.address,
        "name": contact.name,
        "organisation": contact.organisation,
        "fields": contact.fields,
    }


async def list_drafts(desk: Desk, call: Call) -> Response[Any]:
    """Drafts that wait."""
    credential = await _credential(desk, call)
    query = select(Draft).where(Draft.state == "proposed").order_by(Draft.id).limit(PAGE)
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
        for row in rows
    ]
    return json_answer({"drafts": found})


async def approve_draft(desk: Desk, call: Call) -> Response[Any]:
    """Sends a draft, or `text` in its place, as a user of the company (`user`: an address)."""
    return await _decide(desk, call, approving=True)


async def reject_draft(desk: Desk, call: Call) -> Response[Any]:
    """Sends nothing; `note` says why."""
    return await _decide(desk, call, approving=False)


async def _decide(desk: Desk, call: Call, *, approving: bool) -> Response[Any]:
    credential = await _credential(desk, call)
    key, body, now = _key(call), await _body(call), desk.clock()
    async with desk.sessions.begin(credential.company_id) as session:
        email = _text(body, "user").lower()
        user = (await session.scalars(select(User).where(User.email == email))).one_or_none()
        if user is None:
            raise ApiError(422, "No user has this address", "", "/user")
        if approving:
            words = body.get("text")
            text = None if words is None else _text(body, "text")
            outcome = await approval.approve(session, key, user=user, via="api", text=text, now=now)
        else:
            note = _text(body, "note", needed=False)
            outcome = await approval.reject(session, key, user=user, via="api", note=note, now=now)
    if outcome.result is approval.Result.NOT_FOUND:
        raise ApiError(404, "There is no such draft")
    if not outcome.done and outcome.result is not approval.Result.ALREADY:
        raise ApiError(409, f"The draft {outcome.result}", outcome.says)
    return json_answer({"result": str(outcome.result), "says": outcome.says})


async def description(desk: Desk, call: Call) -> Response[Any]:
    """The API's description (OpenAPI 3.1)."""
    return json_answer(DESCRIPTION)


def _cursor(call: Call) -> UUID | None:
    text = call.query_params.get("cursor", "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise ApiError(400, "The cursor is not one of ours", "Take it from an answer.") from None


CALLS: tuple[tuple[HttpMethod, str, Answer], ...] = (
    (HttpMethod.GET, "/api/v1/openapi.json", description),
    (HttpMethod.POST, "/api/v1/messages", send),
    (HttpMethod.GET, "/api/v1/messages", list_messages),
    (HttpMethod.GET, "/api/v1/messages/{id:str}", one_message),
    (HttpMethod.GET, "/api/v1/contacts", list_contacts),
    (HttpMethod.POST, "/api/v1/contacts", add_contact),
    (HttpMethod.GET, "/api/v1/drafts", list_drafts),
    (HttpMethod.POST, "/api/v1/drafts/{id:str}/approve", approve_draft),
    (HttpMethod.POST, "/api/v1/drafts/{id:str}/reject", reject_draft),
)

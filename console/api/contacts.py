"""Contacts: the people a company writes to."""

from __future__ import annotations

import json
from typing import Any

from litestar import Response
from sqlalchemy import select

from console.api import documents
from console.api.problems import ApiError, json_answer
from console.api.tokens import credential_for
from console.desk import Call, Desk
from mail.errors import PermanentError
from mta.recipients import canonical_address, ensure_contact
from storage.tables import Contact

MAX_FIELDS_BYTES = 64 << 10
"""Of a contact's own fields as JSON."""

PAGE = 100
FIELDS = frozenset({"address", "name", "organisation", "fields"})


async def list_contacts(desk: Desk, call: Call) -> Response[Any]:
    """Contacts, newest first, a page at a time."""
    credential = await credential_for(desk, call, "read")
    query = select(Contact).order_by(Contact.id.desc()).limit(PAGE + 1)
    if (before := documents.after_id(call)) is not None:
        query = query.where(Contact.id < before)
    async with desk.sessions.read(credential.company_id) as session:
        rows = (await session.scalars(query)).all()
    more = str(rows[PAGE - 1].id) if len(rows) > PAGE else None
    return json_answer({"contacts": [_contact(row) for row in rows[:PAGE]], "cursor": more})


async def add_contact(desk: Desk, call: Call) -> Response[Any]:
    """A contact, or the one that is there with this address."""
    credential = await credential_for(desk, call, "send")
    body = await documents.read_object(call)
    documents.only(body, FIELDS)
    fields = body.get("fields", {})
    if not isinstance(fields, dict):
        raise ApiError(422, "fields is not an object", "Write {}.", "/fields")
    if len(json.dumps(fields)) > MAX_FIELDS_BYTES:
        raise ApiError(422, "fields are too large", f"{MAX_FIELDS_BYTES} bytes fit.", "/fields")
    address = documents.text(body, "address", longest=320)
    try:
        canonical_address(address)
    except PermanentError as error:
        raise ApiError(422, "address is not a mail address", error.public, "/address") from None
    async with desk.sessions.begin(credential.company_id) as session:
        contact = await ensure_contact(
            session,
            address,
            name=documents.text(body, "name", needed=False),
            organisation=documents.text(body, "organisation", needed=False),
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

"""`POST /messages`: one generic message and its recipients become a personal message each."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Response
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from console import batches
from console.api import documents
from console.api.problems import ApiError, json_answer
from console.api.tokens import credential_for
from console.batches import PART, Results
from console.desk import Call, Desk
from mail.errors import PermanentError, TemporaryError
from mta import metrics
from mta.accounts import why_not_as
from mta.enclosures import MAX_FILES
from mta.recipients import Person, canonical_address, ensure_contacts
from mta.submission import Order, submit_many
from storage.tables import Batch, Credential, User

_COUNTED = metrics.at_door("api")

MAX_RECIPIENTS = 10_000
MAX_STRICT = PART
"""Recipients of a strict request: all of them are ordered in one transaction, or none."""

MAX_KEY = 200
MAX_ERRORS = 100
"""Errors that one answer names."""

SHARED = frozenset(
    (
        "sender sender_name subject text html campaign kind user not_before expires strict "
        "files presentation"
    ).split()
)
PERSONAL = frozenset({"address", "name", "values"})

Refusal = list[Any]
"""Number of the recipient, JSON pointer, reason."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What all recipients of a request share."""

    kind: str
    sender: str
    sender_name: str
    subject: str
    text: str
    html: str
    campaign: str
    user: str
    not_before: datetime | None
    expires: datetime | None
    strict: bool
    files: tuple[str, ...] = ()
    presentation: str = ""


async def send(desk: Desk, call: Call) -> Response[Any]:
    """Takes a request as a whole, then orders its recipients part by part. 202 when all is kept."""
    credential = await credential_for(desk, call, "send")
    if problem := desk.gauge.problem(credential.company_id):
        _COUNTED.deferred.inc()
        raise TemporaryError(f"Try again later with the same Idempotency-Key: {problem}.")
    body, recipients = await _read(call)
    wanted = _shared(body)
    key = _key(call)
    _may_send(credential, wanted)
    if wanted.strict and len(recipients) > MAX_STRICT:
        raise ApiError(
            422,
            "Too many recipients for a strict request",
            f"All or none is for {MAX_STRICT} at the most: leave strict out or send in parts.",
            "/strict",
        )
    digest = batches.digest_of({**body, "as": str(credential.id)}, recipients)
    now = desk.clock()
    async with desk.sessions.begin(credential.company_id) as session:
        user = await _user(session, wanted.user)
        batch, new = await batches.open_batch(
            session,
            key=key,
            digest=digest,
            campaign=wanted.campaign,
            total=len(recipients),
            now=now,
        )
        if batch.digest != digest:
            raise ApiError(
                422,
                "This Idempotency-Key was used for another request",
                "An Idempotency-Key is for one request: repeat that one, or take a new key.",
            )
        if new:
            _check_times(wanted, now)
    replayed = batch.finished_at is not None
    if not replayed:
        try:
            await _order_all(desk, batch, wanted, user, recipients)
        except IntegrityError:
            raise ApiError(
                409,
                "The same request is being refused beside this one",
                "Its answer says why. Mend the request and send it again.",
            ) from None
    async with desk.sessions.read(credential.company_id) as session:
        results = await batches.results_of(session, batch)
    if not replayed:
        _COUNTED.accepted.inc(len(results.accepted))
        _COUNTED.refused.inc(len(results.refused))
    return _answer(batch, results, replayed)


async def _read(call: Call) -> tuple[dict[str, Any], list[Any]]:
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == documents.LINES:
        body, recipients = await documents.read_lines(call, limit=MAX_RECIPIENTS)
        if "recipients" in body:
            raise ApiError(422, "recipients are the lines after the first", "", "/recipients")
        found: Any = recipients
    else:
        body = await documents.read_object(call)
        found = body.pop("recipients", None)
    if not isinstance(found, list) or not found:
        raise ApiError(422, "recipients is not a list", "Name one at least.", "/recipients")
    if len(found) > MAX_RECIPIENTS:
        raise ApiError(
            422, "Too many recipients", f"{MAX_RECIPIENTS} fit into a request.", "/recipients"
        )
    return body, found


def _key(call: Call) -> str:
    given = call.headers.get("idempotency-key", "").strip()
    if len(given) > MAX_KEY or not given.isprintable():
        raise ApiError(
            400,
            "The Idempotency-Key is too long or is no text",
            f"{MAX_KEY} printable characters at most.",
        )
    return given or f"once-{secrets.token_hex(16)}"


def _shared(body: dict[str, Any]) -> Wanted:
    documents.only(body, SHARED | {"recipients"})
    kind = body.get("kind", "mail")
    if kind not in ("mail", "bulk"):
        raise ApiError(422, "kind is neither mail nor bulk", "Leave it out for mail.", "/kind")
    html = documents.text(body, "html", needed=False)
    return Wanted(
        kind=kind,
        sender=documents.text(body, "sender", longest=320),
        sender_name=documents.text(body, "sender_name", needed=False, longest=200),
        subject=documents.text(body, "subject"),
        text=documents.text(body, "text", needed=not html),
        html=html,
        campaign=documents.text(body, "campaign", needed=False, longest=200),
        user=documents.text(body, "user", needed=False, longest=320),
        not_before=documents.instant(body, "not_before"),
        expires=documents.instant(body, "expires"),
        strict=documents.switch(body, "strict"),
        files=_files(body.get("files", [])),
        presentation=documents.text(body, "presentation", needed=False, longest=64),
    )


def _files(named: object) -> tuple[str, ...]:
    """The keys of files that go with the mail. Raises `ApiError`."""
    if not isinstance(named, list) or len(named) > MAX_FILES:
        raise ApiError(422, f"files is not a list of {MAX_FILES} keys at most", "", "/files")
    for place, one in enumerate(named):
        if not isinstance(one, str) or not 1 <= len(one) <= 64:
            raise ApiError(422, "is not the key of a file", "", f"/files/{place}")
    return tuple(named)


def _may_send(credential: Credential, wanted: Wanted) -> None:
    try:
        sender = canonical_address(wanted.sender)
    except PermanentError as error:
        raise ApiError(422, "sender is not a mail address", error.public, "/sender") from None
    if why := why_not_as(credential, sender):
        raise ApiError(403, "This token may not send as this sender", f"{why}.", "/sender")


def _check_times(wanted: Wanted, now: datetime) -> None:
    start = max(wanted.not_before or now, now)
    if wanted.not_before is not None and (wanted.not_before - now).days > 366:
        raise ApiError(422, "not_before is more than a year ahead", "", "/not_before")
    if wanted.expires is not None and wanted.expires <= start:
        raise ApiError(422, "expires is before it could be sent", "", "/expires")


async def _user(session: AsyncSession, address: str) -> UUID | None:
    if not address:
        return None
    found = await session.scalar(select(User.id).where(User.email == address.strip().lower()))
    if found is None:
        raise ApiError(422, "No user has this address", "Name a user of the company.", "/user")
    return found


async def _order_all(
    desk: Desk, batch: Batch, wanted: Wanted, user: UUID | None, recipients: Sequence[Any]
) -> None:
    """Orders the parts that are missing, each in a transaction."""
    seen: dict[str, int] = {}
    refusal: ApiError | None = None
    for first in range(0, len(recipients), PART):
        people, refused = _people(recipients[first : first + PART], first, seen)
        try:
            async with desk.sessions.begin(batch.company_id) as session:
                part = await batches.begin_part(session, batch, first)
                if part is None:
                    continue
                results = await _order(session, batch, wanted, user, people, desk.clock())
                results.refused.extend(refused)
                results.refused.sort(key=lambda row: int(row[0]))
                if wanted.strict and results.refused:
                    raise _nobody(results, "Nothing was sent: one of all can't be")
                await batches.end_part(session, part, results)
        except ApiError as error:
            refusal = error
    async with desk.sessions.begin(batch.company_id) as session:
        results = await batches.results_of(session, batch)
        if results.accepted:
            await batches.finish(session, batch, now=desk.clock())
        else:
            await batches.drop(session, batch)
    if not results.accepted:
        raise refusal or _nobody(results, "Nobody can get this message")


def _people(
    rows: Sequence[Any], first: int, seen: dict[str, int]
) -> tuple[list[tuple[int, str, str, dict[str, Any]]], list[Refusal]]:
    """Number, address, name and values of those that can be ordered, and the others."""
    people: list[tuple[int, str, str, dict[str, Any]]] = []
    refused: list[Refusal] = []
    for number, one in enumerate(rows, first):
        at = f"/recipients/{number}"
        try:
            if not isinstance(one, dict):
                raise ApiError(422, "is not an object with an address", "", at)
            documents.only(one, PERSONAL, at)
            try:
                address = canonical_address(documents.text(one, "address", at=at, longest=320))
            except PermanentError as error:
                raise ApiError(422, error.public, "", f"{at}/address") from None
            name = documents.text(one, "name", needed=False, at=at, longest=1000)
            values = one.get("values", {})
            if not isinstance(values, dict):
                raise ApiError(422, "values is not an object", "", f"{at}/values")
            if (other := seen.setdefault(address, number)) != number:
                raise ApiError(422, f"{address} is recipient {other} already", "", f"{at}/address")
            people.append((number, address, name, values))
        except ApiError as error:
            refused.append([number, error.pointer, error.title])
    return people, refused


async def _order(
    session: AsyncSession,
    batch: Batch,
    wanted: Wanted,
    user: UUID | None,
    people: Sequence[tuple[int, str, str, dict[str, Any]]],
    now: datetime,
) -> Results:
    contacts = await ensure_contacts(
        session,
        {address: name for _, address, name, _ in people},
        origin={"by": "api"},
        now=now,
    )
    orders = [
        Order(
            key=f"api:{batch.id}:{number}",
            kind=wanted.kind,
            sender=wanted.sender,
            sender_name=wanted.sender_name,
            recipient=address,
            recipient_name=contacts[address].name,
            subject=wanted.subject,
            text=wanted.text,
            html=wanted.html,
            values={**values, "contact": fields_of(contacts[address])},
            contact_id=contacts[address].id,
            user_id=user,
            campaign=wanted.campaign,
            lane=2 if wanted.kind == "bulk" else 1,
            files=wanted.files,
            presentation=wanted.presentation,
            not_before=wanted.not_before,
            expires=wanted.expires,
        )
        for number, address, _, values in people
    ]
    results = Results([], [])
    done = await submit_many(session, orders, now=now)
    for (number, address, _, _), one in zip(people, done, strict=True):
        if isinstance(one, PermanentError):
            results.refused.append([number, _pointer(number, one.public), one.public])
        else:
            results.accepted.append([number, address, str(one.message.id)])
    return results


def _pointer(number: int, reason: str) -> str:
    """Which field of the request an order's refusal is about."""
    field = reason.partition(":")[0]
    if field == "recipient":
        return f"/recipients/{number}/address"
    if field in {"subject", "text", "html", "sender"}:
        return f"/{field}"
    return f"/recipients/{number}/values" if field == "values" else f"/recipients/{number}"


def _nobody(results: Results, title: str) -> ApiError:
    number, pointer, reason = results.refused[0]
    errors = [{"pointer": at, "detail": why} for _, at, why in results.refused[:MAX_ERRORS]]
    return ApiError(422, title, f"Recipient {number}: {reason}", pointer, errors=errors)


def _answer(batch: Batch, results: Results, replayed: bool) -> Response[Any]:
    body = {
        "batch": str(batch.id),
        "key": batch.key,
        "accepted": [
            {"index": number, "address": address, "id": message}
            for number, address, message in results.accepted
        ],
        "refused": [
            {"index": number, "pointer": pointer, "reason": reason}
            for number, pointer, reason in results.refused
        ],
    }
    headers = {"Location": f"/api/v1/batches/{batch.id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return json_answer(body, 202, headers)


def fields_of(contact: Person) -> dict[str, Any]:
    """What templates know as `contact`."""
    return {
        "name": contact.name,
        "first_name": contact.name.split(" ")[0] if contact.name else "",
        "address": contact.address,
        "organisation": contact.organisation,
        "fields": contact.fields,
    }

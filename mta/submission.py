"""The one door through which the other packages have mail sent.

A send order is written in the caller's transaction: the step, the approval or the campaign row that
causes it and the order appear together or not at all. Its key makes it unique in its company.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mail.address import Address, parse_address
from mail.errors import PermanentError
from mail.ids import uuid7
from mail.tokens import Token
from mta.accounts import domain_of
from mta.template import CompiledTemplate, TemplateKind, digest_of
from storage.sessions import company_of, insert_new
from storage.tables import Delivery, Domain, Message, Template

KINDS = frozenset({"mail", "bulk", "invitation", "answer", "approval", "system"})
PLAIN_KINDS = frozenset({"answer", "approval", "system"})
"""Kinds whose text, without values, is taken as it stands: it may quote what others wrote."""

MAX_VALUES_BYTES = 64 << 10
"""Of one order's values as JSON."""

TRIED_FOR = timedelta(days=5)
"""How long an order without an end is tried (RFC 5321 §4.5.4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to send to whom. `key` is the caller's: the same one again sends nothing.

    `kind`: mail (transactional), bulk (tracked links, unsubscribe headers, footer), invitation,
    answer, approval or system. `lane`: 0 interactive, 1 transactional, 2 bulk. `reply_token` is
    where an answer leads, by default to the message itself. After `expires` it isn't sent any more.
    `spool` is the place of a message that came by SMTP, whose attachments are taken from there;
    `as_is` sends what lies there unchanged (`mta.ready_made`). `parsed` is kept with the message.
    """

    key: str
    kind: str
    sender: str
    sender_name: str
    recipient: str
    recipient_name: str
    subject: str
    text: str
    html: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    contact_id: UUID | None = None
    user_id: UUID | None = None
    campaign: str = ""
    enrolment_id: UUID | None = None
    step_id: str | None = None
    draft_id: UUID | None = None
    answers_id: UUID | None = None
    thread_id: UUID | None = None
    in_reply_to: str = ""
    references: str = ""
    reply_token: Token | None = None
    lane: int = 2
    not_before: datetime | None = None
    expires: datetime | None = None
    spool: dict[str, Any] | None = None
    as_is: bool = False
    literal: bool = False
    parsed: Mapping[str, Any] = field(default_factory=dict)


class _Compiled:
    """The last templates that were compiled in this process, by digest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[str, CompiledTemplate] = OrderedDict()

    def get(self, digest: str, kind: TemplateKind, order: Order) -> CompiledTemplate:
        made = self._kept.pop(digest, None)
        if made is None:
            made = CompiledTemplate(kind, order.subject, order.text, order.html)
        self._kept[digest] = made
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return made


_compiled = _Compiled(64)


async def submit(session: AsyncSession, order: Order, *, now: datetime) -> Message:
    """Writes the order into the session's transaction and returns its message.

    The same key again returns the message that is there and changes nothing. Raises
    `PermanentError` saying which field of the order is wrong.
    """
    company = company_of(session)
    existing = await find_order(session, order.key)
    if existing is not None:
        return existing
    sender, recipient = _address(order.sender, "sender"), _address(order.recipient, "recipient")
    kind, values = _checked(order)
    domain = await domain_of(session, sender.canonical)
    if domain is None:
        raise PermanentError(
            f"sender: {sender.domain} is not a domain of this company. Add it with "
            "`waypost domain add` or use another sender."
        )
    template_id: UUID | None = None
    if order.as_is:
        if order.spool is None:
            raise PermanentError("spool: mail that goes out as it is needs its place.")
        subject = _one_line(order.subject)
    else:
        digest = digest_of(kind, order.subject, order.text, order.html, order.spool)
        compiled = _compiled.get(digest, kind, order)
        subject = compiled.check(values)
        template_id = await _template(session, digest, kind, order, compiled, now)
    key = uuid7()
    message = {
        "id": key,
        "direction": "out",
        "kind": order.kind,
        "order_key": order.key,
        "contact_id": order.contact_id,
        "user_id": order.user_id,
        "template_id": template_id,
        "values": values,
        "campaign": order.campaign,
        "enrolment_id": order.enrolment_id,
        "step_id": order.step_id,
        "draft_id": order.draft_id,
        "answers_id": order.answers_id,
        "thread_id": order.thread_id or key,
        "sender": f"{sender.local}@{sender.domain}",
        "sender_name": _one_line(order.sender_name),
        "recipient": str(recipient),
        "recipient_name": _one_line(order.recipient_name),
        "subject": subject,
        "rfc_message_id": rfc_message_id(key, domain),
        "references": _references(order),
        "parsed": {**_kept_token(order.reply_token), **order.parsed},
        "spool": order.spool,
        "created_at": now,
    }
    if not await insert_new(session, Message, [message], unless=["company_id", "order_key"]):
        existing = await find_order(session, order.key)  # Another process was quicker.
        assert existing is not None
        return existing
    start = max(order.not_before or now, now)
    session.add(
        Delivery(
            company_id=company,
            message_id=key,
            recipient=str(recipient),
            destination=destination_of(recipient),
            lane=min(max(order.lane, 0), 2),
            state="queued",
            due_at=start,
            expires_at=order.expires or start + TRIED_FOR,
            created_at=now,
        )
    )
    await publish(
        session,
        Kind.MESSAGE_QUEUED,
        contact=order.contact_id,
        message=key,
        enrolment=order.enrolment_id,
        user=order.user_id,
        occurred_at=now,
        message_kind=order.kind,
        campaign=order.campaign,
    )
    return (await session.scalars(select(Message).where(Message.id == key))).one()


async def find_order(session: AsyncSession, key: str) -> Message | None:
    """The message of the session's company that was ordered with this key."""
    found = select(Message).where(
        Message.company_id == company_of(session), Message.order_key == key
    )
    return (await session.scalars(found)).one_or_none()


def rfc_message_id(key: UUID, domain: Domain) -> str:
    """A Message-ID that follows from the message's key, so that a repeat has the same."""
    return f"<{key}@{domain.name}>"


def destination_of(recipient: Address) -> str:
    """The domain that mail goes to, as DNS has it."""
    try:
        return recipient.domain.encode("idna").decode("ascii")
    except UnicodeError:
        raise PermanentError(f"recipient: {recipient.domain} is not a domain name.") from None


def _checked(order: Order) -> tuple[TemplateKind, dict[str, Any]]:
    if not order.key or len(order.key) > 300:
        raise PermanentError("key: must have 1 to 300 characters.")
    if order.kind not in KINDS:
        raise PermanentError(f'kind: "{order.kind}" is none of {", ".join(sorted(KINDS))}.')
    try:
        written = json.dumps(dict(order.values))
    except (TypeError, ValueError) as error:
        raise PermanentError(f"values: can't be kept as JSON: {error}.") from None
    if len(written) > MAX_VALUES_BYTES:
        raise PermanentError(f"values: are larger than {MAX_VALUES_BYTES >> 10} KiB.")
    values: dict[str, Any] = json.loads(written)
    plain = order.literal or (order.kind in PLAIN_KINDS and not values)
    return TemplateKind(bulk=order.kind in {"bulk", "invitation"}, literal=plain), values


async def _template(
    session: AsyncSession,
    digest: str,
    kind: TemplateKind,
    order: Order,
    compiled: CompiledTemplate,
    now: datetime,
) -> UUID:
    found = select(Template.id).where(
        Template.company_id == company_of(session), Template.digest == digest
    )
    existing = await session.scalar(found)
    if existing is not None:
        return existing
    row = {
        "digest": digest,
        "subject": order.subject,
        "text": order.text,
        "html": order.html,
        "headers": kind.kept(),
        "links": compiled.links,
        "spool": order.spool,
        "created_at": now,
    }
    await insert_new(session, Template, [row], unless=["company_id", "digest"])
    made = await session.scalar(found)
    assert made is not None
    return made


def _address(text: str, field_name: str) -> Address:
    parsed = parse_address(text)
    if parsed is None:
        raise PermanentError(f'{field_name}: "{text[:100]}" is not a mail address.')
    return parsed


def _references(order: Order) -> str:
    """The ids of the conversation, oldest first; the last is the one that is answered.

    Long threads keep the first and the newest (RFC 5322 §3.6.4 leaves the length open).
    """
    ids = [part for part in order.references.split() if _is_message_id(part)]
    answered = order.in_reply_to.strip()
    if _is_message_id(answered):
        ids = [part for part in ids if part != answered] + [answered]
    return " ".join(ids if len(ids) <= 20 else ids[:1] + ids[-19:])


def _is_message_id(text: str) -> bool:
    return text.startswith("<") and text.endswith(">") and text.isascii() and 3 < len(text) < 250


def _kept_token(token: Token | None) -> dict[str, Any]:
    if token is None:
        return {}
    kept = [int(token.kind), token.company, str(token.subject), token.slot]
    return {"reply_token": kept}


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return "".join(c for c in line if c.isprintable())[:200]

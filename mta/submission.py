"""The one door through which the other packages have mail sent.

A send order is written in the caller's transaction: the step, the approval or the campaign row that
causes it and the order appear together or not at all. Its key makes it unique in its company.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish_many
from mail.address import Address, parse_address
from mail.errors import PermanentError
from mail.ids import uuid7
from mail.tokens import Token
from mta.enclosures import NOTHING, Enclosures, Shelf, shelf_for
from mta.outbound import Outbound, load_outbound, outbound_of
from mta.preferences import BULK_KINDS
from mta.template import CompiledTemplate, TemplateKind, digest_of
from storage.bulk import insert_many
from storage.sessions import company_of
from storage.tables import Company, Delivery, Domain, Message, Template

KINDS = frozenset({"mail", "bulk", "invitation", "answer", "approval", "system"})
PLAIN_KINDS = frozenset({"answer", "approval", "system"})
"""Kinds whose text, without values, is taken as it stands: it may quote what others wrote."""

MAX_VALUES_BYTES = 64 << 10
"""Of one order's values as JSON."""

IN_ONE_QUERY = 500
"""Values of one IN list."""

TRIED_FOR = timedelta(days=5)
"""How long an order without an end is tried (RFC 5321 §4.5.4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to send to whom. `key` is the caller's: the same one again sends nothing.

    `kind`: mail (transactional), bulk (tracked links, unsubscribe headers, footer), invitation,
    answer, approval or system. `lane`: 0 interactive, 1 transactional, 2 bulk. `reply_token` is
    where an answer leads, by default to the message itself. After `expires` it isn't sent any more.
    `spool` is the place of a message that came by SMTP, whose attachments are taken from there;
    `as_is` sends its body unchanged. `files` and `presentation` are keys of the company's files
    that go with it and of the page that it leads to (`mta.enclosures`). `parsed` is
    kept with the message: `envelope` for instance.
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
    files: tuple[str, ...] = ()
    presentation: str = ""
    parsed: Mapping[str, Any] = field(default_factory=dict)


class _Compiled:
    """The last templates that were compiled in this process, by digest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[str, CompiledTemplate] = OrderedDict()

    def get(
        self, digest: str, kind: TemplateKind, order: Order, enclosures: Enclosures
    ) -> CompiledTemplate:
        made = self._kept.pop(digest, None)
        if made is None:
            made = CompiledTemplate(kind, order.subject, order.text, order.html, enclosures)
        self._kept[digest] = made
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return made


_compiled = _Compiled(64)


@dataclass(frozen=True, slots=True)
class Submitted:
    """An order that is in the tables. `new` is false if its key was there before.

    `delivery_id` is None for such, and `claimed` says that the delivery was claimed at once.
    """

    message: Outbound
    new: bool
    delivery_id: UUID | None = None
    destination: str = ""
    expires_at: datetime | None = None
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class Claiming:
    """How deliveries are claimed in the transaction that makes them.

    `wants` says for an order's destination whether it can be handed over at once; `fence` names
    the claim (see `mta.queue`), which lasts until `until`; a crash has it tried again at `again`.
    """

    wants: Callable[[Order, str], bool]
    fence: str
    until: datetime
    again: datetime


async def submit(session: AsyncSession, order: Order, *, now: datetime) -> Message:
    """Writes the order into the session's transaction and returns its message.

    The same key again returns the message that is there and changes nothing. Raises
    `PermanentError` saying which field of the order is wrong.
    """
    (done,) = await submit_many(session, [order], now=now)
    if isinstance(done, PermanentError):
        raise done
    return (await session.scalars(select(Message).where(Message.id == done.message.id))).one()


async def submit_many(
    session: AsyncSession,
    orders: Sequence[Order],
    *,
    now: datetime,
    claiming: Claiming | None = None,
    domains: Sequence[Domain] | None = None,
    new: bool = False,
) -> list[Submitted | PermanentError]:
    """Writes orders of the session's company in few statements, however many they are.

    What comes back stands in the order of `orders`: what was written, what was there before under
    the same key, or what is wrong with it; a wrong one does not keep the others back. Who has the
    company's `domains` at hand, or knows that all keys are `new`, spares a query each.
    """
    known = {} if new else await _known(session, [order.key for order in orders])
    domains = await _domains(session) if domains is None else domains
    nowhere = await _lacks_postal_address(session, orders)
    shelf = await shelf_for(
        session,
        [key for order in orders for key in order.files],
        [order.presentation for order in orders],
    )
    results: list[Submitted | PermanentError | None] = [None] * len(orders)
    fresh: list[tuple[int, Order, _Checked]] = []
    taken: set[str] = set()
    for place, order in enumerate(orders):
        if order.key in known or order.key in taken:
            continue
        try:
            if nowhere and order.kind in BULK_KINDS:
                raise PermanentError(
                    "kind: bulk mail needs the company's postal address in its footer. Give it "
                    f'with `waypost company bulk "{nowhere}" --postal-address "…"`.'
                )
            fresh.append((place, order, _check(order, domains, shelf, now)))
            taken.add(order.key)
        except PermanentError as error:
            results[place] = error
    templates = await _templates(session, [(order, made) for _, order, made in fresh], now)
    made = [
        (place, order, _rows(session, order, checked, templates, claiming, now))
        for place, order, checked in fresh
    ]
    await insert_many(
        session,
        Message,
        [message for _, _, (message, _) in made],
        unless=["company_id", "order_key"],
    )
    if (
        not new and session.get_bind().dialect.name != "sqlite"
    ):  # There another process may have been quicker.
        written = await _known(session, [order.key for _, order, _ in made])
        mine = {message.id for message in written.values()}
        known |= written
        made = [row for row in made if row[2][0]["id"] in mine]
    await insert_many(session, Delivery, [delivery for _, _, (_, delivery) in made])
    await publish_many(
        session,
        Kind.MESSAGE_QUEUED,
        [_queued(message) for _, _, (message, _) in made],
        occurred_at=now,
    )
    for place, order, (message, delivery) in made:
        done = Submitted(
            outbound_of(message),
            True,
            delivery["id"],
            delivery["destination"],
            delivery["expires_at"],
            delivery["state"] == "sending",
        )
        results[place] = done
        known[order.key] = done.message
    return [
        result if result is not None else Submitted(known[orders[place].key], False)
        for place, result in enumerate(results)
    ]


@dataclass(frozen=True, slots=True)
class _Checked:
    """What an order comes to. `digest` is empty if it goes out as it was submitted."""

    sender: Address
    recipient: Address
    domain: Domain
    subject: str
    values: dict[str, Any]
    destination: str
    digest: str = ""
    kind: TemplateKind | None = None
    compiled: CompiledTemplate | None = None


def _check(order: Order, domains: Sequence[Domain], shelf: Shelf, now: datetime) -> _Checked:
    sender, recipient = _address(order.sender, "sender"), _address(order.recipient, "recipient")
    kind, values = _checked(order)
    domain = best_domain(domains, sender.domain)
    if domain is None:
        raise PermanentError(
            f"sender: {sender.domain} is not a domain of this company. Add it with "
            "`waypost domain add` or use another sender."
        )
    destination = destination_of(recipient)
    if order.as_is:
        if order.spool is None:
            raise PermanentError("spool: mail that goes out as it is needs its place.")
        subject = _one_line(order.subject)[:900]
        return _Checked(sender, recipient, domain, subject, values, destination)
    enclosures = NOTHING
    if order.files or order.presentation:
        if order.spool is not None:
            raise PermanentError("files: mail that came by SMTP has its attachments with it.")
        enclosures = shelf.enclosures(order.files, order.presentation, order.html, now=now)
    digest = digest_of(kind, order.subject, order.text, order.html, order.spool, enclosures)
    compiled = _compiled.get(digest, kind, order, enclosures)
    subject = compiled.check(values)
    return _Checked(sender, recipient, domain, subject, values, destination, digest, kind, compiled)


def _rows(
    session: AsyncSession,
    order: Order,
    checked: _Checked,
    templates: Mapping[str, UUID],
    claiming: Claiming | None,
    now: datetime,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of message and delivery."""
    key, recipient = uuid7(), str(checked.recipient)
    message = {
        "id": key,
        "company_id": company_of(session),
        "direction": "out",
        "kind": order.kind,
        "order_key": order.key,
        "contact_id": order.contact_id,
        "user_id": order.user_id,
        "template_id": templates[checked.digest] if checked.digest else None,
        "values": checked.values,
        "campaign": order.campaign,
        "enrolment_id": order.enrolment_id,
        "step_id": order.step_id,
        "draft_id": order.draft_id,
        "answers_id": order.answers_id,
        "thread_id": order.thread_id or key,
        "sender": str(checked.sender),
        "sender_name": _one_line(order.sender_name),
        "recipient": recipient,
        "recipient_name": _one_line(order.recipient_name),
        "subject": checked.subject,
        "rfc_message_id": rfc_message_id(key, checked.domain),
        "references": _references(order),
        "parsed": {**_kept_token(order.reply_token), **order.parsed},
        "spool": order.spool,
        "created_at": now,
    }
    start = max(order.not_before or now, now)
    delivery: dict[str, Any] = {
        "id": uuid7(),
        "message_id": key,
        "recipient": recipient,
        "destination": checked.destination,
        "lane": min(max(order.lane, 0), 2),
        "state": "queued",
        "due_at": start,
        "expires_at": order.expires or start + TRIED_FOR,
        "created_at": now,
    }
    if claiming is not None and start <= now and claiming.wants(order, checked.destination):
        delivery |= {
            "state": "sending",
            "attempts": 1,
            "due_at": claiming.again,
            "claimed_by": claiming.fence,
            "claimed_until": claiming.until,
        }
    return message, delivery


def _queued(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "contact_id": message["contact_id"],
        "message_id": message["id"],
        "enrolment_id": message["enrolment_id"],
        "user_id": message["user_id"],
        "payload": {"message_kind": message["kind"], "campaign": message["campaign"]},
    }


async def _known(session: AsyncSession, keys: Sequence[str]) -> dict[str, Outbound]:
    """The messages that were ordered with these keys, by key."""
    found: dict[str, UUID] = {}
    for start in range(0, len(keys), IN_ONE_QUERY):
        rows = await session.execute(
            select(Message.order_key, Message.id).where(
                Message.company_id == company_of(session),
                Message.order_key.in_(keys[start : start + IN_ONE_QUERY]),
            )
        )
        found.update({key: identity for key, identity in rows if key is not None})
    messages = await load_outbound(session, list(found.values()))
    return {key: messages[identity] for key, identity in found.items()}


async def _domains(session: AsyncSession) -> Sequence[Domain]:
    return (await session.scalars(select(Domain))).all()


def best_domain(domains: Sequence[Domain], host: str) -> Domain | None:
    """The company's domain that a host belongs to: itself or the nearest one above it."""
    host = host.lower()
    fitting = [d for d in domains if host == d.name or host.endswith(f".{d.name}")]
    return max(fitting, key=lambda one: len(one.name), default=None)


async def _templates(
    session: AsyncSession, orders: Sequence[tuple[Order, _Checked]], now: datetime
) -> dict[str, UUID]:
    """The ids of the templates by digest; those that are not there are made."""
    wanted = {made.digest: (order, made) for order, made in orders if made.digest}
    if not wanted:
        return {}

    async def found() -> dict[str, UUID]:
        rows = await session.execute(
            select(Template.digest, Template.id).where(
                Template.company_id == company_of(session), Template.digest.in_(list(wanted))
            )
        )
        return {row.digest: row.id for row in rows}

    known = await found()
    rows = [
        {
            "digest": digest,
            "subject": order.subject,
            "text": order.text,
            "html": order.html,
            "headers": {**made.kind.kept(), **made.compiled.enclosures.kept()},
            "links": made.compiled.links,
            "spool": order.spool,
            "created_at": now,
        }
        for digest, (order, made) in wanted.items()
        if digest not in known and made.kind is not None and made.compiled is not None
    ]
    if not rows:
        return known
    await insert_many(session, Template, rows, unless=["company_id", "digest"])
    return await found()


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
    return TemplateKind(bulk=order.kind in BULK_KINDS, literal=plain), values


async def _lacks_postal_address(session: AsyncSession, orders: Sequence[Order]) -> str:
    """The name of the company if its bulk mail can't say where it is, which laws ask for.

    CAN-SPAM §5(a)(5)(A)(iii); the TMG and others in Europe ask for as much.
    """
    if all(order.kind not in BULK_KINDS for order in orders):
        return ""
    found = select(Company.postal_address, Company.name).where(Company.id == company_of(session))
    address, name = (await session.execute(found)).one()
    return "" if address.strip() else name


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

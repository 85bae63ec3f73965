"""The last gate: whether a message may still be sent, asked in the transaction that claims it.

Between the order and the sending hours or days may pass in which somebody unsubscribes, answers
with no, or becomes a customer. What the gate refuses is skipped for good and never tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mta.outbound import Outbound, load_outbound
from mta.preferences import Wishes, refusal, wishes_for, with_scopes
from mta.recipients import forms_of
from storage.bulk import read_rows
from storage.sessions import company_of
from storage.tables import Consent, Contact, Enrolment, Suppression

IN_ONE_QUERY = 500
"""Values of one IN list."""

OWN_KINDS = frozenset({"approval", "system"})
"""Mail to the company's own people, who can't unsubscribe from their work."""

FOLLOW_UP_KINDS = frozenset({"mail", "bulk"})
"""Kinds that a sequence sends; they stop when the enrolment was stopped."""

FINISHED = frozenset({"", "completed", "complete", "finished", "done", "end"})
"""Reasons of an enrolment that came to its own end, whose last mail still goes out."""


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the decision rests on. `consent` is None if the company had the address itself."""

    kind: str
    suppressed: str | None
    consent: str | None
    answers: bool
    enrolment_ended: str | None
    expires_at: datetime
    attempts: int
    wishes: Wishes | None = None


def decide(facts: GateFacts, *, now: datetime) -> str:
    """Empty if the message may go, otherwise why it may not.

    Whoever wrote to us may be answered even if nobody has their consent to be written to first.
    """
    if facts.expires_at <= now and not facts.attempts:
        return "expired"
    if facts.kind in OWN_KINDS:
        return ""
    if facts.suppressed is not None:
        return f"suppressed: {facts.suppressed}"
    asked_by_them = facts.kind == "answer" and facts.answers
    if facts.consent == "refused":
        return "consent refused"
    if facts.consent == "needed" and not asked_by_them and facts.kind != "invitation":
        return "consent needed"
    ended = facts.enrolment_ended
    if ended is not None and ended not in FINISHED and facts.kind in FOLLOW_UP_KINDS:
        return f"sequence ended: {ended}"
    return refusal(facts.wishes, now=now) if facts.wishes is not None else ""


class Due(Protocol):
    """What the gate has to know of a delivery."""

    @property
    def id(self) -> UUID: ...
    @property
    def company_id(self) -> UUID: ...
    @property
    def message_id(self) -> UUID: ...
    @property
    def recipient(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def expires_at(self) -> datetime: ...


async def facts_for(
    session: AsyncSession, deliveries: Sequence[Due], *, now: datetime
) -> dict[UUID, tuple[GateFacts, Outbound]]:
    """The facts about these deliveries, by their ids, with few queries for all together."""
    if not deliveries:
        return {}
    ids = [delivery.message_id for delivery in deliveries]
    messages = await load_outbound(session, ids)
    addresses = {form for delivery in deliveries for form in forms_of(delivery.recipient)}
    suppressed: dict[tuple[UUID, str], dict[str, str]] = {}
    for company, address, scope, reason in await session.execute(
        select(
            Suppression.company_id, Suppression.address, Suppression.scope, Suppression.reason
        ).where(Suppression.address.in_(addresses))
    ):
        suppressed.setdefault((company, address), {})[scope] = reason
    wishes = await wishes_for(session, list(messages.values()), now=now)
    contacts = {m.contact_id for m in messages.values() if m.contact_id is not None}
    consents: dict[UUID, str] = {}
    if contacts:
        rows = select(Consent.contact_id, Consent.state).where(Consent.contact_id.in_(contacts))
        consents = {row.contact_id: row.state for row in await session.execute(rows)}
    enrolments = {m.enrolment_id for m in messages.values() if m.enrolment_id is not None}
    ended: dict[UUID, str] = {}
    if enrolments:
        over = select(Enrolment.id, Enrolment.reason).where(
            Enrolment.id.in_(enrolments), Enrolment.state == "ended"
        )
        ended = {row.id: row.reason for row in await session.execute(over)}
    facts = {}
    for delivery in deliveries:
        message = messages[delivery.message_id]
        contact, enrolment = message.contact_id, message.enrolment_id
        stops: dict[str, str] = {}
        for form in reversed(forms_of(delivery.recipient)):
            stops.update(suppressed.get((delivery.company_id, form), {}))
        wished = wishes.get(message.id)
        decided = GateFacts(
            kind=message.kind,
            suppressed=stops.get(""),
            consent=consents.get(contact) if contact else None,
            answers=message.answers_id is not None,
            enrolment_ended=ended.get(enrolment) if enrolment else None,
            expires_at=delivery.expires_at,
            attempts=delivery.attempts,
            wishes=with_scopes(wished, stops) if wished else None,
        )
        facts[delivery.id] = (decided, message)
    return facts


async def barred_of(session: AsyncSession, addresses: Sequence[str]) -> set[str]:
    """Those of the session's company's canonical addresses that the gate has to look at."""
    barred: set[str] = set()
    company = company_of(session)
    for start in range(0, len(addresses), IN_ONE_QUERY):
        some = addresses[start : start + IN_ONE_QUERY]
        forms: dict[str, list[str]] = {}
        for address in some:
            for form in forms_of(address):
                forms.setdefault(form, []).append(address)
        stop, consent, contact = (
            Suppression.__table__.c,
            Consent.__table__.c,
            Contact.__table__.c,
        )
        stopped = await read_rows(
            session,
            select(stop.address).where(stop.company_id == company, stop.address.in_(list(forms))),
        )
        barred.update(address for row in stopped for address in forms[row.address])
        not_given = await read_rows(
            session,
            select(contact.address)
            .join(Consent.__table__, consent.contact_id == contact.id)
            .where(
                contact.company_id == company,
                contact.address.in_(some),
                consent.state != "given",
            ),
        )
        barred.update(row.address for row in not_given)
    return barred

"""Turns what recipients do into leads: forwards into clusters, invitations into consent or not.

Somebody whose address we were given by another person is not written to until they agree
(`Consent`); somebody whom the company knew already keeps what was agreed with the company. Every
handler may see an event twice: rows have keys of their own, and warmth remembers its events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Agent, Kind, publish
from bus.stations import Station
from leads.warmth import Sign, sign_of_intent, warmth, with_sign
from mail.address import Address, parse_address
from mail.ids import uuid7
from mta.recipients import ensure_contact, is_suppressed
from storage.sessions import insert_new
from storage.tables import Cluster, Consent, Contact, Domain, Event, Lead, Referral, User

log = structlog.get_logger()

KINDS = frozenset(
    {
        Kind.FORWARD_RECEIVED,
        Kind.FORM_FORWARDED,
        Kind.CONSENT_GIVEN,
        Kind.CONSENT_REFUSED,
        Kind.CLICKED,
        Kind.REPLY_READ,
        Kind.UNSUBSCRIBED,
        Kind.DELIVERY_BOUNCED,
        Kind.BOUNCE_RECEIVED,
    }
)

MAX_PEOPLE = 50
"""Of one forward; a longer list is somebody's address book and not a recommendation."""

MAX_NOTE = 2_000


def stations(clock: Callable[[], datetime]) -> list[Station]:
    """The one reader of the stream that makes leads."""

    async def handle(session: AsyncSession, event: Event) -> None:
        await advance(session, event, now=clock())

    return [Station("leads", KINDS, handle)]


async def advance(session: AsyncSession, event: Event, *, now: datetime) -> None:
    """What one event means for leads."""
    match event.kind:
        case Kind.FORWARD_RECEIVED:
            await _passed_on(session, event, "mail", now)
        case Kind.FORM_FORWARDED:
            await _passed_on(session, event, "form", now)
        case Kind.CONSENT_GIVEN:
            await _agreed(session, event, now)
        case Kind.CONSENT_REFUSED:
            await _refused(session, event, now)
        case Kind.CLICKED if event.agent == Agent.HUMAN:
            await _warm(session, event, "click", now)
        case Kind.REPLY_READ if not event.payload.get("abstain"):
            await _warm(session, event, sign_of_intent(str(event.payload.get("top", ""))), now)
        case Kind.UNSUBSCRIBED:
            await _warm(session, event, "unsubscribed", now)
        case Kind.BOUNCE_RECEIVED | Kind.DELIVERY_BOUNCED if event.payload.get("hard"):
            await _warm(session, event, "bounced", now)


@dataclass(frozen=True, slots=True)
class _Invited:
    address: Address
    name: str
    origin: dict[str, Any]


async def _passed_on(session: AsyncSession, event: Event, mode: str, now: datetime) -> None:
    inviter = await session.get(Contact, event.contact_id) if event.contact_id else None
    if inviter is None:
        return
    note = str(event.payload.get("note") or "")[:MAX_NOTE]
    own = await _own_domains(session)
    place: tuple[Cluster, int] | None = None
    for person in _people(event.payload.get("people")):
        passed_over = await _not_a_lead(session, person, inviter, own)
        if passed_over:
            log.info("lead.passed_over", event_id=str(event.id), reason=passed_over)
            continue
        place = place or await _place_of(session, inviter, now)
        await _invite(session, event, inviter, person, mode, note, place, now)
    if place is not None:
        await _warm(session, event, "forward", now)


def _people(found: Any) -> Iterator[_Invited]:
    seen: set[str] = set()
    for person in found if isinstance(found, list) else []:
        if not isinstance(person, dict) or len(seen) >= MAX_PEOPLE:
            continue
        address = parse_address(str(person.get("address") or ""))
        if address is None or address.canonical in seen:
            continue
        seen.add(address.canonical)
        origin = person.get("origin")
        how = origin if isinstance(origin, dict) else {"found": str(origin or "form")}
        yield _Invited(address, str(person.get("name") or "")[:200], how)


async def _own_domains(session: AsyncSession) -> frozenset[str]:
    rows = (await session.execute(select(Domain.name, Domain.reply_domain))).all()
    return frozenset(name for row in rows for name in row)


async def _not_a_lead(
    session: AsyncSession, person: _Invited, inviter: Contact, own: frozenset[str]
) -> str:
    """Why this person is passed over, or nothing."""
    address = person.address.canonical
    if address == inviter.address:
        return "passed on to oneself"
    if person.address.domain in own:
        return "one of the company's own addresses"
    ours = select(User.id).where(User.email == address)
    if (await session.scalars(ours.limit(1))).first() is not None:
        return "one of the company's own people"
    if await is_suppressed(session, address):
        return "suppressed"
    return ""


async def _place_of(session: AsyncSession, inviter: Contact, now: datetime) -> tuple[Cluster, int]:
    """The cluster that this person belongs to, and the generation of those they invite."""
    above = select(Referral).where(Referral.invitee_id == inviter.id)
    above = above.order_by(Referral.generation, Referral.created_at, Referral.id).limit(1)
    edge = (await session.scalars(above)).first()
    if edge is not None:
        return await session.get_one(Cluster, edge.cluster_id), edge.generation + 1
    row = {"id": uuid7(), "root_id": inviter.id, "created_at": now}
    await insert_new(session, Cluster, [row], unless=["company_id", "root_id"])
    cluster = select(Cluster).where(Cluster.root_id == inviter.id)
    return (await session.scalars(cluster)).one(), 1


async def _invite(
    session: AsyncSession,
    event: Event,
    inviter: Contact,
    person: _Invited,
    mode: str,
    note: str,
    place: tuple[Cluster, int],
    now: datetime,
) -> None:
    cluster, generation = place
    known = select(Contact).where(Contact.address == person.address.canonical)
    contact = (await session.scalars(known)).first()
    was_given = contact is not None and not _came_by_referral(contact)
    if contact is None:
        contact = await ensure_contact(
            session,
            str(person.address),
            name=person.name,
            owner=inviter.owner_id,
            origin={
                "by": "referral",
                "mode": mode,
                "inviter": str(inviter.id),
                "message": str(event.message_id) if event.message_id else None,
                **person.origin,
            },
            now=now,
        )
    if not was_given:
        evidence = {"inviter": str(inviter.id), "mode": mode, "event": str(event.id)}
        needed = {
            "id": uuid7(),
            "contact_id": contact.id,
            "state": "needed",
            "evidence": evidence,
            "changed_at": now,
        }
        await insert_new(session, Consent, [needed], unless=["company_id", "contact_id"])
    edge = {
        "id": uuid7(),
        "cluster_id": cluster.id,
        "inviter_id": inviter.id,
        "invitee_id": contact.id,
        "message_id": event.message_id,
        "mode": mode,
        "origin": person.origin,
        "generation": generation,
        "note": note,
        "created_at": now,
    }
    await insert_new(session, Referral, [edge], unless=["company_id", "inviter_id", "invitee_id"])
    await _lead_of(session, event, contact, cluster, inviter, now)


def _came_by_referral(contact: Contact) -> bool:
    """Whether another person gave us this address, also where the web form noted it first."""
    origin = contact.origin or {}
    return "inviter" in origin or origin.get("by") == "referral" or "referral" in origin


async def _lead_of(
    session: AsyncSession,
    event: Event,
    contact: Contact,
    cluster: Cluster | None,
    inviter: Contact | None,
    now: datetime,
) -> Lead:
    sign = Sign("invited" if inviter else "consent", event.occurred_at, f"{event.id}:invited")
    row = {
        "id": uuid7(),
        "contact_id": contact.id,
        "cluster_id": cluster.id if cluster else None,
        "source": "forward" if inviter else "consent",
        "status": "new",
        "owner_id": contact.owner_id or (inviter.owner_id if inviter else None),
        "warmth": warmth([sign], now=now),
        "reasons": [sign.to_json()],
        "created_at": now,
    }
    added = await insert_new(session, Lead, [row], unless=["company_id", "contact_id"])
    lead = (await session.scalars(select(Lead).where(Lead.contact_id == contact.id))).one()
    if added:
        await publish(
            session,
            Kind.LEAD_APPEARED,
            lead=lead.id,
            contact=contact.id,
            message=event.message_id,
            user=lead.owner_id,
            occurred_at=event.occurred_at,
            cluster=cluster.id if cluster else None,
            inviter=inviter.id if inviter else None,
        )
    return lead


async def _agreed(session: AsyncSession, event: Event, now: datetime) -> None:
    contact = await session.get(Contact, event.contact_id) if event.contact_id else None
    if contact is None or not await _decide(session, event, contact, "given"):
        return
    above = select(Referral).where(Referral.invitee_id == contact.id)
    above = above.order_by(Referral.generation, Referral.created_at, Referral.id).limit(1)
    edge = (await session.scalars(above)).first()
    cluster = await session.get(Cluster, edge.cluster_id) if edge else None
    inviter = await session.get(Contact, edge.inviter_id) if edge else None
    lead = await _lead_of(session, event, contact, cluster, inviter, now)
    await _warm(session, event, "consent", now)
    await session.execute(
        update(Lead)
        .where(Lead.id == lead.id, Lead.status == "lost")
        .values(status="new")
        .execution_options(synchronize_session=False)
    )
    await publish(
        session,
        Kind.LEAD_CONSENTED,
        lead=lead.id,
        contact=contact.id,
        message=event.message_id,
        user=lead.owner_id,
        occurred_at=event.occurred_at,
        cluster=lead.cluster_id,
        inviter=inviter.id if inviter else None,
    )


async def _refused(session: AsyncSession, event: Event, now: datetime) -> None:
    contact = await session.get(Contact, event.contact_id) if event.contact_id else None
    if contact is None or not await _decide(session, event, contact, "refused"):
        return
    await _warm(session, event, "refused", now)
    await session.execute(
        update(Lead)
        .where(Lead.contact_id == contact.id, Lead.status.in_(("new", "open")))
        .values(status="lost")
        .execution_options(synchronize_session=False)
    )


async def _decide(session: AsyncSession, event: Event, contact: Contact, state: str) -> bool:
    """Writes the person's own decision; false if it is known, or they have decided later."""
    evidence = event.payload.get("evidence")
    values = {
        "state": state,
        "wording": str(event.payload.get("wording") or _wording(evidence)),
        "evidence": {
            **(evidence if isinstance(evidence, dict) else {}),
            "event": str(event.id),
        },
        "changed_at": event.occurred_at,
    }
    row = {"id": uuid7(), "contact_id": contact.id, **values}
    if await insert_new(session, Consent, [row], unless=["company_id", "contact_id"]):
        return True
    moved = await session.execute(
        update(Consent)
        .where(
            Consent.contact_id == contact.id,
            Consent.state != state,
            # `needed` is ours and not theirs: it never outlives a decision, whatever the clock.
            or_(Consent.state == "needed", Consent.changed_at <= event.occurred_at),
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return bool(getattr(moved, "rowcount", 0))


def _wording(evidence: Any) -> str:
    return str(evidence.get("wording") or "") if isinstance(evidence, dict) else ""


async def _warm(session: AsyncSession, event: Event, kind: str, now: datetime) -> None:
    """Adds a sign to the lead of the event's contact, if that person is one."""
    if event.contact_id is None:
        return
    lead = (await session.scalars(_lead_with(event.contact_id))).first()
    if lead is None:
        return
    reasons = with_sign(lead.reasons, Sign(kind, event.occurred_at, str(event.id)))
    if reasons is None:
        return
    score = warmth([Sign.from_json(reason) for reason in reasons], now=now)
    await session.execute(
        update(Lead)
        .where(Lead.id == lead.id)
        .values(warmth=score, reasons=reasons)
        .execution_options(synchronize_session=False)
    )


def _lead_with(contact_id: UUID) -> Any:
    return (
        select(Lead)
        .where(Lead.contact_id == contact_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )

"""Leads, and the clusters of who passed our mail on to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from leads.cluster import Edge, Generation, Picture, growth, picture
from storage.tables import Cluster, Consent, Contact, Lead, Referral

PAGE = 100


@dataclass(frozen=True, slots=True)
class LeadRow:
    """One lead of the list."""

    lead: Lead
    contact: Contact
    consent: str


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """One cluster of the list."""

    cluster: Cluster
    root: Contact
    people: int


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster with its picture."""

    root: Contact
    picture: Picture[UUID]
    growth: list[Generation]
    contacts: dict[UUID, Contact]
    referrals: Sequence[tuple[Referral, Contact, Contact, str]]


async def all_leads(session: AsyncSession, *, before: UUID | None) -> list[LeadRow]:
    """Leads, newest first."""
    query = (
        select(Lead, Contact, Consent.state)
        .join(Contact, Contact.id == Lead.contact_id)
        .outerjoin(Consent, Consent.contact_id == Lead.contact_id)
        .order_by(Lead.id.desc())
        .limit(PAGE + 1)
    )
    if before is not None:
        query = query.where(Lead.id < before)
    rows = await session.execute(query)
    return [LeadRow(lead, contact, consent or "given") for lead, contact, consent in rows]


async def clusters(session: AsyncSession) -> list[ClusterRow]:
    """Clusters, the largest first."""
    size = func.count(Referral.id)
    query = (
        select(Cluster, Contact, size)
        .join(Contact, Contact.id == Cluster.root_id)
        .outerjoin(Referral, Referral.cluster_id == Cluster.id)
        .group_by(Cluster.id, Contact.id)
        .order_by(size.desc(), Cluster.id)
        .limit(PAGE)
    )
    return [ClusterRow(c, r, n + 1) for c, r, n in (await session.execute(query))]


async def cluster(session: AsyncSession, cluster_id: UUID) -> ClusterView | None:
    """One cluster; None if this company has no such cluster."""
    found = await session.get(Cluster, cluster_id)
    if found is None:
        return None
    rows = (
        await session.scalars(
            select(Referral).where(Referral.cluster_id == cluster_id).order_by(Referral.id)
        )
    ).all()
    ids = {found.root_id, *(r.inviter_id for r in rows), *(r.invitee_id for r in rows)}
    contacts = {c.id: c for c in await session.scalars(select(Contact).where(Contact.id.in_(ids)))}
    states = dict(
        (
            await session.execute(
                select(Consent.contact_id, Consent.state).where(Consent.contact_id.in_(ids))
            )
        ).all()
    )
    edges = [
        Edge(r.inviter_id, r.invitee_id, r.created_at, states.get(r.invitee_id, "given") == "given")
        for r in rows
    ]
    return ClusterView(
        contacts[found.root_id],
        picture(found.root_id, edges),
        growth(found.root_id, edges),
        contacts,
        [
            (
                r,
                contacts[r.inviter_id],
                contacts[r.invitee_id],
                states.get(r.invitee_id, "given"),
            )
            for r in rows
        ],
    )

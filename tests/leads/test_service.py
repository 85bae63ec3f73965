"""From a forward to a lead: edges, consent, generations, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from bus.events import Agent, Kind, publish
from bus.stations import Line
from leads.service import stations
from mail.ids import uuid7
from mta.recipients import ensure_contact, may_be_mailed, suppress
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import (
    Cluster,
    Company,
    Consent,
    Contact,
    Domain,
    Event,
    Lead,
    Referral,
    User,
)
from tests.conftest import MONDAY


@pytest.fixture
async def company(store: Sessions) -> UUID:
    """A company with the user Bo, its domain, and the contacts Ann and Known."""
    company = uuid7()
    async with store.begin(EVERY_COMPANY) as session:
        session.add(Company(id=company, number=1, name="Ours", created_at=MONDAY))
    async with store.begin(company) as session:
        session.add(User(email="bo@elsewhere.test", name="Bo", role="rep", created_at=MONDAY))
        session.add(
            Domain(
                name="ours.test", reply_domain="reply.ours.test", rsa_selector="", rsa_key="",
                ed25519_selector="", ed25519_key="", created_at=MONDAY,
            )
        )  # fmt: skip
        for name in ("ann", "known"):
            await ensure_contact(session, f"{name}@x.test", origin={"by": "import"}, now=MONDAY)
    return company


async def contact_of(store: Sessions, company: UUID, address: str) -> Contact:
    async with store.read(company) as session:
        return (await session.scalars(select(Contact).where(Contact.address == address))).one()


async def tell(
    store: Sessions, company: UUID, kind: Kind, who: str, *, agent: Agent = Agent.UNKNOWN, **p: Any
) -> Event:
    """Publishes an event about somebody, lets the station work, then shows it the event again."""
    contact = await contact_of(store, company, f"{who}@x.test")
    async with store.begin(company) as session:
        event = await publish(
            session, kind, contact=contact.id, agent=agent, occurred_at=MONDAY, **p
        )
    [station] = stations(lambda: MONDAY)
    await Line(store, [station], tick=1).drain()
    async with store.begin(company) as session:
        await station.handle(session, event)
    return event


def people(*names: str) -> list[dict[str, Any]]:
    return [{"address": f"{n}@x.test", "name": n.title(), "origin": "To"} for n in names]


@pytest.fixture
def count(store: Sessions, company: UUID) -> Callable[[Any], Any]:
    async def counted(kind: Any) -> int:
        async with store.read(company) as session:
            return len((await session.scalars(select(kind))).all())

    return counted


async def test_a_forward_makes_a_lead_that_has_to_agree_first(
    store: Sessions, company: UUID, count: Callable[[Any], Any]
) -> None:
    await tell(store, company, Kind.FORWARD_RECEIVED, "ann", people=people("cy"), note="for you")
    cy = await contact_of(store, company, "cy@x.test")
    async with store.read(company) as session:
        edge = (await session.scalars(select(Referral))).one()
        lead = (await session.scalars(select(Lead))).one()
        consent = (await session.scalars(select(Consent))).one()
        appeared = (
            await session.scalars(select(Event).where(Event.kind == Kind.LEAD_APPEARED))
        ).one()
        assert await may_be_mailed(session, cy) != ""
    assert (edge.invitee_id, edge.generation, edge.note, edge.mode) == (cy.id, 1, "for you", "mail")
    assert (lead.contact_id, lead.cluster_id, lead.status) == (cy.id, edge.cluster_id, "new")
    assert (consent.contact_id, consent.state) == (cy.id, "needed")
    assert appeared.lead_id == lead.id
    assert await count(Cluster) == 1


async def test_the_cluster_is_the_first_inviters_over_generations(
    store: Sessions, company: UUID, count: Callable[[Any], Any]
) -> None:
    await tell(store, company, Kind.FORWARD_RECEIVED, "ann", people=people("cy"))
    await tell(store, company, Kind.FORM_FORWARDED, "cy", people=people("di", "ann"))
    await tell(store, company, Kind.FORM_FORWARDED, "di", people=people("ed"))
    async with store.read(company) as session:
        edges = (await session.scalars(select(Referral).order_by(Referral.created_at))).all()
        cluster = (await session.scalars(select(Cluster))).one()
    ann = await contact_of(store, company, "ann@x.test")
    assert cluster.root_id == ann.id
    assert sorted(edge.generation for edge in edges) == [1, 2, 2, 3]
    assert await count(Consent) == 3  # Ann's address was given to us by the company.


async def test_own_people_suppressed_ones_and_oneself_are_no_leads(
    store: Sessions, company: UUID, count: Callable[[Any], Any]
) -> None:
    async with store.begin(company) as session:
        await suppress(session, "gone@x.test", "unsubscribed", now=MONDAY)
    found = [
        *people("ann", "gone"),
        {"address": "Bo@Elsewhere.test"},
        {"address": "sales@ours.test"},
        {"address": "r-aaaa@reply.ours.test"},
        {"address": "not an address"},
        {},
        "nonsense",
    ]
    await tell(store, company, Kind.FORWARD_RECEIVED, "ann", people=found)
    await tell(store, company, Kind.FORWARD_RECEIVED, "ann", people="nonsense")
    assert (await count(Lead), await count(Referral), await count(Contact)) == (0, 0, 2)


async def test_somebody_the_company_knows_gets_an_edge_and_keeps_their_consent(
    store: Sessions, company: UUID, count: Callable[[Any], Any]
) -> None:
    await tell(store, company, Kind.FORWARD_RECEIVED, "ann", people=people("known"))
    known = await contact_of(store, company, "known@x.test")
    assert (await count(Referral), await count(Consent)) == (1, 0)
    async with store.read(company) as session:
        assert await may_be_mailed(session, known) == ""


async def test_agreeing_and_refusing_are_the_persons_own_and_the_latest_counts(
    store: Sessions, company: UUID
) -> None:
    await tell(store, company, Kind.FORM_FORWARDED, "ann", people=people("cy"))
    await tell(store, company, Kind.CONSENT_GIVEN, "cy", evidence={"ip": "192.0.2.1"})
    cy = await contact_of(store, company, "cy@x.test")
    async with store.read(company) as session:
        lead = (await session.scalars(select(Lead))).one()
        consented = await session.scalars(select(Event).where(Event.kind == Kind.LEAD_CONSENTED))
        assert [event.contact_id for event in consented] == [cy.id]
        assert await may_be_mailed(session, cy) == ""
    assert lead.warmth == 35
    await tell(store, company, Kind.CONSENT_REFUSED, "cy")
    async with store.begin(company) as session:  # An older yes that comes late changes nothing.
        await publish(
            session,
            Kind.CONSENT_GIVEN,
            contact=cy.id,
            occurred_at=MONDAY - timedelta(hours=1),
        )
    await Line(store, stations(lambda: MONDAY), tick=1).drain()
    async with store.read(company) as session:
        assert (await session.scalars(select(Consent))).one().state == "refused"
        lead = (await session.scalars(select(Lead))).one()
        assert (lead.warmth, lead.status) == (0, "lost")
        assert await may_be_mailed(session, cy) != ""


async def test_human_clicks_and_replies_warm_a_lead_machines_do_not(
    store: Sessions, company: UUID
) -> None:
    await tell(store, company, Kind.FORWARD_RECEIVED, "ann", people=people("cy"))
    await tell(store, company, Kind.CLICKED, "cy", agent=Agent.MACHINE)
    await tell(store, company, Kind.CLICKED, "cy", agent=Agent.HUMAN)
    await tell(store, company, Kind.REPLY_READ, "cy", top="question", abstain=False)
    await tell(store, company, Kind.REPLY_READ, "cy", top="question", abstain=True)
    async with store.read(company) as session:
        lead = (await session.scalars(select(Lead))).one()
    assert lead.warmth == 10 + 8 + 25
    assert [reason["kind"] for reason in lead.reasons] == ["invited", "click", "question"]


async def test_the_same_friend_is_another_company_s_stranger(
    store: Sessions, company: UUID, count: Callable[[Any], Any]
) -> None:
    other = uuid7()
    async with store.begin(EVERY_COMPANY) as session:
        session.add(Company(id=other, number=2, name="Theirs", created_at=MONDAY))
    async with store.begin(other) as session:
        await ensure_contact(session, "ann@x.test", origin={"by": "import"}, now=MONDAY)
    await tell(store, company, Kind.FORWARD_RECEIVED, "ann", people=people("cy"))
    await tell(store, other, Kind.FORWARD_RECEIVED, "ann", people=people("cy"))
    assert (await count(Lead), await count(Contact)) == (1, 3)

"""A company with something of everything, and a browser that is signed in to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from litestar import Litestar

from config.sections.api import WebhookSettings
from config.settings import Settings
from console import access, batches
from console.app import make_app
from content import library
from mail.ids import uuid7
from mail.tokens import TokenKeys
from monitor.webhooks import registry
from mta import accounts
from mta.recipients import ensure_contact
from mta.resolver import Resolver
from mta.submission import Order, submit
from sequencer import service as sequencer
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Cluster, Consent, Draft, Lead, Message, Reading, Referral
from tracker.tasks import open_task

NOW = datetime.now(UTC).replace(microsecond=0)
PASSWORD = "correct horse battery"
PLAN = "sequence: {name}\nsteps:\n  - {{id: hello, send: hello}}\n  - {{id: pause, wait: 3d}}\n"


@dataclass(frozen=True, slots=True)
class Scene:
    """The ids of a company's rows; `mark` stands in every text of it."""

    mark: str
    company: UUID
    owner: str
    rep: str
    sent: UUID
    reply: UUID
    draft: UUID
    task: UUID
    enrolment: UUID
    cluster: UUID
    sequence: str
    token: str
    domain: UUID
    batch: UUID
    webhook: UUID


async def play(sessions: Sessions, mark: str) -> Scene:
    """A company in whose every text `mark` stands."""
    seal, domain_name = Seal(b"k" * 32), f"{mark}.example"
    async with sessions.begin(EVERY_COMPANY) as session:
        company = await access.add_company(
            session, f"{mark} Ltd", postal_address=f"{mark} Road 1", now=NOW
        )
    async with sessions.begin(company.id) as session:
        owner = await access.add_user(
            session, email=f"owner@{domain_name}", name=f"Owner {mark}", role="owner",
            password=PASSWORD, now=NOW,
        )  # fmt: skip
        rep = await access.add_user(
            session, email=f"rep@{domain_name}", name=f"Rep {mark}", role="rep",
            password=PASSWORD, now=NOW,
        )  # fmt: skip
        domain = await accounts.add_domain(session, seal, domain_name, now=NOW)
        _, token = await accounts.add_credential(session, "api", now=NOW)
        await library.add_item(
            session, key="hello", kind="mail", title=f"Hello {mark}", subject=f"Hello {mark}",
            text=f"Hello from {mark}", now=NOW,
        )  # fmt: skip
        await sequencer.install(
            session, PLAN.format(name=f"plan-{mark}"), path="plan.yaml", now=NOW
        )
        contact = await ensure_contact(
            session, f"ann@{mark}.test", name=f"Ann {mark}", origin={"by": "test"}, now=NOW
        )
        friend = await ensure_contact(
            session, f"friend@{mark}.test", name=f"Friend {mark}", origin={"by": "test"}, now=NOW
        )
        enrolment = await sequencer.enrol(session, f"plan-{mark}", contact, owner=owner.id, now=NOW)
        assert enrolment is not None
        sent = await submit(
            session,
            Order(
                key="sent",
                kind="mail",
                sender=owner.email,
                sender_name=owner.name,
                recipient=contact.address,
                recipient_name=contact.name,
                subject=f"Offer {mark}",
                text=f"Offer of {mark}",
                contact_id=contact.id,
            ),
            now=NOW,
        )
        batch, _ = await batches.open_batch(
            session, key=f"key {mark}", digest="", campaign=mark, total=1, now=NOW
        )
        part = await batches.begin_part(session, batch, 0)
        assert part is not None
        results = batches.Results([[0, contact.address, str(sent.id)]], [])
        await batches.end_part(session, part, results)
        webhook, _ = await registry.add(
            session, seal, WebhookSettings(), url=f"https://{mark}.example.com/in", now=NOW
        )
        reply, draft = await _answered(session, sent, contact.id, owner.id, mark)
        task = await open_task(
            session, key="t", kind="call", title=f"Call {mark}", user=owner.id,
            contact=contact.id, enrolment=None, due_at=NOW, detail={}, now=NOW,
        )  # fmt: skip
        cluster = Cluster(root_id=contact.id, created_at=NOW)
        session.add(cluster)
        await session.flush()
        session.add_all(
            [
                Referral(
                    cluster_id=cluster.id, inviter_id=contact.id, invitee_id=friend.id,
                    message_id=None, mode="form", origin={"found": mark}, generation=1,
                    created_at=NOW,
                ),
                Lead(
                    contact_id=friend.id, cluster_id=cluster.id, source="forward", status="new",
                    owner_id=None, created_at=NOW,
                ),
                Consent(contact_id=friend.id, state="needed", changed_at=NOW),
            ]
        )  # fmt: skip
    return Scene(
        mark, company.id, owner.email, rep.email, sent.id, reply, draft, task.id, enrolment.id,
        cluster.id, f"plan-{mark}", token, domain.id, batch.id,
        webhook.id,
    )  # fmt: skip


async def _answered(
    session: Any, sent: Message, contact: UUID, owner: UUID, mark: str
) -> tuple[UUID, UUID]:
    reply = Message(
        id=uuid7(), direction="in", kind="reply", state="tied", order_key="in:1",
        contact_id=contact, user_id=None, template_id=None, enrolment_id=None, step_id=None,
        draft_id=None, answers_id=sent.id, thread_id=sent.thread_id, sender=f"ann@{mark}.test",
        recipient="r-x@reply.example", subject=f"Re: Offer {mark} <b>bold</b>",
        rfc_message_id=f"<{mark}@test>", body=f"How much is it, {mark}? <script>alert(1)</script>",
        parsed={"removed": f"> Offer of {mark}"}, spool=None, created_at=NOW,
    )  # fmt: skip
    session.add(reply)
    await session.flush()
    reading = Reading(
        message_id=reply.id, contact_id=contact, intents={"question_pricing": 0.9, "other": 0.1},
        top="question_pricing", certainty=0.9, abstain=False, decision="answer",
        entities=[{"kind": "person", "text": mark}],
        trace=[{"rule": "question-answer", "says": f"They ask {mark}", "facts": [{"a": mark}]}],
        decision_detail={"why_abstain": ""}, model_version="m", rules_version="r", created_at=NOW,
    )  # fmt: skip
    session.add(reading)
    await session.flush()
    draft = Draft(
        message_id=reply.id, reading_id=reading.id, contact_id=contact, user_id=owner,
        subject=f"Re: Offer {mark}", text=f"It costs 5 euros, {mark}.",
        sentences=[{"text": f"It costs 5 euros, {mark}.", "source": "content:price@1"}],
        gaps=[], state="proposed", decided_by=None, decided_at=None, response_id=None,
        created_at=NOW,
    )  # fmt: skip
    session.add(draft)
    await session.flush()
    return reply.id, draft.id


def app_of(
    sessions: Sessions,
    folder: Path,
    *,
    resolver: Resolver | None = None,
    webhooks: WebhookSettings | None = None,
    **console: Any,
) -> Litestar:
    """The console on this store."""
    settings = Settings.model_validate(
        {
            "host": {"name": "mail.example.test", "data": folder},
            "public": {"url": "https://go.example.test"},
            "console": console,
            "webhooks": webhooks or WebhookSettings(),
        }
    )
    return make_app(
        sessions=sessions,
        settings=settings,
        keys=TokenKeys({0: os.urandom(32)}, 0),
        seal=Seal(b"k" * 32),
        clock=lambda: datetime.now(UTC),
        resolver=resolver,
    )


def browser(app: Litestar) -> httpx.AsyncClient:
    """A browser without a screen; follows nothing by itself."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://console.test",
    )


async def sign_in(client: httpx.AsyncClient, email: str) -> str:
    """Signs in by password; gives the CSRF token of the session."""
    answer = await client.post("/sign-in", data={"email": email, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return csrf_of((await client.get("/")).text)


def csrf_of(page: str) -> str:
    """The token that a page's forms carry."""
    return page.partition('name="csrf" value="')[2].partition('"')[0]

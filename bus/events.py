"""The itinerary: every kind of event, in the order of the journey, and how one is published.

An event is written in the transaction of the change it reports. A station may see it twice, so a
handler first asks whether its work is done. `payload` holds ids and facts, never bodies or secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from storage.bulk import insert_many
from storage.sessions import company_of
from storage.tables import Event


class Kind(StrEnum):
    """What can happen. After each: who publishes it → who listens."""

    # On the way out.
    MESSAGE_QUEUED = "message.queued"  # mta → console
    DELIVERY_DELIVERED = "delivery.delivered"  # mta → sequencer, console
    DELIVERY_DEFERRED = "delivery.deferred"  # mta → console
    DELIVERY_BOUNCED = "delivery.bounced"  # mta → sequencer, leads
    DELIVERY_SKIPPED = "delivery.skipped"  # mta (the last gate said no) → sequencer

    # On the way back.
    MAIL_ARRIVED = "mail.arrived"  # mta, inbound's mailbox → inbound
    REPLY_RECEIVED = "reply.received"  # inbound → responder
    FORWARD_RECEIVED = "forward.received"  # inbound → leads, responder
    ABSENCE_RECEIVED = "absence.received"  # inbound → sequencer
    BOUNCE_RECEIVED = "bounce.received"  # inbound → sequencer
    COMPLAINT_RECEIVED = "complaint.received"  # inbound → sequencer
    APPROVAL_RECEIVED = "approval.received"  # inbound → responder
    UNTIED_RECEIVED = "untied.received"  # inbound → console

    # On the web.
    CLICKED = "click"  # inbound's hits → sequencer, leads
    OPENED = "open"  # inbound's hits → console
    FORM_FORWARDED = "form.forwarded"  # inbound's hits → leads
    CONSENT_GIVEN = "consent.given"  # inbound's hits → leads
    CONSENT_REFUSED = "consent.refused"  # inbound's hits → leads

    PREFERENCES_CHANGED = "preferences.changed"  # inbound's hits → console
    PRESENTATION_VISITED = "presentation.visited"  # inbound's hits → sequencer, console

    # By any way.
    UNSUBSCRIBED = "unsubscribed"  # inbound, responder → sequencer

    # Understanding and answering.
    REPLY_READ = "reply.read"  # responder → sequencer, tracker, console
    DRAFT_PROPOSED = "draft.proposed"  # responder → console
    DRAFT_APPROVED = "draft.approved"  # responder → tracker, console
    DRAFT_REJECTED = "draft.rejected"  # responder → console
    APPROVAL_REFUSED = "approval.refused"  # responder (not that rep's mail) → console

    # Following up.
    ENROLLED = "sequence.enrolled"  # sequencer → console
    STEP_DONE = "sequence.step"  # sequencer → console
    SEQUENCE_ENDED = "sequence.ended"  # sequencer → console
    TASK_OPENED = "task.opened"  # tracker → console
    TASK_DONE = "task.done"  # tracker → sequencer
    ACTIVITY_LOGGED = "activity.logged"  # tracker → console

    # New people.
    LEAD_APPEARED = "lead.appeared"  # leads → console
    LEAD_CONSENTED = "lead.consented"  # leads → sequencer


class Agent(StrEnum):
    """Who did it, as far as we can tell; an opinion that may be revised."""

    HUMAN = "human"
    MACHINE = "machine"
    UNKNOWN = "unknown"


async def publish(
    session: AsyncSession,
    kind: Kind,
    *,
    contact: UUID | None = None,
    message: UUID | None = None,
    enrolment: UUID | None = None,
    lead: UUID | None = None,
    user: UUID | None = None,
    agent: Agent = Agent.UNKNOWN,
    reasons: Sequence[str] = (),
    occurred_at: datetime | None = None,
    **payload: Any,
) -> Event:
    """Adds an event of the session's company to its transaction."""
    event = Event(
        company_id=company_of(session),
        kind=kind,
        occurred_at=occurred_at or datetime.now(UTC),
        contact_id=contact,
        message_id=message,
        enrolment_id=enrolment,
        lead_id=lead,
        user_id=user,
        agent=agent,
        reasons=list(reasons),
        payload={key: str(v) if isinstance(v, UUID) else v for key, v in payload.items()},
    )
    session.add(event)
    await session.flush()
    return event


async def publish_many(
    session: AsyncSession, kind: Kind, events: Sequence[dict[str, Any]], *, occurred_at: datetime
) -> None:
    """Adds events of one kind in one statement.

    Each has the columns of `Event` that it needs, `company_id` among them where the session is for
    every company; ids within `payload` are text already.
    """
    rows = [{**event, "kind": kind, "occurred_at": occurred_at} for event in events]
    await insert_many(session, Event, rows)

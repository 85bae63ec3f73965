"""Messages and their way out. Written by `mta`; incoming messages by `inbound`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed

_WAITING = "state IN ('queued', 'deferred', 'uncertain')"
_OPEN = "state IN ('queued', 'deferred', 'uncertain', 'sending', 'held')"


def _partly(where: str) -> dict[str, Any]:
    """An index over some of the rows: what is done costs nothing any more."""
    return {"sqlite_where": text(where), "postgresql_where": text(where)}


class Template(Keyed, CompanyScoped, Base):
    """A generic message: what all its personal messages share. `digest` is of its content.

    `spool` is the place of a generic message that came by SMTP (its attachments stay there);
    `links` are the targets of its links by slot, so that no row is needed per recipient.
    """

    __tablename__ = "template"
    __table_args__ = (UniqueConstraint("company_id", "digest"),)

    digest: Mapped[str]
    subject: Mapped[str]
    text: Mapped[str]
    html: Mapped[str]
    headers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    links: Mapped[list[Any]] = mapped_column(default=list)
    spool: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]


class Message(Keyed, CompanyScoped, Base):
    """One personal message to (`out`) or from (`in`) one person.

    Out: `order_key` makes a send order unique; template and values are all that is durable, the
    bytes are made at delivery. Mail that goes out as it was submitted has no template but a place
    in the spool. In: `spool` is where the raw message is, `body` its new words, `parsed` the
    analysis; `state` is tied, review (nobody knows what it answers) or held.
    `kind`: out: mail, bulk, answer, approval, invitation, system; in: what inbound recognised.
    """

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("company_id", "order_key"),
        Index("ix_message_newest", "company_id", "created_at"),
        Index("ix_message_enrolment", "enrolment_id", **_partly("enrolment_id IS NOT NULL")),
        Index("ix_message_answers", "answers_id", **_partly("answers_id IS NOT NULL")),
        Index("ix_message_campaign", "company_id", "campaign", "id", **_partly("campaign <> ''")),
    )

    direction: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(default="")
    order_key: Mapped[str | None]
    contact_id: Mapped[UUID | None] = mapped_column(ForeignKey("contact.id"), index=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    template_id: Mapped[UUID | None] = mapped_column(ForeignKey("template.id"))
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)
    campaign: Mapped[str] = mapped_column(default="")
    enrolment_id: Mapped[UUID | None]
    step_id: Mapped[str | None]
    draft_id: Mapped[UUID | None]
    answers_id: Mapped[UUID | None] = mapped_column(ForeignKey("message.id"))
    thread_id: Mapped[UUID] = mapped_column(index=True)
    sender: Mapped[str]
    sender_name: Mapped[str] = mapped_column(default="")
    recipient: Mapped[str]
    recipient_name: Mapped[str] = mapped_column(default="")
    subject: Mapped[str]
    rfc_message_id: Mapped[str] = mapped_column(index=True)
    references: Mapped[str] = mapped_column(default="")
    body: Mapped[str] = mapped_column(default="")
    parsed: Mapped[dict[str, Any]] = mapped_column(default=dict)
    spool: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]


class Delivery(Keyed, CompanyScoped, Base):
    """One message on its way to one recipient.

    `state`: queued, sending, deferred, delivered, bounced, skipped, uncertain, held.
    `claimed_until` is a lease; `claimed_by` names the process and the claim (a fencing token).
    """

    __tablename__ = "delivery"
    __table_args__ = (
        Index("ix_delivery_due", "due_at", "destination", "lane", **_partly(_WAITING)),
        Index("ix_delivery_site", "destination", "lane", "due_at", **_partly(_WAITING)),
        Index("ix_delivery_open", "company_id", "created_at", **_partly(_OPEN)),
        Index("ix_delivery_claimed", "claimed_until", **_partly("state = 'sending'")),
    )

    message_id: Mapped[UUID] = mapped_column(ForeignKey("message.id"), unique=True)
    recipient: Mapped[str]
    destination: Mapped[str]
    lane: Mapped[int] = mapped_column(default=2)
    state: Mapped[str]
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    claimed_by: Mapped[str | None]
    claimed_until: Mapped[datetime | None]
    last_code: Mapped[int | None]
    last_text: Mapped[str] = mapped_column(default="")
    reason: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class SpoolMark(Base):
    """How far a spool segment has been sorted: the records before `sorted_to` are in tables."""

    __tablename__ = "spool_mark"

    segment: Mapped[str] = mapped_column(primary_key=True)
    sorted_to: Mapped[int] = mapped_column(BigInteger)


class Attempt(Keyed, CompanyScoped, Base):
    """One try at a delivery, with what the other server said."""

    __tablename__ = "attempt"

    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("delivery.id"), index=True)
    at: Mapped[datetime]
    host: Mapped[str] = mapped_column(default="")
    tls: Mapped[str] = mapped_column(default="")
    code: Mapped[int | None]
    text: Mapped[str] = mapped_column(default="")
    outcome: Mapped[str]
    seconds: Mapped[float] = mapped_column(default=0.0)

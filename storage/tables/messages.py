"""Messages and their way out. Written by `mta`; incoming messages by `inbound`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


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
    bytes are made at delivery. In: `spool` is where the raw message is, `body` its new words,
    `parsed` the analysis; `state` is tied, review (nobody knows what it answers) or held.
    `kind`: out: mail, bulk, answer, approval, invitation, system; in: what inbound recognised.
    """

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("company_id", "order_key"),
        Index("ix_message_newest", "company_id", "created_at"),
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
    enrolment_id: Mapped[UUID | None] = mapped_column(index=True)
    step_id: Mapped[str | None]
    draft_id: Mapped[UUID | None]
    answers_id: Mapped[UUID | None] = mapped_column(ForeignKey("message.id"), index=True)
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
    __table_args__ = (Index("ix_delivery_due", "state", "lane", "due_at"),)

    message_id: Mapped[UUID] = mapped_column(ForeignKey("message.id"), unique=True)
    recipient: Mapped[str]
    destination: Mapped[str] = mapped_column(index=True)
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

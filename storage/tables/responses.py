"""What replies mean and what we would answer. Written by `responder`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Reading(Keyed, CompanyScoped, Base):
    """One reply, interpreted, and the decision with all that led to it.

    `trace` holds, in order, the rules that fired and the facts each of them matched.
    """

    __tablename__ = "reading"

    message_id: Mapped[UUID] = mapped_column(ForeignKey("message.id"), unique=True)
    contact_id: Mapped[UUID | None] = mapped_column(ForeignKey("contact.id"))
    intents: Mapped[dict[str, Any]]
    top: Mapped[str]
    certainty: Mapped[float]
    abstain: Mapped[bool]
    entities: Mapped[list[Any]] = mapped_column(default=list)
    evidence: Mapped[list[Any]] = mapped_column(default=list)
    facts: Mapped[list[Any]] = mapped_column(default=list)
    trace: Mapped[list[Any]] = mapped_column(default=list)
    decision: Mapped[str]
    decision_detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    model_version: Mapped[str]
    rules_version: Mapped[str]
    created_at: Mapped[datetime]


class Draft(Keyed, CompanyScoped, Base):
    """An answer that a rep approves, edits or rejects.

    `state`: proposed, approved, rejected, superseded. `sentences` name the source of each
    sentence; `gaps` are questions for which the library has nothing.
    """

    __tablename__ = "draft"
    __table_args__ = (Index("ix_draft_waiting", "company_id", "state", "created_at"),)

    message_id: Mapped[UUID] = mapped_column(ForeignKey("message.id"), unique=True)
    reading_id: Mapped[UUID] = mapped_column(ForeignKey("reading.id"))
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    subject: Mapped[str]
    text: Mapped[str]
    sentences: Mapped[list[Any]] = mapped_column(default=list)
    gaps: Mapped[list[Any]] = mapped_column(default=list)
    state: Mapped[str]
    decided_by: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    decided_at: Mapped[datetime | None]
    decided_via: Mapped[str] = mapped_column(default="")
    sent_text: Mapped[str] = mapped_column(default="")
    note: Mapped[str] = mapped_column(default="")
    response_id: Mapped[UUID | None] = mapped_column(ForeignKey("message.id"))
    created_at: Mapped[datetime]

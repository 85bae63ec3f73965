"""What reps have to do and what they did. Written by `tracker`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Task(Keyed, CompanyScoped, Base):
    """Something a rep should do; `key` makes it unique; `state` is open, done or cancelled."""

    __tablename__ = "task"
    __table_args__ = (
        UniqueConstraint("company_id", "key"),
        Index("ix_task_open", "company_id", "state", "due_at"),
    )

    key: Mapped[str]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    contact_id: Mapped[UUID | None] = mapped_column(ForeignKey("contact.id"), index=True)
    enrolment_id: Mapped[UUID | None]
    kind: Mapped[str]
    title: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    due_at: Mapped[datetime | None]
    state: Mapped[str]
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class Activity(Keyed, CompanyScoped, Base):
    """One contact with a person: kind (call, mail, meeting …), response, when, and what is next."""

    __tablename__ = "activity"
    __table_args__ = (Index("ix_activity_newest", "company_id", "at"),)

    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"), index=True)
    kind: Mapped[str]
    response: Mapped[str] = mapped_column(default="")
    note: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime]
    next_kind: Mapped[str] = mapped_column(default="")
    next_at: Mapped[datetime | None]
    task_id: Mapped[UUID | None] = mapped_column(ForeignKey("task.id"))
    origin: Mapped[str] = mapped_column(default="manual")
    created_at: Mapped[datetime]

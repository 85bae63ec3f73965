"""Follow-up sequences and who is where in them. Written by `sequencer`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Sequence(Keyed, CompanyScoped, Base):
    """A plan of mails by its name; `state` is running or paused."""

    __tablename__ = "sequence"
    __table_args__ = (UniqueConstraint("company_id", "name"),)

    name: Mapped[str]
    state: Mapped[str]
    latest: Mapped[int]
    created_at: Mapped[datetime]


class SequenceVersion(Keyed, CompanyScoped, Base):
    """One frozen version: the source as written and the plan made from it."""

    __tablename__ = "sequence_version"
    __table_args__ = (UniqueConstraint("sequence_id", "number"),)

    sequence_id: Mapped[UUID] = mapped_column(ForeignKey("sequence.id"))
    number: Mapped[int]
    source: Mapped[str]
    plan: Mapped[dict[str, Any]]
    digest: Mapped[str]
    created_at: Mapped[datetime]


class Enrolment(Keyed, CompanyScoped, Base):
    """One person in one sequence.

    `state`: active (has a due time), waiting (for an event, due is the time-out), paused, asking
    (a person has to decide), ended. `frames` is the stack of repeats it is in; `version` counts
    changes, so that a writer with an old copy loses (compare and set).
    """

    __tablename__ = "enrolment"
    __table_args__ = (
        UniqueConstraint("sequence_id", "contact_id", "entry_key"),
        Index("ix_enrolment_due", "state", "due_at"),
    )

    sequence_id: Mapped[UUID] = mapped_column(ForeignKey("sequence.id"))
    version_id: Mapped[UUID] = mapped_column(ForeignKey("sequence_version.id"))
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"), index=True)
    entry_key: Mapped[str] = mapped_column(default="")
    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    state: Mapped[str]
    step_id: Mapped[str | None]
    visit: Mapped[int] = mapped_column(default=1)
    frames: Mapped[list[Any]] = mapped_column(default=list)
    memory: Mapped[dict[str, Any]] = mapped_column(default=dict)
    due_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column(default=1)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class StepRun(CompanyScoped, Base):
    """A step that was done. The key is the fence: no step is ever done twice."""

    __tablename__ = "step_run"

    enrolment_id: Mapped[UUID] = mapped_column(ForeignKey("enrolment.id"), primary_key=True)
    step_id: Mapped[str] = mapped_column(primary_key=True)
    visit: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    outcome: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    message_id: Mapped[UUID | None]
    at: Mapped[datetime]

"""What people said about the queue, and how it stood. Written by `mta`.

Rows of the host's operator, which concern every company, have no `of_company`. These tables are
therefore not limited by the session's scope; `mta.suspensions` and `mta.overrides` do it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class QueueSuspension(Keyed, Base):
    """Nothing of this goes out until `until`. Ended ones stay, to tell who did what.

    `what`: company (`name` is empty), campaign or domain; `of_company` None is for every company.
    """

    __tablename__ = "queue_suspension"

    what: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    of_company: Mapped[UUID | None] = mapped_column(ForeignKey("company.id"))
    until: Mapped[datetime] = mapped_column(index=True)
    reason: Mapped[str]
    by: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RouteOverride(Keyed, Base):
    """Mail for `destination` goes to `host:port` until `until`, whatever its MX records say."""

    __tablename__ = "route_override"

    destination: Mapped[str] = mapped_column(index=True)
    of_company: Mapped[UUID | None] = mapped_column(ForeignKey("company.id"))
    host: Mapped[str]
    port: Mapped[int]
    until: Mapped[datetime]
    reason: Mapped[str]
    by: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Trace(Keyed, CompanyScoped, Base):
    """Somebody wants to see the next attempt of a delivery, line by line.

    `state`: asked, running, done. `lines` are [seconds since the start, direction, text].
    """

    __tablename__ = "trace"

    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("delivery.id"), index=True)
    state: Mapped[str] = mapped_column(index=True)
    lines: Mapped[list[Any]] = mapped_column(default=list)
    outcome: Mapped[str] = mapped_column(default="")
    by: Mapped[str]
    asked_at: Mapped[datetime]
    until: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class QueueSample(Keyed, CompanyScoped, Base):
    """How a company's queue stood at a minute, and the attempts that ended in the minute before."""

    __tablename__ = "queue_sample"
    __table_args__ = (Index("ix_queue_sample_newest", "company_id", "at"),)

    at: Mapped[datetime]
    queued: Mapped[int] = mapped_column(default=0)
    sending: Mapped[int] = mapped_column(default=0)
    deferred: Mapped[int] = mapped_column(default=0)
    held: Mapped[int] = mapped_column(default=0)
    delivered: Mapped[int] = mapped_column(default=0)
    put_off: Mapped[int] = mapped_column(default=0)
    bounced: Mapped[int] = mapped_column(default=0)

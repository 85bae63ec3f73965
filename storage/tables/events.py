"""The event stream and the places of its readers. Written by `bus`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, Integer, UniqueConstraint
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from mail.ids import uuid7
from storage.tables.base import Base, CompanyScoped, Keyed


class current_transaction(FunctionElement[int]):  # noqa: N801 - reads as SQL.
    """The number of the transaction that writes this row.

    PostgreSQL hands out sequence numbers before commit, so a reader that remembers only the last
    number would pass by rows that commit late. Readers therefore go by (tx, seq) and stop below
    the oldest transaction still open. SQLite has one writer at a time, so 0 serves.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(current_transaction, "sqlite")
def _on_sqlite(element: current_transaction, compiler: SQLCompiler, **kw: Any) -> str:
    return "0"


@compiles(current_transaction, "postgresql")
def _on_postgresql(element: current_transaction, compiler: SQLCompiler, **kw: Any) -> str:
    return "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"


class Event(CompanyScoped, Base):
    """Something that happened, written in the transaction of the change it reports."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_place", "tx", "seq"),
        Index("ix_event_contact", "company_id", "contact_id", "seq"),
        Index("ix_event_message", "company_id", "message_id", "seq"),
    )

    seq: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    tx: Mapped[int] = mapped_column(BigInteger, default=current_transaction())
    id: Mapped[UUID] = mapped_column(default=uuid7, unique=True)
    kind: Mapped[str]
    occurred_at: Mapped[datetime]
    contact_id: Mapped[UUID | None]
    message_id: Mapped[UUID | None]
    enrolment_id: Mapped[UUID | None] = mapped_column(index=True)
    lead_id: Mapped[UUID | None]
    user_id: Mapped[UUID | None]
    agent: Mapped[str] = mapped_column(default="unknown")
    reasons: Mapped[list[Any]] = mapped_column(default=list)
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Cursor(Base):
    """How far a station has read."""

    __tablename__ = "cursor"

    station: Mapped[str] = mapped_column(primary_key=True)
    tx: Mapped[int] = mapped_column(BigInteger, default=0)
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    moved_at: Mapped[datetime | None]


class Hold(Keyed, CompanyScoped, Base):
    """An event that a station could not handle, set aside until a person has it tried again."""

    __tablename__ = "hold"
    __table_args__ = (UniqueConstraint("station", "event_seq"),)

    station: Mapped[str]
    event_seq: Mapped[int] = mapped_column(BigInteger)
    cause: Mapped[str]
    tries: Mapped[int] = mapped_column(default=1)
    held_at: Mapped[datetime]
    released_at: Mapped[datetime | None]

"""What programs handed in through the API, and what they were told. Written by `console`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Batch(Keyed, CompanyScoped, Base):
    """One request to send, under its Idempotency-Key.

    `digest` is of what was asked for, so that the same key with something else is noticed.
    `finished_at` is None while recipients wait to be ordered: the same request again goes on there.
    """

    __tablename__ = "batch"
    __table_args__ = (UniqueConstraint("company_id", "key"),)

    key: Mapped[str]
    digest: Mapped[str]
    campaign: Mapped[str] = mapped_column(default="")
    total: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(index=True)
    finished_at: Mapped[datetime | None]


class BatchPart(Keyed, CompanyScoped, Base):
    """What came of some of a batch's recipients, beginning with number `first`.

    Written in the transaction that orders their messages. `accepted` has number, address and
    message id of each; `refused` has number, field and reason.
    """

    __tablename__ = "batch_part"
    __table_args__ = (UniqueConstraint("batch_id", "first"),)

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batch.id"))
    first: Mapped[int]
    accepted: Mapped[list[Any]] = mapped_column(default=list)
    refused: Mapped[list[Any]] = mapped_column(default=list)

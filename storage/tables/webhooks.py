"""Where companies are told of events by HTTP. Written by `monitor`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Webhook(Keyed, CompanyScoped, Base):
    """An address of a company that is told of its events, and how far it has been told.

    `secrets` are sealed; the first signs, the second signs too until `second_until`. `kinds` are
    of events; none means all. `state` is active or disabled. (`tx`, `seq`) is the place in the
    stream up to which it has answered 2xx; (`end_tx`, `end_seq`) is where the batch ends that it
    has been sent and has not answered, and `batch` names that batch in every try.
    """

    __tablename__ = "webhook"
    __table_args__ = (Index("ix_webhook_due", "state", "next_at"),)

    url: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    kinds: Mapped[list[Any]] = mapped_column(default=list)
    secrets: Mapped[list[Any]] = mapped_column(default=list)
    second_until: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(default="active")
    reason: Mapped[str] = mapped_column(default="")
    tx: Mapped[int] = mapped_column(BigInteger, default=0)
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    batch: Mapped[str] = mapped_column(default="")
    end_tx: Mapped[int | None] = mapped_column(BigInteger)
    end_seq: Mapped[int | None] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(default=0)
    failing_since: Mapped[datetime | None]
    next_at: Mapped[datetime]
    claimed_until: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebhookAttempt(Keyed, CompanyScoped, Base):
    """One try to tell a webhook; `status` is None if no answer came. The newest are kept."""

    __tablename__ = "webhook_attempt"

    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhook.id"), index=True)
    at: Mapped[datetime]
    batch: Mapped[str]
    events: Mapped[int]
    first_seq: Mapped[int] = mapped_column(BigInteger)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[int | None]
    error: Mapped[str] = mapped_column(default="")
    seconds: Mapped[float]

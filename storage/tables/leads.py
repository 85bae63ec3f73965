"""Who forwarded to whom, and whom that made a lead. Written by `leads`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Cluster(Keyed, CompanyScoped, Base):
    """All who were reached from one first recipient."""

    __tablename__ = "cluster"
    __table_args__ = (UniqueConstraint("company_id", "root_id"),)

    root_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"))
    created_at: Mapped[datetime]


class Referral(Keyed, CompanyScoped, Base):
    """One edge of a cluster: `inviter` passed our mail on to `invitee`.

    `mode` is mail or form; `origin` says where the address was found (To, Cc, form …).
    """

    __tablename__ = "referral"
    __table_args__ = (UniqueConstraint("company_id", "inviter_id", "invitee_id"),)

    cluster_id: Mapped[UUID] = mapped_column(ForeignKey("cluster.id"), index=True)
    inviter_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"))
    invitee_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"), index=True)
    message_id: Mapped[UUID | None] = mapped_column(ForeignKey("message.id"))
    mode: Mapped[str]
    origin: Mapped[dict[str, Any]] = mapped_column(default=dict)
    generation: Mapped[int]
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]


class Lead(Keyed, CompanyScoped, Base):
    """A person who may buy. `status`: new, open, won, lost; `warmth` 0–100 with its reasons."""

    __tablename__ = "lead"
    __table_args__ = (UniqueConstraint("company_id", "contact_id"),)

    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"))
    cluster_id: Mapped[UUID | None] = mapped_column(ForeignKey("cluster.id"), index=True)
    source: Mapped[str]
    status: Mapped[str]
    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    warmth: Mapped[int] = mapped_column(default=0)
    reasons: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime]

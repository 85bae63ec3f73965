"""People we write to, and those we may not. Written by `mta` (recipients); consent by `leads`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Contact(Keyed, CompanyScoped, Base):
    """A recipient. `address` is canonical; `fields` are its merge fields; `origin` says whence."""

    __tablename__ = "contact"
    __table_args__ = (UniqueConstraint("company_id", "address"),)

    address: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    organisation: Mapped[str] = mapped_column(default="")
    fields: Mapped[dict[str, Any]] = mapped_column(default=dict)
    zone: Mapped[str | None]
    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    origin: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]


class Suppression(Keyed, CompanyScoped, Base):
    """An address that this company never writes to again, and why."""

    __tablename__ = "suppression"
    __table_args__ = (UniqueConstraint("company_id", "address"),)

    address: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]


class Consent(Keyed, CompanyScoped, Base):
    """Whether somebody whose address we were given by another person may be written to.

    `state` is needed, given or refused. A contact without a row was given by the company itself.
    """

    __tablename__ = "consent"
    __table_args__ = (UniqueConstraint("company_id", "contact_id"),)

    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"))
    state: Mapped[str]
    wording: Mapped[str] = mapped_column(default="")
    evidence: Mapped[dict[str, Any]] = mapped_column(default=dict)
    changed_at: Mapped[datetime]

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
    """An address that this company never writes to again, and why.

    `scope` is empty for all mail, `topic:KEY` or `campaign:NAME` for a part of its bulk mail.
    """

    __tablename__ = "suppression"
    __table_args__ = (UniqueConstraint("company_id", "address", "scope"),)

    address: Mapped[str]
    scope: Mapped[str] = mapped_column(default="", server_default="")
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


class Topic(Keyed, CompanyScoped, Base):
    """Something that a company writes about and that people may choose. Written by `mta`.

    `campaigns` are patterns of campaign names (`news-*`) whose mail belongs to it; `names` has name
    and description by language tag. `chosen` says whether people get it until they choose.
    """

    __tablename__ = "topic"
    __table_args__ = (UniqueConstraint("company_id", "key"),)

    key: Mapped[str]
    names: Mapped[dict[str, Any]] = mapped_column(default=dict)
    campaigns: Mapped[list[Any]] = mapped_column(default=list)
    chosen: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class TopicChoice(Keyed, CompanyScoped, Base):
    """Whether one person wants one topic. Written by `mta`."""

    __tablename__ = "topic_choice"
    __table_args__ = (UniqueConstraint("company_id", "contact_id", "topic_id"),)

    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"), index=True)
    topic_id: Mapped[UUID] = mapped_column(ForeignKey("topic.id"))
    wanted: Mapped[bool]
    changed_at: Mapped[datetime]


class Preference(Keyed, CompanyScoped, Base):
    """How often and from when one person wants bulk mail. Written by `mta`.

    `every_days` is the least number of days between two mails; 0 leaves it to the company.
    """

    __tablename__ = "preference"
    __table_args__ = (UniqueConstraint("company_id", "contact_id"),)

    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contact.id"))
    every_days: Mapped[int] = mapped_column(default=0)
    paused_until: Mapped[datetime | None]
    changed_at: Mapped[datetime]

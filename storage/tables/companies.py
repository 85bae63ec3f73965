"""Companies and their people. Written by `console` (access), also for the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, false
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Company(Keyed, Base):
    """A tenant. `number` is the short form of its id that fits into a token (32 bits)."""

    __tablename__ = "company"

    number: Mapped[int] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(unique=True)
    postal_address: Mapped[str] = mapped_column(default="")
    policy: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]


class User(Keyed, CompanyScoped, Base):
    """Somebody who signs in or approves by mail. `email` is canonical (lower case).

    `role` is owner, manager or rep. `forward_replies`: people's answers go to `email` as well.
    """

    __tablename__ = "user_account"

    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str | None]
    zone: Mapped[str] = mapped_column(default="UTC")
    forward_replies: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class SignInLink(Keyed, CompanyScoped, Base):
    """A mailed link that signs one person in, once. Only a hash of its secret is kept."""

    __tablename__ = "sign_in_link"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"))
    secret_hash: Mapped[str] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class WebSession(Keyed, CompanyScoped, Base):
    """A signed-in browser. Only a hash of the cookie's secret is kept."""

    __tablename__ = "web_session"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id"))
    secret_hash: Mapped[str] = mapped_column(unique=True)
    csrf: Mapped[str]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Audit(Keyed, CompanyScoped, Base):
    """Who saw, changed or took out what."""

    __tablename__ = "audit"

    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_account.id"))
    at: Mapped[datetime]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)

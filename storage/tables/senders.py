"""Domains that companies send from, and their passwords. Written by `mta` (accounts)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Domain(Keyed, CompanyScoped, Base):
    """A sending domain with its DKIM keys (sealed PEM) and the domain that replies come to."""

    __tablename__ = "domain"

    name: Mapped[str] = mapped_column(unique=True)
    reply_domain: Mapped[str] = mapped_column(unique=True)
    rsa_selector: Mapped[str]
    rsa_key: Mapped[str]
    ed25519_selector: Mapped[str]
    ed25519_key: Mapped[str]
    checks: Mapped[dict[str, Any]] = mapped_column(default=dict)
    verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Credential(Keyed, CompanyScoped, Base):
    """A password for submission (`kind` smtp, `login` is the user name) or an API token (api).

    `secret_hash` is argon2id for smtp; for api, whose secret has 256 random bits, SHA-256.
    `address`, if set, is the only address that may be sent as: a rep's own password.
    """

    __tablename__ = "credential"

    kind: Mapped[str]
    login: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str]
    address: Mapped[str | None]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]

"""Domains that companies send from, and their passwords. Written by `mta` (accounts, domains)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Domain(Keyed, CompanyScoped, Base):
    """A sending domain with its DKIM keys (sealed PEM) and the domain that replies come to.

    `forward_replies`: people's answers to mail of this domain also go to whoever it was from.

    `checks` sums up the last look at DNS: its state and when; `DomainCheck` has the findings.
    """

    __tablename__ = "domain"

    name: Mapped[str] = mapped_column(unique=True)
    reply_domain: Mapped[str] = mapped_column(unique=True)
    rsa_selector: Mapped[str]
    rsa_key: Mapped[str]
    ed25519_selector: Mapped[str]
    ed25519_key: Mapped[str]
    checks: Mapped[dict[str, Any]] = mapped_column(default=dict)
    forward_replies: Mapped[bool] = mapped_column(default=False, server_default=false())
    verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class DomainKeys(Keyed, CompanyScoped, Base):
    """DKIM keys of a domain that do not sign: made for the next rotation, or replaced by one.

    `state` is new or retired. The keys that sign stand in the domain's own row. A new pair has its
    sealed private keys; a retired one only what is published, until `keep_until`.
    """

    __tablename__ = "domain_keys"
    __table_args__ = (UniqueConstraint("domain_id", "rsa_selector"),)

    domain_id: Mapped[UUID] = mapped_column(ForeignKey("domain.id"))
    state: Mapped[str]
    rsa_selector: Mapped[str]
    rsa_key: Mapped[str | None]
    rsa_public: Mapped[str]
    ed25519_selector: Mapped[str]
    ed25519_key: Mapped[str | None]
    ed25519_public: Mapped[str]
    created_at: Mapped[datetime]
    keep_until: Mapped[datetime | None]


class DomainCheck(Keyed, CompanyScoped, Base):
    """What a look at a domain's DNS records found: good, advice, wrong or unsure, and why."""

    __tablename__ = "domain_check"
    __table_args__ = (Index("ix_domain_check_domain_id_checked_at", "domain_id", "checked_at"),)

    domain_id: Mapped[UUID] = mapped_column(ForeignKey("domain.id"))
    checked_at: Mapped[datetime]
    state: Mapped[str]
    ready: Mapped[bool]
    findings: Mapped[list[Any]] = mapped_column(default=list)


class Credential(Keyed, CompanyScoped, Base):
    """A password for submission (`kind` smtp, `login` is the user name) or an API token (api).

    `secret_hash` is argon2id for smtp; for api, whose secret has 256 random bits, SHA-256.
    `scram` is the verifier of the same password for SCRAM-SHA-256 (RFC 5802), as `mta.scram` writes
    it; None for passwords from before it was kept.
    `address`, if set, is the only address that may be sent as: a rep's own password.
    `scopes` (api) are words of `mta.accounts.SCOPES` with blanks between; None is all of them.
    `domains` are those it may send from, with blanks between; None is all of the company's.
    """

    __tablename__ = "credential"

    kind: Mapped[str]
    login: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str]
    scram: Mapped[str | None]
    address: Mapped[str | None]
    scopes: Mapped[str | None]
    domains: Mapped[str | None]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]

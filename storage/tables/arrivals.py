"""Mail that came in, before it is understood. Written by `mta` (by SMTP) and `inbound` (by IMAP).

`mta` adds a row for each company that a message is for and answers 250 after the commit;
`inbound` handles the row and marks it. Mailboxes are written by `inbound` alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class Arrival(Keyed, CompanyScoped, Base):
    """One message for one company. `key` makes it unique: a message is taken exactly once.

    `source` is mx, submission or imap; `login` is who submitted it; `state` is waiting, done
    or held. `recipients` are those of this company.
    """

    __tablename__ = "arrival"

    key: Mapped[str] = mapped_column(unique=True)
    source: Mapped[str]
    mail_from: Mapped[str]
    recipients: Mapped[list[Any]]
    remote_ip: Mapped[str] = mapped_column(default="")
    helo: Mapped[str] = mapped_column(default="")
    login: Mapped[str | None]
    spool: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(index=True)
    cause: Mapped[str] = mapped_column(default="")
    message_id: Mapped[UUID | None] = mapped_column(ForeignKey("message.id"))
    received_at: Mapped[datetime]


class Mailbox(Keyed, CompanyScoped, Base):
    """A mailbox that is fetched by IMAP, and how far we are (RFC 3501 §2.3.1.1)."""

    __tablename__ = "mailbox"

    host: Mapped[str]
    port: Mapped[int]
    tls: Mapped[bool]
    login: Mapped[str]
    password: Mapped[str]
    folder: Mapped[str]
    uid_validity: Mapped[int | None]
    last_uid: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(default="")
    checked_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

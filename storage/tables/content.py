"""What companies have to say and to show. Written by `content`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CompanyScoped, Keyed


class ContentItem(Keyed, CompanyScoped, Base):
    """One version of one item. `kind` is mail (a whole message) or passage (words for an answer).

    `descriptors` are typed key/value pairs; `asks` are questions that a passage answers, each in
    some wording a person might use.
    """

    __tablename__ = "content_item"
    __table_args__ = (UniqueConstraint("company_id", "key", "version"),)

    key: Mapped[str]
    version: Mapped[int]
    kind: Mapped[str]
    title: Mapped[str]
    language: Mapped[str] = mapped_column(default="en")
    theme: Mapped[str] = mapped_column(default="")
    descriptors: Mapped[dict[str, Any]] = mapped_column(default=dict)
    asks: Mapped[list[Any]] = mapped_column(default=list)
    subject: Mapped[str] = mapped_column(default="")
    text: Mapped[str]
    html: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class MediaFile(Keyed, CompanyScoped, Base):
    """One version of a file of the company: a picture, a film, a document.

    Its bytes are in `MediaChunk`, complete once `ready`. `media_type` was found out by us.
    """

    __tablename__ = "media_file"
    __table_args__ = (UniqueConstraint("company_id", "key", "version"),)

    key: Mapped[str]
    version: Mapped[int]
    name: Mapped[str]
    title: Mapped[str] = mapped_column(default="")
    media_type: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    ready: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class MediaChunk(Keyed, CompanyScoped, Base):
    """Bytes of a file from `number` x 256 KiB on."""

    __tablename__ = "media_chunk"
    __table_args__ = (UniqueConstraint("media_id", "number"),)

    media_id: Mapped[UUID] = mapped_column(ForeignKey("media_file.id"))
    number: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Presentation(Keyed, CompanyScoped, Base):
    """A page that shows files of the company behind a link.

    `items` are `{"media": id, "caption": words}` in order. One that is
    withdrawn or has expired says so.
    """

    __tablename__ = "presentation"
    __table_args__ = (UniqueConstraint("company_id", "key"),)

    key: Mapped[str]
    title: Mapped[str]
    text: Mapped[str] = mapped_column(default="")
    language: Mapped[str] = mapped_column(default="en")
    items: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]

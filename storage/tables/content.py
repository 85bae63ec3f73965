"""What companies have to say. Written by `content`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
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

"""What all tables share: keys that sort by time, UTC instants, and whose row it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ForeignKey, MetaData, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mail.ids import uuid7
from storage.types import Json, Text, UtcDateTime


class Base(DeclarativeBase):
    """All tables. Constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        datetime: UtcDateTime,
        UUID: Uuid,
        dict[str, Any]: Json,
        list[Any]: Json,
    }


class Keyed:
    """A table whose key is a UUIDv7 made by us."""

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid7)


class CompanyScoped:
    """A row that belongs to one company; sessions see only those of their scope.

    `company_id` is filled in from the session's scope when a row is added without it.
    """

    company_id: Mapped[UUID] = mapped_column(Uuid, ForeignKey("company.id"), index=True)

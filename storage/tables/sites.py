"""How destinations stand, and what people said about them. Written by `mta` (`mta.shaping`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class SiteRecord(Base):
    """What a process that sends has learnt of a site, so that a restart does not lose it.

    No row of a company: limits are those between this appliance and a provider. With an empty
    `process` it is an order of people that all processes follow; with an empty `site` it is how
    far the process's source addresses are warmed up.
    """

    __tablename__ = "site_state"

    process: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[dict[str, Any]] = mapped_column(default=dict)
    updated_at: Mapped[datetime]

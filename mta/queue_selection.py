"""Which deliveries people mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, literal_column
from sqlalchemy.orm import InstrumentedAttribute

from mta.retry import OPEN, WAITING, State
from storage.tables import Delivery, Message

SUSPENDED = "suspended"
"""How the reason of what a suspension put off begins."""


def is_open() -> ColumnElement[bool]:
    """Not done yet; in the words of the index that holds only those, or it would not be used."""
    return _is_one_of(OPEN)


def is_waiting() -> ColumnElement[bool]:
    """Sent from when it is due, likewise."""
    return _is_one_of(WAITING)


def _is_one_of(states: Sequence[State]) -> ColumnElement[bool]:
    return Delivery.state.in_([literal_column(f"'{state}'") for state in states])


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Part of the queue; what is left out does not limit it.

    `before` is when it was handed in at the latest; `site` is the destinations of one, which
    whoever asks has looked up; `suspended` is what a suspension put off.
    """

    company: UUID | None = None
    destination: str | None = None
    site: Sequence[str] | None = None
    campaign: str | None = None
    sender: str | None = None
    kind: str | None = None
    lane: int | None = None
    state: State | None = None
    before: datetime | None = None
    ids: Sequence[UUID] | None = None
    suspended: bool | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing limits it."""
        return all(getattr(self, field.name) is None for field in fields(self))

    def clause(self) -> ColumnElement[bool]:
        """As a condition on deliveries."""
        parts: list[ColumnElement[bool]] = [Delivery.id.is_not(None)]
        if self.company is not None:
            parts.append(Delivery.company_id == self.company)
        if self.destination is not None:
            parts.append(Delivery.destination == self.destination.lower())
        if self.site is not None:
            parts.append(Delivery.destination.in_(list(self.site)))
        if self.lane is not None:
            parts.append(Delivery.lane == self.lane)
        if self.state is not None:
            parts.append(Delivery.state == str(self.state))
        if self.before is not None:
            parts.append(Delivery.created_at <= self.before)
        if self.ids is not None:
            parts.append(Delivery.id.in_(list(self.ids)))
        if self.suspended:
            parts.append(Delivery.reason.startswith(SUSPENDED))
        of_message = self._of_message()
        if of_message:
            parts.append(exists().where(Message.id == Delivery.message_id, *of_message))
        return and_(*parts)

    def _of_message(self) -> list[ColumnElement[bool]]:
        wanted: list[tuple[InstrumentedAttribute[Any], str | None]] = [
            (Message.campaign, self.campaign),
            (Message.sender, self.sender),
            (Message.kind, self.kind),
        ]
        return [column == value for column, value in wanted if value is not None]


EVERYTHING = Which()

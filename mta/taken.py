"""Mail that is claimed in the transaction that writes it down, and who takes it from there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from mta.submission import Claiming, Submitted


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery that was claimed at once, with the bytes that were submitted."""

    submitted: Submitted
    claiming: Claiming
    raw: bytes


class Relay(Protocol):
    """Hands mail over; `mta.delivery.Deliverer` is one."""

    def claiming(self, barred: Collection[str]) -> Claiming | None:
        """How to claim just now; None if there is enough in hand already.

        Addresses in `barred` have to pass the last gate in the queue.
        """
        ...

    async def has_room(self, seconds: float) -> None:
        """Waits until more can be claimed; for so long after mail last went out."""
        ...

    def take(self, taken: Sequence[Taken]) -> None:
        """Takes over what was claimed; called after the commit."""
        ...

    def wake(self) -> None:
        """There is mail in the queue."""
        ...

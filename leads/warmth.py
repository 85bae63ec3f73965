"""How warm a lead is, 0 to 100, and why: a sum of points that fade.

Each thing that a person does gives points, at most so many for each kind, so that ten clicks do
not outweigh one question. Points halve every thirty days. A final sign (unsubscribed, refused)
makes it cold whatever came before, until the person does something of their own will afterwards.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

HALF_LIFE = timedelta(days=30)
MAX_REASONS = 50
"""The oldest are let go; by then they have faded."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Points for one sign, the most that its kind can give, and how it is told."""

    points: int
    most: int
    why: str
    final: bool = False


WEIGHTS = {
    "invited": Weight(10, 20, "was recommended by somebody we know"),
    "consent": Weight(25, 25, "agreed to hear from us"),
    "click": Weight(8, 24, "followed a link"),
    "forward": Weight(20, 30, "passed our mail on"),
    "interested": Weight(45, 60, "answered with interest"),
    "meeting": Weight(50, 60, "wants to meet"),
    "question": Weight(25, 40, "asked a question"),
    "reply": Weight(10, 20, "answered"),
    "not_interested": Weight(-60, 60, "is not interested"),
    "refused": Weight(0, 0, "does not want to hear from us", final=True),
    "unsubscribed": Weight(0, 0, "unsubscribed", final=True),
    "bounced": Weight(0, 0, "can't be reached at this address", final=True),
}
"""A first guess by hand; it can be learnt from what was sold once there are sales to learn from."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that a person did; `event` is where it is recorded."""

    kind: str
    at: datetime
    event: str

    def to_json(self) -> dict[str, Any]:
        """As it is kept with the lead."""
        why = WEIGHTS[self.kind].why
        return {"kind": self.kind, "at": self.at.isoformat(), "event": self.event, "why": why}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Sign:
        """What `to_json` wrote."""
        return cls(str(kept["kind"]), datetime.fromisoformat(kept["at"]), str(kept["event"]))


def warmth(signs: Iterable[Sign], *, now: datetime) -> int:
    """The sum as of `now`."""
    total: dict[str, float] = {}
    for sign in sorted(signs, key=lambda sign: (sign.at, sign.event)):
        weight = WEIGHTS[sign.kind]
        if weight.final:
            total.clear()
            continue
        age = max(now - sign.at, timedelta())
        worth = weight.points * 0.5 ** (age / HALF_LIFE)
        total[sign.kind] = max(-weight.most, min(weight.most, total.get(sign.kind, 0.0) + worth))
    return max(0, min(100, round(sum(total.values()))))


def with_sign(kept: Sequence[dict[str, Any]], sign: Sign) -> list[dict[str, Any]] | None:
    """The reasons with one more, newest last; None if this event is among them already."""
    if any(reason.get("event") == sign.event for reason in kept):
        return None
    return [*kept, sign.to_json()][-MAX_REASONS:]


def sign_of_intent(top: str) -> str:
    """Which sign a reply is that was read as `top`."""
    if top in ("interested", "question", "not_interested"):
        return top
    if top.startswith("meeting"):
        return "meeting"
    return "reply"

"""Why a delivery waits, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mta.retry import State
from storage.tables import Delivery, QueueSuspension


def why_it_waits(
    delivery: Delivery, stopped: Sequence[QueueSuspension], *, campaign: str, now: datetime
) -> list[str]:
    """The reasons, the strongest first; times are UTC. `stopped` is what is suspended now."""
    said = [_of_state(delivery, now)]
    said += [_of_suspension(row) for row in stopped if _concerns(row, delivery, campaign)]
    if delivery.last_text:
        code = f"{delivery.last_code} " if delivery.last_code else ""
        said.append(f"{delivery.destination} said last: {code}{delivery.last_text}")
    if delivery.state in {State.QUEUED, State.DEFERRED, State.UNCERTAIN}:
        said.append(f"It is given up if nobody took it by {_time(delivery.expires_at)}.")
    return said


def _of_state(delivery: Delivery, now: datetime) -> str:
    state, reason = delivery.state, delivery.reason
    why = f" ({reason})" if reason else ""
    later = delivery.due_at > now
    if state == State.HELD:
        return f"It is held until somebody releases it{why}."
    if state == State.SENDING:
        return f"It is being sent now, attempt {delivery.attempts}."
    if state == State.QUEUED and later:
        return f"It is planned for {_time(delivery.due_at)}{why}."
    if state == State.QUEUED:
        return "It is due and waits for room at its destination or in its process."
    if state in {State.DEFERRED, State.UNCERTAIN}:
        first = "It is put off" if state == State.DEFERRED else "Nobody knows if it was taken"
        again = f"the next attempt is at {_time(delivery.due_at)}" if later else "it is due now"
        return f"{first} after {delivery.attempts} attempts{why}; {again}."
    return f"It does not wait: it is {state}{why}."


def _concerns(row: QueueSuspension, delivery: Delivery, campaign: str) -> bool:
    if row.of_company not in {None, delivery.company_id}:
        return False
    return {
        "company": True,
        "campaign": row.name == campaign,
        "domain": row.name == delivery.destination,
    }[row.what]


def _of_suspension(row: QueueSuspension) -> str:
    what = f"The {row.what} {row.name}".strip()
    return f"{what} is suspended until {_time(row.until)} by {row.by}: {row.reason}"


def _time(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")

"""How long to wait before a webhook that failed is tried again, and when to stop.

Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

PAUSES = tuple(timedelta(seconds=s) for s in (5, 30, 120, 600, 1800, 3600, 7200))
LONGEST = timedelta(hours=4)
LONGEST_ASKED_FOR = timedelta(hours=1)
"""Of what a server may ask for by Retry-After (RFC 9110 §10.2.3)."""

GONE = 410
"""This status says: never again (RFC 9110 §15.5.11)."""


def pause(failures: int, *, luck: float, asked: float | None = None) -> timedelta:
    """The wait after so many failures in a row; `luck` of 0 to 1 spreads those that fail together.

    `asked` are the seconds that the server asked for.
    """
    wait = PAUSES[failures - 1] if failures <= len(PAUSES) else LONGEST
    wait *= 0.8 + 0.4 * luck
    if asked is None:
        return wait
    return max(wait, min(timedelta(seconds=asked), LONGEST_ASKED_FOR))


def why_switched_off(
    status: int | None, *, failing_since: datetime, now: datetime, give_up_after: timedelta
) -> str:
    """Empty if it is tried again, otherwise why it is not."""
    if status == GONE:
        return "the server said 410 Gone"
    if now - failing_since >= give_up_after:
        return f"it failed since {failing_since:%Y-%m-%d %H:%M} UTC"
    return ""

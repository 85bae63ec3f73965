"""The way a message took: its Received fields (RFC 5321 §4.4), for a person to look at.

Servers write them in many dialects, which mail-parser knows. Everybody before our own server can
invent them, so nothing is decided by them.
"""

from __future__ import annotations

from dataclasses import dataclass

from inbound.parse import ParsedMessage

MAX_HOPS = 50
MAX_FIELD = 2000


@dataclass(frozen=True, slots=True)
class Hop:
    """One server that took the message: from whom, when (ISO 8601, "" if unsaid), how late."""

    by: str
    sender: str
    at: str
    delay_seconds: float


def hops(message: ParsedMessage) -> list[Hop]:
    """The hops that can be read, the first one first."""
    fields = [field[:MAX_FIELD] for field in message.all("received")[:MAX_HOPS]]
    if not fields:
        return []
    import mailparser  # Only whoever looks at the way pays for the import.

    lines = [f"Received: {' '.join(field.split())}" for field in fields]
    head = "\r\n".join(lines).encode("utf-8", "replace")
    try:
        read = mailparser.parse_from_bytes(head + b"\r\n\r\n").received
    except Exception:  # Its dialects are regular expressions over what strangers wrote.
        return []
    return [
        Hop(
            str(one.get("by", "")),
            str(one.get("from", "")),
            str(one.get("date_utc") or ""),
            float(one.get("delay") or 0),
        )
        for one in read
        if isinstance(one, dict)
    ]

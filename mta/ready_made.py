"""Mail that goes out byte for byte as it lies in the spool, with a return path of its own.

Delivery reports and mail passed on to a rep are made elsewhere; delivery only puts a signature in
front of the one and nothing at all in front of the other. What is special about such a message is
kept in `Message.parsed["ready_made"]`, its bytes at `Message.spool`, and it has no template.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEPT_AS = "ready_made"


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """How the bytes are sent.

    `return_path`: empty for the null return path, None for the message's own bounce address.
    `signed`: whether the sending domain's DKIM signatures are put in front.
    """

    return_path: str | None = None
    signed: bool = False

    def kept(self) -> dict[str, Any]:
        """For `Order.parsed`."""
        return {KEPT_AS: {"return_path": self.return_path, "signed": self.signed}}


def ready_made(parsed: Mapping[str, Any] | None) -> ReadyMade | None:
    """What `kept` wrote, or None for a message that is composed."""
    kept = (parsed or {}).get(KEPT_AS)
    if not isinstance(kept, Mapping):
        return None
    path = kept.get("return_path")
    return ReadyMade(None if path is None else str(path), bool(kept.get("signed")))

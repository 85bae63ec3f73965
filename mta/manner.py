"""How the relay behaves towards other servers: what the owner chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mta.client import Patience


@dataclass(frozen=True, slots=True)
class Manner:
    """How we present ourselves, what we insist on, and how much we do at a time.

    `concurrency` is how many deliveries may be under way, `per_site` how many of them to one site,
    `window` how many may be claimed and not recorded.
    """

    host_name: str
    tls: Literal["opportunistic", "required", "never"] = "opportunistic"
    loopback: bool = False
    concurrency: int = 200
    window: int = 1000
    per_site: int = 4
    patience: Patience = field(default_factory=Patience)

    @property
    def ahead(self) -> int:
        """How many deliveries of one site are claimed ahead of their turn."""
        return max(16 * self.per_site, 32)

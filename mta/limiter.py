"""Slows down whoever guesses passwords: counts failures by address and by account."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

WINDOW_SECONDS = 900.0
BY_ADDRESS = 10
BY_ACCOUNT = 50
"""Higher than by address: a stranger shall not be able to lock somebody out with ease."""

MAX_KEYS = 50_000


class GuessLimiter:
    """In memory, for one process; a restart forgives."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def blocked(self, address: str, account: str) -> bool:
        """Whether this one has to wait before the next try."""
        return (
            self._count(network_of(address)) >= BY_ADDRESS
            or self._count(f"account {account.lower()}") >= BY_ACCOUNT
        )

    def failed(self, address: str, account: str) -> None:
        """A wrong password was given."""
        for key in (network_of(address), f"account {account.lower()[:100]}"):
            since, count = self._failures.pop(key, (self._clock(), 0))
            if self._clock() - since > WINDOW_SECONDS:
                since, count = self._clock(), 0
            self._failures[key] = (since, count + 1)
            if len(self._failures) > MAX_KEYS:
                self._failures.popitem(last=False)

    def _count(self, key: str) -> int:
        since, count = self._failures.get(key, (0.0, 0))
        return count if self._clock() - since <= WINDOW_SECONDS else 0


def network_of(address: str) -> str:
    """An IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))

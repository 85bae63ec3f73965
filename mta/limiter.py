"""Slows down whoever guesses passwords: counts failures by address, and by address and account.

An account is never locked, or strangers could keep its owner out: wrong tries from many addresses
only make each further try slower.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

WINDOW_SECONDS = 900.0
BY_ADDRESS = 10
BY_PAIR = 5
"""Wrong tries at one account from one address."""

SLOW_ACCOUNT = 20
"""Wrong tries at one account, from anywhere, after which each try takes longer."""

LONGEST_DELAY = 5.0
MAX_KEYS = 50_000


class GuessLimiter:
    """In memory, for one process; a restart forgives."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def blocked(self, address: str, account: str) -> bool:
        """Whether this one has to wait for the window to end before the next try."""
        network = network_of(address)
        return (
            self._count(network) >= BY_ADDRESS
            or self._count(f"{network} {_short(account)}") >= BY_PAIR
        )

    def delay(self, account: str) -> float:
        """Seconds that a try at this account has to wait."""
        over = self._count(f"account {_short(account)}") - SLOW_ACCOUNT
        return min(0.1 * over, LONGEST_DELAY) if over > 0 else 0.0

    def failed(self, address: str, account: str) -> None:
        """A wrong password was given."""
        network, account = network_of(address), _short(account)
        for key in (network, f"{network} {account}", f"account {account}"):
            since, count = self._failures.pop(key, (self._clock(), 0))
            if self._clock() - since > WINDOW_SECONDS:
                since, count = self._clock(), 0
            self._failures[key] = (since, count + 1)
            if len(self._failures) > MAX_KEYS:
                self._failures.popitem(last=False)

    def _count(self, key: str) -> int:
        since, count = self._failures.get(key, (0.0, 0))
        return count if self._clock() - since <= WINDOW_SECONDS else 0


def _short(account: str) -> str:
    return account.strip().lower()[:100]


def network_of(address: str) -> str:
    """An IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))

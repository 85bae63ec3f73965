"""Where mail for a domain is handed over: to its own servers, or to one that takes everything."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mta.resolver import MxRecord, Resolver

MAX_HOSTS = 10
"""Mail servers of one domain that are tried in one attempt."""

Shuffle = Callable[[list[MxRecord]], None]


@dataclass(frozen=True, slots=True)
class Host:
    """A mail server by name or address."""

    name: str
    port: int = 25


@dataclass(frozen=True, slots=True)
class Refused:
    """Mail can't go there, now or later, and why."""

    enhanced: str
    reason: str


class Routes(Protocol):
    """Where mail for a domain is handed over."""

    async def to(self, domain: str) -> Sequence[Host] | Refused:
        """Hosts to try, best first.

        Raises `TemporaryError` if nobody could tell us now.
        """
        ...

    def site(self, domain: str) -> str:
        """What domains have in common that share one limit on connections."""
        ...


class SmartHost:
    """All mail goes through one relay, for networks that may not use port 25 themselves."""

    def __init__(self, relay: Host) -> None:
        self._relay = relay

    async def to(self, domain: str) -> Sequence[Host] | Refused:
        return [self._relay]

    def site(self, domain: str) -> str:
        return f"{self._relay.name}:{self._relay.port}"


class DirectToMx:
    """Mail goes straight to the destination's own servers (RFC 5321 §5.1)."""

    def __init__(
        self, resolver: Resolver, *, port: int = 25, shuffle: Shuffle = random.shuffle
    ) -> None:
        self._resolver = resolver
        self._port = port
        self._shuffle = shuffle

    async def to(self, domain: str) -> Sequence[Host] | Refused:
        records = await self._resolver.mx(domain)
        if not records:
            if not await self._resolver.addresses(domain):
                return Refused("5.1.2", f"{domain} has no mail server and no address")
            return [Host(domain, self._port)]  # Without MX records it is its own mail server.
        if any(record.exchange == "." for record in records):
            return Refused("5.1.10", f"{domain} takes no mail")  # Null MX, RFC 7505.
        self._shuffle(records)  # Equal preferences share the load: the sort is stable.
        records.sort(key=lambda record: record.preference)
        return [Host(record.exchange, self._port) for record in records[:MAX_HOSTS]]

    def site(self, domain: str) -> str:
        return domain


def is_public(address: str) -> bool:
    """Whether an address is on the open Internet.

    An MX record that names a private address would let strangers reach into our own network.
    """
    return ipaddress.ip_address(address.partition("%")[0]).is_global

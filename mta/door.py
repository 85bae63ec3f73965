"""The doors of the house, and what all conversations at them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address
from ssl import SSLContext

from mta.allowance import Allowance
from mta.intake import Intake
from mta.limiter import GuessLimiter
from storage.sessions import Sessions

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Door:
    """How one port behaves."""

    name: str
    submission: bool = False
    implicit_tls: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """From the settings; times in seconds."""

    message_bytes: int
    recipients: int
    idle: float
    session: float
    slow: float = 0.25
    """The first delay of slow mode; it doubles with each refusal, up to 32 times."""

    greeting: float = 0.0
    """How long port 25 waits before it greets; who speaks meanwhile is refused."""

    connections: int = 5000
    per_address: int = 200
    """Connections at the same time, in all and from one address."""

    held_bytes: int = 512 << 20
    """What the messages that are just coming in may take in memory, together."""


@dataclass(slots=True)
class Room:
    """Memory that messages on their way in have taken, in bytes."""

    used: int = 0


@dataclass(slots=True)
class Offers:
    """What turns out when the doors open: SCRAM only if every login has a verifier for it."""

    scram: bool = True


@dataclass(frozen=True, slots=True)
class House:
    """What all conversations of a process share.

    `proxies` have to say who is behind them; mail from `trusted` networks needs no password at a
    submission door and counts as sent with the login that is named.
    """

    host_name: str
    sessions: Sessions
    intake: Intake
    limiter: GuessLimiter
    limits: Limits
    tls: SSLContext
    clock: Callable[[], datetime]
    allowance: Allowance = field(default_factory=Allowance)
    proxies: tuple[Network, ...] = ()
    trusted: tuple[tuple[Network, str], ...] = ()
    room: Room = field(default_factory=Room)
    offers: Offers = field(default_factory=Offers)

    def is_proxy(self, address: str) -> bool:
        """Whether a load balancer of ours has this address."""
        return any(_within(address, network) for network in self.proxies)

    def trusted_login(self, address: str) -> str:
        """The login that mail from there counts as; empty if it has to sign in."""
        for network, login in self.trusted:
            if _within(address, network):
                return login
        return ""


def _within(address: str, network: Network) -> bool:
    try:
        return ip_address(address.partition("%")[0]) in network
    except ValueError:
        return False

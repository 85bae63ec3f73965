"""Where a webhook may point to: never at what only this machine or its network can reach.

The address that was checked is the one that is connected to, so that a name server can't say one
thing to the check and another to the connection (DNS rebinding).

Pure, except that `addresses` asks the resolver it is given.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from mail.errors import PermanentError, TemporaryError

MAX_URL = 2000

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Names(Protocol):
    """What is asked of a resolver."""

    async def addresses(self, host: str) -> list[str]:
        """Addresses of a host. Raises `TemporaryError` if nobody could tell."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. `host` is in ASCII; `rest` is path and query."""

    scheme: str
    host: str
    port: int
    rest: str

    @property
    def named(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == {"https": 443, "http": 80}[self.scheme]
        return host if usual else f"{host}:{self.port}"

    def at(self, address: str) -> str:
        """The URL with an address in place of the name."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}{self.rest}"


def target_of(url: str, *, allow_http: bool, allow_private: bool) -> Target:
    """Takes a URL apart. Raises `PermanentError` saying what it may not be."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise PermanentError(f"url: must be printable ASCII, {MAX_URL} characters at most.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise PermanentError(f"url: is not a URL: {error}.") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and allow_http):
        raise PermanentError("url: must begin with https://.")
    if not host or "\\" in url or "%" in parts.netloc:
        raise PermanentError("url: names no host.")
    if "@" in parts.netloc or parts.fragment:
        raise PermanentError("url: has a user name or a fragment. Leave it out.")
    if port == 0:
        raise PermanentError("url: port 0 is none.")
    literal = _literal(host)
    if literal is not None and not allow_private and not is_public(literal):
        raise PermanentError(f"url: {host} is not an address of the public internet.")
    if literal is None and not allow_private and ("." not in host or host.endswith(".localhost")):
        raise PermanentError(f"url: {host} is not a name of the public internet.")
    rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or {"https": 443, "http": 80}[parts.scheme], rest)


async def addresses(names: Names, target: Target, *, allow_private: bool) -> list[str]:
    """The addresses that may be connected to. Raises `TemporaryError` if there are none now."""
    if allow_private and target.host == "localhost":
        return ["127.0.0.1"]
    found = await names.addresses(target.host)
    good = [one for one in found if allow_private or is_public(ipaddress.ip_address(one))]
    if not good:
        why = "is at no address of the public internet" if found else "has no address"
        raise TemporaryError(f"{target.host} {why}")
    return good


def is_public(address: Ip) -> bool:
    """Whether everybody reaches the same machine there, also where IPv4 hides in IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local or int(address) >> 32 == 0:  # ::/96, IPv4-compatible.
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _literal(host: str) -> Ip | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None

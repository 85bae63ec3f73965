"""Which site a domain's mail goes to, found out before any of it is taken from the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mail.errors import TemporaryError
from mta.routes import Refused, Routes
from mta.shaping.known import KnownSites


class Sitemap(Protocol):
    """Names the sites of domains."""

    def site(self, domain: str) -> str:
        """As far as it is known."""
        ...

    def knows(self, domain: str) -> bool:
        """Whether the domain's mail servers were looked up."""
        ...

    async def find(self, domain: str) -> None:
        """Looks them up; `knows` is true afterwards, whatever came of it."""
        ...


class OneSite:
    """Everything goes through one relay."""

    def __init__(self, site: Callable[[str], str]) -> None:
        self._site = site

    def site(self, domain: str) -> str:
        return self._site(domain)

    def knows(self, domain: str) -> bool:
        return True

    async def find(self, domain: str) -> None:
        return None


class MxSites:
    """Domains with the same mail servers, or the same provider, are one site."""

    def __init__(self, routes: Routes, known: KnownSites) -> None:
        self._routes = routes
        self._known = known

    def site(self, domain: str) -> str:
        return self._known.site(domain)

    def knows(self, domain: str) -> bool:
        return self._known.knows(domain)

    async def find(self, domain: str) -> None:
        try:
            hosts = await self._routes.to(domain)
        except TemporaryError:
            hosts = []  # The attempt will say what is wrong with its names.
        names = [] if isinstance(hosts, Refused) else [host.name for host in hosts]
        self._known.learn(domain, names)

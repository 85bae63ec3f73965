"""Remembers which site a domain belongs to, so that the queue can ask without waiting for DNS.

A domain nobody has looked up yet is a site of its own; whoever looks its mail servers up says so
here. Who counts what is in progress keeps the name that the delivery began with.

Memory is bounded: the domains that were longest not asked for go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

MOST = 200_000


class KnownSites:
    """The sites of domains, as `site_of` (of a `Shaper`) names them."""

    def __init__(self, site_of: Callable[[str, Sequence[str]], str], *, most: int = MOST) -> None:
        self._site_of = site_of
        self._most = most
        self._sites: OrderedDict[str, str] = OrderedDict()

    def site(self, domain: str) -> str:
        """The site of a domain; until its mail servers are known, what needs no DNS to tell."""
        known = self._sites.get(domain)
        if known is None:
            return self._site_of(domain, ())
        self._sites.move_to_end(domain)
        return known

    def knows(self, domain: str) -> bool:
        """Whether its mail servers were looked up."""
        return domain in self._sites

    def learn(self, domain: str, mx: Sequence[str]) -> str:
        """These are its mail servers (none: it is its own). Gives its site."""
        site = self._site_of(domain, mx)
        self._sites[domain] = site
        self._sites.move_to_end(domain)
        if len(self._sites) > self._most:
            self._sites.popitem(last=False)
        return site

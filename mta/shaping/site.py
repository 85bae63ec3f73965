"""What a domain's mail servers have in common with others': one site, one set of limits.

A provider's name where the owner or we know it; else a name made of the domain's MX set, which is
the same for all domains that one host serves; else the domain.

A provider has to own all of a domain's MX hosts. Otherwise a stranger could name Google's hosts
beside one of his own that says "slow down", and slow all mail to Google.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

from mta.shaping.rules import Shaping

MAX_NAME = 255
MAX_KNOWN = 4096


def site_of(shaping: Shaping, domain: str, mx: Sequence[str]) -> str:
    """The site that mail for `domain`, with these mail servers, belongs to."""
    return explain(shaping, domain, mx)[0]


class Providers:
    """The provider that an attempt was made at, for numbers: from memory most of the time."""

    def __init__(self, shaping: Shaping) -> None:
        self._find = lru_cache(maxsize=MAX_KNOWN)(partial(_provider, shaping))

    def of(self, domain: str, host: str) -> str:
        """By the domain, else by the server that was spoken to; empty if the rules name none."""
        return self._find(domain, host)


def _provider(shaping: Shaping, domain: str, host: str) -> str:
    name = site_of(shaping, domain, [host] if host else [])
    return name if name in shaping.providers else ""


def explain(shaping: Shaping, domain: str, mx: Sequence[str]) -> tuple[str, str]:
    """The site, and in words why."""
    domain = _name(domain)
    for rule in shaping.providers.values():
        if domain in rule.domains:
            return rule.name, f'the rules of "{rule.name}" name the domain'
    hosts = sorted({_name(host) for host in mx if _name(host)})
    for rule in shaping.providers.values():
        if hosts and all(_under(host, rule.mx) for host in hosts):
            return rule.name, f'all its mail servers are of "{rule.name}"'
    if not hosts or hosts == [domain]:
        return domain, "it is its own mail server"
    rest = f"+{len(hosts) - 1}" if len(hosts) > 1 else ""
    return hosts[0] + rest, "domains with the same mail servers share limits"


def _name(name: str) -> str:
    return name.strip().rstrip(".").lower()[:MAX_NAME]


def _under(host: str, suffixes: Sequence[str]) -> bool:
    """Whether a host is one of these or below: `.google.com` takes in a.google.com."""
    return any(host.endswith(suffix) or host == suffix[1:] for suffix in suffixes)

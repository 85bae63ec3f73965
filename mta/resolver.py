"""Asks the name servers, remembers for a while, and tells "there is none" from "can't tell now"."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from mail.errors import ConfigError, TemporaryError
from mta import metrics

MOST_SECONDS = 3600.0
NOTHING_SECONDS = 300.0
"""How long an answer, or that there is none, is remembered at the most."""

MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class MxRecord:
    """One mail server of a domain; the lowest preference comes first (RFC 5321 §5.1)."""

    preference: int
    exchange: str


@dataclass(frozen=True, slots=True)
class Look:
    """What DNS says about a name now, with what only people who mend it have to know.

    `alias` is where a CNAME at the name leads. `remembered` is for how many seconds name servers
    may go on saying this, also where it is that there is nothing (RFC 2308 §5). `trouble` says why
    nobody could tell; then the rest says nothing.
    """

    values: tuple[str, ...] = ()
    exists: bool = True
    alias: str = ""
    remembered: int = 0
    trouble: str = ""


class Resolver:
    """Mail's questions to DNS. Every method raises `TemporaryError` if nobody could tell."""

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` are "address" or "address:port"; none means those of the system."""
        self._dns = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            self._dns.nameservers = [_server(server) for server in servers]
        self._dns.lifetime = timeout_seconds
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[float, list[str]]] = OrderedDict()

    async def mx(self, domain: str) -> list[MxRecord]:
        """The MX records of a domain; the null MX of RFC 7505 is `MxRecord(0, ".")`."""
        records = []
        for text in await self._ask(domain, "MX"):
            preference, _, exchange = text.partition(" ")
            records.append(MxRecord(int(preference), exchange))
        return records

    async def mx_hosts(self, name: str) -> list[str]:
        """Mail servers of this name, best first."""
        ranked = sorted(await self.mx(name), key=lambda record: record.preference)
        return [record.exchange for record in ranked]

    async def addresses(self, host: str) -> list[str]:
        """IPv4 and IPv6 addresses of a host, IPv6 after IPv4; an address stands for itself."""
        try:
            return [str(ipaddress.ip_address(host.strip("[]")))]
        except ValueError:
            return await self._ask(host, "A") + await self._ask(host, "AAAA")

    async def txt(self, name: str) -> list[str]:
        """Texts at a name, the strings of each put together (RFC 7208 §3.3)."""
        return await self._ask(name, "TXT")

    async def ptr(self, address: str) -> list[str]:
        """Names of an address."""
        try:
            name = dns.reversename.from_address(address)
        except dns.exception.DNSException:
            return []
        return await self._ask(str(name), "PTR")

    async def look(self, name: str, kind: str) -> Look:
        """What DNS says now about records of this kind, without what we remember. Never raises.

        Values are sorted; TXT strings are put together; host names are in lower case and end
        without a dot.
        """
        try:
            answer = await self._resolve(name.rstrip(".").lower(), kind, missing=False)
        except dns.resolver.NXDOMAIN as error:
            responses = error.responses() or {}  # type: ignore[no-untyped-call]
            seconds = min((_nothing_seconds(one) for one in responses.values()), default=0)
            return Look(exists=False, remembered=seconds)
        except dns.resolver.NoNameservers:
            return Look(trouble="the name servers answered with an error (SERVFAIL or REFUSED)")
        except dns.exception.Timeout:
            return Look(trouble="no name server answered in time")
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            return Look(trouble=f"the question could not be asked ({type(error).__name__})")
        asked, told = answer.qname, answer.canonical_name
        alias = "" if told == asked else told.to_text(omit_final_dot=True).lower()
        if answer.rrset is None:
            return Look(alias=alias, remembered=_nothing_seconds(answer.response))
        values = tuple(sorted(_text(record) for record in answer.rrset))
        return Look(values, alias=alias, remembered=int(answer.rrset.ttl))

    async def _resolve(self, name: str, kind: str, *, missing: bool = True) -> dns.resolver.Answer:
        """One question; `missing` raises where the name has no such records."""
        started = time.perf_counter()
        try:
            return await self._dns.resolve(
                f"{name}.", kind, search=False, raise_on_no_answer=missing
            )
        finally:
            metrics.dns_seconds(kind).observe(time.perf_counter() - started)

    async def _ask(self, name: str, kind: str) -> list[str]:
        key = (name.rstrip(".").lower(), kind)
        kept = self._known.get(key)
        now = self._clock()
        if kept is not None and kept[0] > now:
            return list(kept[1])
        try:
            answer = await self._resolve(key[0], kind)
            found = [_text(record) for record in answer]
            until = now + min(float(answer.rrset.ttl if answer.rrset else 0), MOST_SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            found, until = [], now + NOTHING_SECONDS
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise TemporaryError(
                f"The name servers did not tell us about {key[0]}.", f"{type(error).__name__}"
            ) from None
        self._known[key] = (until, found)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return list(found)


def _nothing_seconds(response: dns.message.Message) -> int:
    """How long "there is none" may be remembered: the SOA says (RFC 2308 §5)."""
    for rrset in response.authority:
        if rrset.rdtype == dns.rdatatype.SOA and len(rrset):
            return int(min(rrset.ttl, getattr(rrset[0], "minimum", rrset.ttl)))
    return 0


def _text(record: object) -> str:
    if isinstance(record, MX):
        exchange = record.exchange.to_text()
        return (
            f"{record.preference} {exchange if exchange == '.' else exchange.rstrip('.').lower()}"
        )
    if isinstance(record, TXT):
        return b"".join(record.strings).decode("utf-8", "replace")
    return str(record).rstrip(".")


def _server(text: str) -> dns.nameserver.Nameserver:
    host, port = text, 53
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = int(rest[1:]) if rest[1:].isdigit() else 53
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
        port = int(number) if number.isdigit() else 0
    try:
        if not 0 < port < 65536:
            raise ValueError
        return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(host)), port)
    except ValueError:
        raise ConfigError(
            f'[dns] servers: "{text}" is not an address. '
            'Write for example "192.0.2.53" or "192.0.2.53:5353".'
        ) from None

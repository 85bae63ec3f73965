"""A name server that says what a test wants: UDP on a free loopback port.

    server = DnsServer({"customer.test": {"MX": ["10 mx.customer.test"]},
                        "mx.customer.test": {"A": ["127.0.0.1"]}})
    async with server: Resolver([server.address])

A name that is missing is NXDOMAIN; one that is there without the type asked has no answer; a name
in `failing` gets SERVFAIL; one in `silent` gets nothing. TXT records are given without quotes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset

Zone = Mapping[str, Mapping[str, Sequence[str]]]


class DnsServer(asyncio.DatagramProtocol):
    """Answers from a zone that a test may change while it runs."""

    def __init__(self, zone: Zone, *, ttl: int = 60) -> None:
        self.zone: dict[str, dict[str, list[str]]] = {}
        for name, records in zone.items():
            self.zone[name.lower()] = {kind: list(values) for kind, values in records.items()}
        self.ttl = ttl
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        """As the settings want it: "address:port"."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """One question, one answer."""
        question = dns.message.from_wire(data)
        asked = question.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name, kind))
        if name in self.silent:
            return
        answer = dns.message.make_response(question, recursion_available=True)
        records = self.zone.get(name)
        if name in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif kind in records:
            answer.answer.append(self._records(asked.name, kind, records[kind]))
        elif "CNAME" in records:
            answer.answer.append(self._records(asked.name, "CNAME", records["CNAME"]))
            target = records["CNAME"][0].rstrip(".").lower()
            if kind in self.zone.get(target, {}):
                answer.answer.append(
                    self._records(dns.name.from_text(target), kind, self.zone[target][kind])
                )
        assert self._transport is not None
        wire = answer.to_wire(max_size=65535)
        self._transport.sendto(wire, address)

    def _records(self, name: dns.name.Name, kind: str, values: Sequence[str]) -> dns.rrset.RRset:
        if kind == "TXT":
            made = [_txt(value) for value in values]
            return dns.rrset.from_rdata_list(name, self.ttl, made)
        if kind in {"MX", "CNAME", "PTR", "NS"}:
            values = [value if value.endswith(".") else f"{value}." for value in values]
        return dns.rrset.from_text_list(name, self.ttl, "IN", kind, list(values))


def _txt(value: str) -> dns.rdtypes.ANY.TXT.TXT:
    raw = value.encode()
    strings = [raw[i : i + 255] for i in range(0, len(raw), 255)] or [b""]
    return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)

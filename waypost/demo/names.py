"""A name server for a world of our own: answers from a table, over UDP, on the loopback address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = Mapping[str, Mapping[str, Sequence[str]]]
"""Records by name and type, as in a zone file: `{"a.example": {"MX": ["10 mx.example."]}}`."""


class NameServer(asyncio.DatagramProtocol):
    """Answers for a zone; names that are not in it do not exist."""

    def __init__(self, zone: Zone) -> None:
        self._zone = {_key(name): records for name, records in zone.items()}
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, port: int = 0) -> int:
        """Listens on the loopback address; gives the port."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", port)
        )
        self._transport = transport
        return int(transport.get_extra_info("sockname")[1])

    def stop(self) -> None:
        """Stops listening."""
        if self._transport is not None:
            self._transport.close()

    def replace(self, zone: Zone) -> None:
        """Answers for another zone from now on."""
        self._zone = {_key(name): records for name, records in zone.items()}

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answers one question; what is not a question is left unanswered."""
        try:
            query = dns.message.from_wire(data)
            answer = self._answer(query)
        except (dns.exception.DNSException, ValueError, IndexError):
            return
        if self._transport is not None:
            self._transport.sendto(answer.to_wire(max_size=4096), addr)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        records = self._zone.get(_key(question.name.to_text()))
        if records is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer
        kind = dns.rdatatype.to_text(question.rdtype)
        values = [_quoted(value) if kind == "TXT" else value for value in records.get(kind, ())]
        if values:
            found = dns.rrset.from_text_list(question.name, 60, "IN", kind, values)
            answer.answer.append(found)
        return answer


def _key(name: str) -> str:
    return name.rstrip(".").lower()


def _quoted(text: str) -> str:
    """A TXT value as strings of at most 255 octets (RFC 1035 §3.3)."""
    parts = [text[start : start + 250] for start in range(0, len(text), 250)] or [""]
    return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)

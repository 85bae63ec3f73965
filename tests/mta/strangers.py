"""Other people's mail servers, on free loopback ports, that answer as a test tells them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP


@dataclass
class Taken:
    """One message that a stranger took."""

    mail_from: str
    recipients: list[str]
    content: bytes
    tls: bool


@dataclass
class Sink:
    """A real server (aiosmtpd). `answers` are given to DATA in turn, then 250 for ever."""

    answers: list[str] = field(default_factory=list)
    at_rcpt: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    taken: list[Taken] = field(default_factory=list)
    connections: int = 0
    most_open: int = 0
    delay: float = 0.0
    port: int = 0
    _open: int = 0
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    def _make(self) -> SMTP:
        self.connections += 1
        return _Counted(
            self, hostname="mx.customer.test", tls_context=self.tls, enable_SMTPUTF8=True
        )

    async def handle_RCPT(  # noqa: N802 - named by aiosmtpd.
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Takes or refuses a recipient."""
        if address in self.at_rcpt:
            return self.at_rcpt[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Takes or refuses a message."""
        await asyncio.sleep(self.delay)
        answer = self.answers.pop(0) if self.answers else "250 2.0.0 thank you"
        if answer.startswith("2") or answer == "hang up":
            self.taken.append(
                Taken(
                    envelope.mail_from,
                    list(envelope.rcpt_tos),
                    envelope.content,
                    session.ssl is not None,
                )
            )
        if answer == "hang up":
            server.transport.abort()
            await asyncio.sleep(0.05)
        return answer


class _Counted(SMTP):
    line_length_limit = 100_000

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sink: Sink = self.event_handler
        if self.transport is None:
            sink._open += 1
            sink.most_open = max(sink.most_open, sink._open)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler._open -= 1
        super().connection_lost(error)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

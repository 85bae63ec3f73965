"""Opens the doors: port 25 for the world, 587 and 465 for companies and reps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import cast

import structlog

from mail.errors import ConfigError
from mta.limiter import network_of
from mta.session import Conversation, Door, House

log = structlog.get_logger()

MX = Door("mx")
SUBMISSION = Door("submission", submission=True)
SUBMISSIONS = Door("submissions", submission=True, implicit_tls=True)

GRACE_SECONDS = 5.0

MAX_CONNECTIONS = 5000
MAX_PER_NETWORK = 200
"""Connections at the same time, in all and from one address."""


class Listener:
    """The open doors of one process."""

    def __init__(self, house: House, *, listen: str, share_ports: bool = False) -> None:
        """`share_ports` lets several processes listen on the same ones (SO_REUSEPORT)."""
        self._house = house
        self._listen = listen
        self._share = share_ports
        self._servers: list[asyncio.Server] = []
        self._open: set[Conversation] = set()
        self._networks: Counter[str] = Counter()
        self.ports: dict[str, int] = {}

    async def start(self, doors: Mapping[Door, int]) -> None:
        """Opens each door on its port; 0 takes any free one. Raises `ConfigError`."""
        loop = asyncio.get_running_loop()
        for door, port in doors.items():
            try:
                server = await loop.create_server(
                    lambda door=door: self._conversation(door),
                    self._listen,
                    port,
                    ssl=self._house.tls if door.implicit_tls else None,
                    reuse_port=self._share or None,
                    backlog=512,
                )
            except OSError as error:
                await self.stop()
                raise ConfigError(
                    f"[smtp] {door.name}: can't listen on {self._listen} port {port}: "
                    f"{error.strerror or error}. Another mail server may be running, or ports "
                    "below 1024 need the right to open them (CAP_NET_BIND_SERVICE)."
                ) from None
            self._servers.append(server)
            self.ports[door.name] = server.sockets[0].getsockname()[1]
            log.info("smtp.listening", door=door.name, port=self.ports[door.name])

    async def stop(self) -> None:
        """Takes no new connections and ends those that are open.

        Who is just having a message kept still hears that it was, or it would come again.
        """
        for server in self._servers:
            server.close()
        self._servers.clear()
        end = asyncio.get_running_loop().time() + GRACE_SECONDS
        while self._open:
            late = asyncio.get_running_loop().time() > end
            for conversation in list(self._open):
                if late or not conversation.keeping:
                    self._open.discard(conversation)
                    conversation.dismiss()
            if self._open:
                await asyncio.sleep(0.01)

    def _conversation(self, door: Door) -> asyncio.Protocol:
        if len(self._open) >= MAX_CONNECTIONS:
            return _Busy()
        conversation = Guarded(door, self._house, self)
        self._open.add(conversation)
        return conversation

    def admit(self, peer: str) -> bool:
        """Counts a connection; False if there are too many from there."""
        network = network_of(peer)
        self._networks[network] += 1
        return self._networks[network] <= MAX_PER_NETWORK

    def leave(self, conversation: Conversation, peer: str) -> None:
        """A connection has ended."""
        self._open.discard(conversation)
        network = network_of(peer)
        self._networks[network] -= 1
        if self._networks[network] <= 0:
            del self._networks[network]


class Guarded(Conversation):
    """A conversation that is counted."""

    def __init__(self, door: Door, house: House, listener: Listener) -> None:
        super().__init__(door, house, self._gone_from)
        self._listener = listener
        self._from = ""
        self._turned_away = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Turns away whoever has too many connections already."""
        if not self._from:
            peer = transport.get_extra_info("peername")
            self._from = str(peer[0]) if peer else "?"
            if not self._listener.admit(self._from):
                sink = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclass of it.
                sink.write(b"421 4.7.0 Too many connections from your address\r\n")
                self._turned_away = True
                transport.close()
                return
        super().connection_made(transport)

    def _gone_from(self, conversation: Conversation) -> None:
        self._listener.leave(conversation, self._from)


class _Busy(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(
            b"421 4.3.2 Too many connections, come back later\r\n"
        )
        transport.close()

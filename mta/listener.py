"""Opens the doors: port 25 for the world, 587 and 465 for companies and reps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import structlog

from mail.errors import ConfigError
from mta import metrics
from mta.dialogue import Dialogue
from mta.limiter import network_of
from mta.session import Conversation, Door, House

log = structlog.get_logger()

MX = Door("mx")
SUBMISSION = Door("submission", submission=True)
SUBMISSIONS = Door("submissions", submission=True, implicit_tls=True)

GRACE_SECONDS = 5.0

_OPENED = metrics.connections("in")
_REFUSED = metrics.connections("in", "refused")
_OPEN = metrics.connections_open("in")
_IN_THE_CLEAR = metrics.tls("in", "none")


class Listener:
    """The open doors of one process."""

    def __init__(self, house: House, *, listen: str, share_ports: bool = False) -> None:
        """`share_ports` lets several processes listen on the same ones (SO_REUSEPORT)."""
        self._house = house
        self._listen = listen
        self._share = share_ports
        self._servers: list[asyncio.Server] = []
        self._open: dict[Dialogue, str] = {}
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
                    self.leave(conversation)
                    conversation.dismiss()
            if self._open:
                await asyncio.sleep(0.01)

    def _conversation(self, door: Door) -> asyncio.Protocol:
        return Conversation(door, self._house, self)

    @property
    def count(self) -> int:
        """Connections that are open."""
        return len(self._open)

    def enter(self, dialogue: Dialogue) -> str:
        """Counts a connection; returns why it can't stay, or nothing."""
        self._open[dialogue] = ""
        _OPEN.inc()
        if len(self._open) > self._house.limits.connections:
            _REFUSED.inc()
            return "421 4.3.2 Too many connections, come back later"
        return ""

    def admit(self, dialogue: Dialogue, peer: str) -> str:
        """Counts it by where it comes from; hosts that are trusted may have any number."""
        network = network_of(peer)
        self._open[dialogue] = network
        self._networks[network] += 1
        few = self._networks[network] <= self._house.limits.per_address
        if few or self._house.trusted_login(peer):
            _OPENED.inc()
            return ""
        _REFUSED.inc()
        return "421 4.7.0 Too many connections from your address"

    def leave(self, dialogue: Dialogue) -> None:
        """A connection has ended."""
        network = self._open.pop(dialogue, None)
        if network is None:
            return
        _OPEN.dec()
        if not dialogue.secure:
            _IN_THE_CLEAR.inc()
        if network:
            self._networks[network] -= 1
            if self._networks[network] <= 0:
                del self._networks[network]

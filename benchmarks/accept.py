"""What it costs to take a message in: CPU of the server for MAIL, RCPT, DATA and 4 KiB, on uvloop.

    python -m benchmarks.accept [MESSAGES]

Compared are our conversation, the same without looking at the message (so that the price of the
limits shows), the least that a protocol needs, and aiosmtpd with its slow parts replaced. Nothing
is kept; the client is a process of its own, and only the server's CPU counts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import uvloop
from aiosmtpd.smtp import SMTP

from mail.ids import uuid7
from mta import session
from mta.door import Door, House, Limits
from mta.limiter import GuessLimiter
from mta.session import Conversation

CONNECTIONS = 8
ROUNDS = 5
BODY = b"Subject: a\r\nFrom: bo@a.example\r\n\r\n" + b"A line of plain words, as it is.\r\n" * 120
ENVELOPE = b"MAIL FROM:<bo@a.example>\r\nRCPT TO:<ann@b.example>\r\nDATA\r\n"


class Nowhere:
    """An intake that takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.directory = self
        self.login = SimpleNamespace(login="app", company_id=uuid7())

    def owner_now(self, domain: str) -> None:
        return None

    async def trusted(self, login: str) -> Any:
        return self.login

    def pressure(self, company: object) -> str:
        return ""

    def knows_sender(self, credential: object, address: str) -> bool:
        return True

    async def from_a_company(self, client: object, envelope: object, raw: bytes) -> str:
        return "x"


class Anyone:
    """A lobby that counts nobody."""

    def enter(self, dialogue: object) -> str:
        return ""

    def admit(self, dialogue: object, peer: str) -> str:
        return ""

    def leave(self, dialogue: object) -> None:
        return None


def ours() -> Callable[[], asyncio.Protocol]:
    """Conversations at a submission door, as a trusted host has them."""
    house = House(
        host_name="mail.a.example",
        sessions=cast(Any, None),
        intake=cast(Any, Nowhere()),
        limiter=GuessLimiter(),
        limits=Limits(message_bytes=25 << 20, recipients=1000, idle=300.0, session=1800.0),
        tls=cast(Any, None),
        clock=lambda: datetime.now(UTC),
        trusted=((ip_network("127.0.0.0/8"), "app"),),
    )
    door, lobby = Door("submission", submission=True), Anyone()
    return lambda: Conversation(door, house, lobby)


def unlimited() -> Callable[[], asyncio.Protocol]:
    """The same without looking at the message."""
    setattr(session, "judge_content", lambda content, *, taken_apart=False: "")  # noqa: B010
    return ours()


class Bare(asyncio.Protocol):
    """A buffer and a find: no limits, no checks, no addresses."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets."""
        self._transport = cast(asyncio.Transport, transport)
        self._buffer, self._data = bytearray(), False
        self._transport.write(b"220 bare\r\n")

    def data_received(self, data: bytes) -> None:
        """Says yes to everything."""
        self._buffer += data
        out = []
        while self._buffer:
            end = self._buffer.find(b"\r\n.\r\n" if self._data else b"\r\n")
            if end < 0:
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + (5 if self._data else 2)]
            if self._data:
                line.replace(b"\r\n..", b"\r\n.")
            self._data = not self._data and line[:4].upper() == b"DATA"
            out.append(b"354 go\r\n" if self._data else b"250 2.0.0 ok\r\n")
        self._transport.write(b"".join(out))


class Quicker(SMTP):
    """aiosmtpd with DATA read as a whole and addresses by one expression; no checks."""

    _address = re.compile(r"<([^<>\s]*)>\s*(.*)")

    def _getaddr(self, arg: str) -> tuple[Any, Any]:
        found = self._address.match(arg)
        assert found is not None
        return found[1], found[2]

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - named by aiosmtpd.
        """RFC 5321 §4.1.1.4."""
        await self.push("354 go")
        reader: Any = self._reader
        while (end := reader._buffer.find(b"\r\n.\r\n")) < 0:
            await reader._wait_for_data("smtp_DATA")
        data = bytes(reader._buffer[: end + 2])
        del reader._buffer[: end + 5]
        reader._maybe_resume_transport()
        data.replace(b"\r\n..", b"\r\n.")
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        await self.push("250 2.0.0 ok")


def peer() -> Callable[[], asyncio.Protocol]:
    """aiosmtpd at its best."""
    return lambda: Quicker(
        None, hostname="a", loop=asyncio.get_running_loop(), enable_SMTPUTF8=True
    )


KINDS: dict[str, Callable[[], Callable[[], asyncio.Protocol]]] = {
    "bare protocol": lambda: Bare,
    "ours without looking at the message": unlimited,
    "ours": ours,
    "aiosmtpd, subclassed": peer,
}


def serve(kind: str, door: socket.socket, control: Connection) -> None:
    """Answers until told; says its CPU seconds whenever it is asked."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(KINDS[kind](), sock=door)
        while await loop.run_in_executor(None, control.recv):
            control.send(time.process_time())

    uvloop.run(run())


async def load(port: int, messages: int) -> None:
    """Sends messages over all connections, each pipelined as far as RFC 2920 lets it."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(b"EHLO app.a.example\r\n")
        while (await reader.readline())[3:4] == b"-":
            continue
        for _ in range(messages // CONNECTIONS):
            writer.write(ENVELOPE)
            while not (line := await reader.readline()).startswith(b"354"):
                assert line.startswith(b"250"), line
            writer.write(BODY + b".\r\n")
            line = await reader.readline()
            assert line.startswith(b"250"), line
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


def measure(kind: str, messages: int) -> list[float]:
    """Microseconds of CPU for a message, round by round, best first."""
    door = socket.create_server(("127.0.0.1", 0))
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(kind, door, there), daemon=True)
    server.start()

    def cpu() -> float:
        here.send(True)
        return float(here.recv())

    rounds = []
    uvloop.run(load(door.getsockname()[1], messages // 4))
    for _ in range(ROUNDS):
        before = cpu()
        uvloop.run(load(door.getsockname()[1], messages))
        rounds.append((cpu() - before) / messages * 1e6)
    here.send(False)
    server.join(5)
    server.kill()
    return sorted(rounds)


def main() -> None:
    """Prints a line for each server."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    print(f"µs of CPU for a message of {len(BODY)} bytes: best and median of {ROUNDS} rounds")
    for kind in KINDS:
        rounds = measure(kind, messages)
        print(f"{kind:38} {rounds[0]:7.1f} {rounds[ROUNDS // 2]:7.1f}", flush=True)


if __name__ == "__main__":
    main()

"""A company's own server: takes what a webhook is sent, and answers as a test wants."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass
class Taken:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in it."""
        return list(json.loads(self.body)["data"]["events"])


@dataclass
class Receiver:
    """An HTTP server on a free loopback port. `answer` makes the bytes of a response."""

    answer: Callable[[Taken], bytes] = lambda taken: b"HTTP/1.1 204 No Content\r\n\r\n"
    tls: ssl.SSLContext | None = None
    taken: list[Taken] = field(default_factory=list)
    port: int = 0
    hold: float = 0.0
    """Seconds for which a connection stays open after the answer."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/hook?a=b"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            exact = dict(line.split(": ", 1) for line in head[1:] if line)
            headers |= {name.lower(): value for name, value in exact.items()}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            taken = Taken(head[0].split(" ")[1], headers, body)
            self.taken.append(taken)
            writer.write(self.answer(taken))
            await writer.drain()
            await asyncio.sleep(self.hold)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def status(code: int, *lines: str) -> Callable[[Taken], bytes]:
    """Always this answer."""
    head = "\r\n".join([f"HTTP/1.1 {code} Words", *lines, "content-length: 0"])
    return lambda taken: f"{head}\r\n\r\n".encode()

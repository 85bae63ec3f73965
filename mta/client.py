"""Speaks SMTP to other people's servers: pipelined, bounded in time and size, connection kept.

Written as a bare protocol: one write for the envelope, one for the message with its final dot, one
future and one timer for each wait. What a stranger answers is limited in lines, length and time.
If the connection goes between the final dot and its reply, nobody knows whether the message was
taken: that is `LostError(after_data)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

from mail.smtp_reply import SmtpReply, split_enhanced
from mta import metrics

_OPENED = metrics.connections("out")
_FAILED = metrics.connections("out", "failed")
_REFUSED = metrics.connections("out", "refused")
_OPEN = metrics.connections_open("out")

MAX_REPLY_LINES = 100
MAX_REPLY_LINE = 2048
KEPT_TEXT = 500
"""Characters of a reply that are kept."""

_LINE = re.compile(rb"([2-5]\d\d)([ -]?)(.*)\Z", re.DOTALL)

Transcript = Callable[[str, str], None]
"""Is told what was said: by whom ("us", "them"), and the line."""


class LostError(Exception):
    """The conversation broke off. `after_data`: the final dot was sent, the reply never came."""

    def __init__(self, cause: str, *, after_data: bool = False) -> None:
        super().__init__(cause)
        self.after_data = after_data


class TlsFailedError(Exception):
    """STARTTLS was offered and did not work; the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait, from RFC 5321 §4.5.3.2 (which asks for more than most servers use)."""

    connect: float = 30.0
    greeting: float = 120.0
    reply: float = 120.0
    data: float = 300.0


@dataclass(frozen=True, slots=True)
class Handover:
    """What the other server said to one message, and at which command it was decided."""

    reply: SmtpReply
    command: str


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a message needs of the next server beside the usual.

    `body8`: it has 8-bit content (RFC 6152). `require_tls`: RFC 8689. `verified`: TLS is up and the
    server's name was proven.
    """

    body8: bool = False
    require_tls: bool = False
    verified: bool = False


PLAIN = Extensions()


class Connection(asyncio.Protocol):
    """One connection to one server."""

    def __init__(
        self, host: str, patience: Patience = Patience(), transcript: Transcript | None = None
    ) -> None:
        self.host = host
        self.patience = patience
        self.offers: dict[str, str] = {}
        self.tls = ""
        self.instead: object = None
        """Where people sent mail that would have gone elsewhere; `mta.carrier` sets it."""

        self.sent = 0
        self.broken = False
        self._transcript = transcript
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._replies: deque[tuple[SmtpReply, list[str]]] = deque()
        self._problem: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._closed = self._loop.create_future()
        self._counted = False

    @classmethod
    async def open(
        cls,
        address: str,
        port: int,
        *,
        host: str,
        patience: Patience = Patience(),
        source: str | None = None,
        transcript: Transcript | None = None,
    ) -> Connection:
        """Connects, from `source` if given. Raises `LostError` if nobody answers there."""
        loop = asyncio.get_running_loop()
        connection = cls(host, patience, transcript)
        try:
            async with asyncio.timeout(patience.connect):
                await loop.create_connection(
                    lambda: connection, address, port, local_addr=(source, 0) if source else None
                )
        except (OSError, TimeoutError) as error:
            _FAILED.inc()
            raise LostError(f"{address}:{port}: {_why(error)}") from None
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def usable(self) -> bool:
        """Whether something may be said on it: it is open, and the server said nothing unasked."""
        return not (self.broken or self._problem or self._replies or self._buffer)

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport; no waiting for small packets to fill."""
        self._counted = True
        _OPENED.inc()
        _OPEN.inc()
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it.
        connected: Any = transport.get_extra_info("socket")
        if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits hears of it."""
        self._gone()
        self._fail(error or EOFError("the server hung up"))
        if not self._closed.done():
            self._closed.set_result(None)

    def _gone(self) -> None:
        if self._counted:
            self._counted = False
            _OPEN.dec()

    def eof_received(self) -> None:
        """The server has said all it will say."""
        self._fail(EOFError("the server hung up"))

    def pause_writing(self) -> None:
        """The server reads more slowly than we write."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def data_received(self, data: bytes) -> None:
        """Cuts what comes into replies."""
        buffer = self._buffer
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if end > MAX_REPLY_LINE * 4:
                self._fail(ValueError("the server said a line without end"))
                return
            self._take_line(line)
            if self._problem is not None:
                return
        if len(buffer) > MAX_REPLY_LINE * 4:
            self._fail(ValueError("the server said a line without end"))
        elif len(self._replies) > MAX_REPLY_LINES:
            self._fail(ValueError("the server talks without being asked"))
        elif self._replies:
            self._tell()

    def _take_line(self, raw: bytes) -> None:
        line = raw.rstrip(b"\r\n")[:MAX_REPLY_LINE]
        found = _LINE.match(line)
        if found is None:
            self._fail(ValueError(f"the server said {line[:60]!r}"))
            return
        text = found[3].decode("utf-8", "replace")
        if not text.isprintable():
            text = "".join(c for c in text if c.isprintable())
        self._lines.append(text)
        if self._transcript is not None:
            self._transcript("them", f"{found[1].decode()}{found[2].decode()}{text}")
        if found[2] == b"-":
            if len(self._lines) >= MAX_REPLY_LINES:
                self._fail(ValueError("the server's reply did not end"))
            return
        lines, self._lines = self._lines, []
        code = int(found[1])
        enhanced, first = split_enhanced(lines[0])
        if len(lines) > 1:
            first = " ".join([first, *(split_enhanced(rest)[1] for rest in lines[1:])])
        if code == 421:
            self.broken = True
        self._replies.append((SmtpReply(code, first[:KEPT_TEXT], enhanced), lines))

    def _fail(self, error: Exception) -> None:
        if self._problem is None:
            self._problem = error
        self.broken = True
        self._tell()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _tell(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # The conversation.

    async def greet(self, name: str) -> SmtpReply | None:
        """Reads the greeting and says EHLO, or HELO to old servers. A reply is a refusal."""
        greeting = await self._reply(self.patience.greeting)
        if not greeting.accepted:
            _REFUSED.inc()
            return greeting
        return await self.hello(name)

    async def hello(self, name: str) -> SmtpReply | None:
        """EHLO, and what the server offers."""
        lines: list[str] = []
        reply = await self._command(f"EHLO {name}", lines)
        if reply.accepted:
            self.offers = {}
            for line in lines[1:]:
                word, _, rest = line.partition(" ")
                self.offers[word.upper()] = rest
            return None
        reply = await self._command(f"HELO {name}")
        self.offers = {}
        return None if reply.accepted else reply

    async def start_tls(
        self, context: ssl.SSLContext, name: str, *, server_name: str | None = None
    ) -> None:
        """STARTTLS and EHLO again (RFC 3207 §4.2). Raises `TlsFailedError`."""
        reply = await self._command("STARTTLS")
        if reply.code != 220:
            raise TlsFailedError(str(reply))
        if self._buffer or self._replies or self._lines:
            self.broken = True
            raise TlsFailedError("the server spoke before TLS began")  # CVE-2011-0411.
        assert self._transport is not None
        try:
            async with asyncio.timeout(self.patience.connect):
                secure = await self._loop.start_tls(
                    self._transport,
                    self,
                    context,
                    server_hostname=server_name or self.host,
                    ssl_handshake_timeout=self.patience.connect,
                )
        except (OSError, TimeoutError, ssl.SSLError) as error:
            self.broken = True
            self.abort()
            raise TlsFailedError(_why(error)) from None
        self._transport = secure
        session: Any = secure.get_extra_info("ssl_object") if secure is not None else None
        self.tls = session.version() if session is not None else "TLS"
        refusal = await self.hello(name)
        if refusal is not None:
            raise TlsFailedError(f"EHLO after STARTTLS: {refusal}")

    def peer_certificate(self) -> bytes | None:
        """The certificate that the server showed, as DER."""
        assert self._transport is not None
        session: Any = self._transport.get_extra_info("ssl_object")
        return session.getpeercert(binary_form=True) if session is not None else None

    async def send(
        self, mail_from: str, recipient: str, content: bytes, needs: Extensions = PLAIN
    ) -> Handover:
        """Hands one message over. Raises `LostError` if the connection breaks off.

        After a refusal the connection may be used again (RSET is sent where it is needed).
        """
        refusal = self._cannot(mail_from, recipient, content, needs)
        if refusal is not None:
            return Handover(refusal, "EHLO")
        mail = f"MAIL FROM:<{mail_from}>"
        if "SIZE" in self.offers:
            mail += f" SIZE={len(content)}"
        if needs.body8 and "8BITMIME" in self.offers:
            mail += " BODY=8BITMIME"
        if not (mail_from.isascii() and recipient.isascii()):
            mail += " SMTPUTF8"
        if needs.require_tls:
            mail += " REQUIRETLS"
        commands = [mail, f"RCPT TO:<{recipient}>", "DATA"]
        replies = await self._conversation(commands)
        self.sent += 1
        for command, reply in zip(("MAIL", "RCPT"), replies, strict=False):
            if not reply.accepted:
                await self._give_up(replies[2] if len(replies) > 2 else None)
                return Handover(reply, command)
        if replies[2].code != 354:
            await self._give_up(None)
            return Handover(replies[2], "DATA")
        if self._transcript is not None:
            self._transcript("us", f"({len(content)} bytes of message) .")
        await self._write(stuffed(content), after_data=True)
        reply = await self._reply(self.patience.data, after_data=True)
        return Handover(reply, ".")

    def _cannot(
        self, mail_from: str, recipient: str, content: bytes, needs: Extensions
    ) -> SmtpReply | None:
        """Why this server can't get this message at all."""
        utf8 = not (mail_from.isascii() and recipient.isascii())
        if utf8 and "SMTPUTF8" not in self.offers:
            return SmtpReply(553, "the server does not take such addresses", "5.6.7")
        if needs.require_tls and not (needs.verified and "REQUIRETLS" in self.offers):
            return SmtpReply(550, "the server can't be trusted with REQUIRETLS", "5.7.30")
        limit = self.offers.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < len(content):
            return SmtpReply(552, f"the server takes {limit} bytes at the most", "5.3.4")
        return None

    def abort(self) -> None:
        """Lets it go without a word."""
        self.broken = True
        self._gone()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """QUIT where there is somebody to hear it."""
        if not self.broken:
            with contextlib.suppress(LostError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._command("QUIT")
        self.broken = True
        self._gone()
        if self._transport is None:
            return
        with contextlib.suppress(Exception):
            self._transport.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await asyncio.shield(self._closed)
        self._transport.abort()

    async def _conversation(self, commands: list[str]) -> list[SmtpReply]:
        if "PIPELINING" in self.offers:
            if self._transcript is not None:
                for line in commands:
                    self._transcript("us", line)
            await self._write("".join(f"{line}\r\n" for line in commands).encode())
            return [await self._reply(self.patience.reply) for _ in commands]
        replies = []
        for line in commands:
            replies.append(await self._command(line))
            if not replies[-1].accepted:
                break
        return replies

    async def _give_up(self, data: SmtpReply | None) -> None:
        """Gets the connection back to where a new message may begin."""
        if data is not None and data.code == 354:  # RFC 2920 §3.1: an empty message ends it.
            await self._write(b".\r\n")
            await self._reply(self.patience.data)
        reply = await self._command("RSET")
        self.broken = self.broken or not reply.accepted

    async def _command(self, line: str, lines: list[str] | None = None) -> SmtpReply:
        if self._transcript is not None:
            self._transcript("us", line)
        await self._write(f"{line}\r\n".encode())
        return await self._reply(self.patience.reply, lines)

    async def _write(self, data: bytes, *, after_data: bool = False) -> None:
        if self._problem is not None or self._transport is None:
            raise LostError(_why(self._problem or EOFError()), after_data=False)
        try:
            self._transport.write(data)
            if self._drained is not None:
                await asyncio.wait_for(self._drained, self.patience.data)
        except (OSError, TimeoutError, RuntimeError) as error:
            self.broken = True
            raise LostError(_why(error), after_data=after_data) from None

    async def _reply(
        self, seconds: float, lines: list[str] | None = None, *, after_data: bool = False
    ) -> SmtpReply:
        """One reply; the time is for all of its lines together."""
        if not self._replies and self._problem is None:
            self._waiting = self._loop.create_future()
            late = self._loop.call_later(seconds, self._fail, TimeoutError())
            try:
                await self._waiting
            finally:
                late.cancel()
                self._waiting = None
        if not self._replies:
            raise LostError(_why(self._problem or EOFError()), after_data=after_data)
        reply, said = self._replies.popleft()
        if lines is not None:
            lines += said
        return reply


def stuffed(content: bytes) -> bytes:
    """A message as DATA carries it: every line ends with CRLF, dots doubled, the end mark put.

    No bare CR or LF leaves us, whatever was in the message (RFC 5321 §2.3.8).
    """
    ends = content.count(b"\r\n")
    if ends != content.count(b"\n") or ends != content.count(b"\r"):
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    if content.startswith(b"."):
        content = b"." + content
    if b"\n." in content:
        content = content.replace(b"\r\n.", b"\r\n..")
    return content + b".\r\n"


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__)[:200]

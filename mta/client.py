"""Speaks SMTP to other people's servers: pipelined, bounded in time and size, connection kept.

What a stranger answers is limited in lines, length and time. If the connection goes between the
final dot and its reply, nobody knows whether the message was taken: that is `Lost(after_data)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from mail.smtp_reply import SmtpReply, split_enhanced

MAX_REPLY_LINES = 100
MAX_REPLY_LINE = 2048
KEPT_TEXT = 500
"""Characters of a reply that are kept."""

_LINE = re.compile(rb"([2-5]\d\d)([ -]?)(.*)\Z", re.DOTALL)


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


@dataclass(slots=True)
class Connection:
    """One connection to one server."""

    host: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    patience: Patience
    offers: dict[str, str] = field(default_factory=dict)
    tls: str = ""
    sent: int = 0
    broken: bool = False

    @classmethod
    async def open(
        cls, address: str, port: int, *, host: str, patience: Patience = Patience()
    ) -> Connection:
        """Connects. Raises `LostError` if nobody answers there."""
        try:
            async with asyncio.timeout(patience.connect):
                reader, writer = await asyncio.open_connection(
                    address, port, limit=MAX_REPLY_LINE * 4
                )
        except (OSError, TimeoutError) as error:
            raise LostError(f"{address}:{port}: {_why(error)}") from None
        return cls(host, reader, writer, patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def greet(self, name: str) -> SmtpReply | None:
        """Reads the greeting and says EHLO, or HELO to old servers. A reply is a refusal."""
        greeting = await self._reply(self.patience.greeting)
        if not greeting.accepted:
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

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """STARTTLS and EHLO again (RFC 3207 §4.2). Raises `TlsFailedError`."""
        reply = await self._command("STARTTLS")
        if reply.code != 220:
            raise TlsFailedError(str(reply))
        if self.reader._buffer:  # type: ignore[attr-defined]
            raise TlsFailedError("the server spoke before TLS began")  # CVE-2011-0411.
        try:
            async with asyncio.timeout(self.patience.connect):
                await self.writer.start_tls(context, server_hostname=self.host)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            self.broken = True
            raise TlsFailedError(_why(error)) from None
        session = self.writer.get_extra_info("ssl_object")
        self.tls = session.version() if session is not None else "TLS"
        refusal = await self.hello(name)
        if refusal is not None:
            raise TlsFailedError(f"EHLO after STARTTLS: {refusal}")

    async def send(self, mail_from: str, recipient: str, content: bytes) -> Handover:
        """Hands one message over. Raises `LostError` if the connection breaks off.

        After a refusal the connection may be used again (RSET is sent where it is needed).
        """
        utf8 = not (mail_from.isascii() and recipient.isascii())
        if utf8 and "SMTPUTF8" not in self.offers:
            refusal = SmtpReply(553, "the server does not take such addresses", "5.6.7")
            return Handover(refusal, "EHLO")
        limit = self.offers.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < len(content):
            told = SmtpReply(552, f"the server takes {limit} bytes at the most", "5.3.4")
            return Handover(told, "EHLO")
        size = f" SIZE={len(content)}" if "SIZE" in self.offers else ""
        mail = f"MAIL FROM:<{mail_from}>{size}{' SMTPUTF8' if utf8 else ''}"
        commands = [mail, f"RCPT TO:<{recipient}>", "DATA"]
        replies = await self._conversation(commands)
        self.sent += 1
        said = dict(zip(("MAIL", "RCPT", "DATA"), replies, strict=False))
        for command, reply in said.items():
            if command != "DATA" and not reply.accepted:
                await self._give_up(said.get("DATA"))
                return Handover(reply, command)
        if said["DATA"].code != 354:
            await self._give_up(None)
            return Handover(said["DATA"], "DATA")
        await self._write(stuffed(content), after_data=True)
        reply = await self._reply(self.patience.data, after_data=True)
        return Handover(reply, ".")

    @property
    def usable(self) -> bool:
        """Whether something may be said on it still."""
        return not self.broken and not self.reader.at_eof()

    def abort(self) -> None:
        """Lets it go without a word."""
        self.writer.close()

    async def close(self) -> None:
        """QUIT where there is somebody to hear it."""
        if not self.broken:
            with contextlib.suppress(LostError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._command("QUIT")
        self.writer.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await self.writer.wait_closed()

    async def _conversation(self, commands: list[str]) -> list[SmtpReply]:
        if "PIPELINING" in self.offers:
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
        await self._write(f"{line}\r\n".encode())
        return await self._reply(self.patience.reply, lines)

    async def _write(self, data: bytes, *, after_data: bool = False) -> None:
        try:
            self.writer.write(data)
            async with asyncio.timeout(self.patience.data):
                await self.writer.drain()
        except (OSError, TimeoutError) as error:
            self.broken = True
            raise LostError(_why(error), after_data=after_data) from None

    async def _reply(
        self, seconds: float, lines: list[str] | None = None, *, after_data: bool = False
    ) -> SmtpReply:
        """One reply; the time is for all of its lines together."""
        try:
            async with asyncio.timeout(seconds):
                return await self._read_reply([] if lines is None else lines)
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            self.broken = True
            raise LostError(_why(error), after_data=after_data) from None

    async def _read_reply(self, lines: list[str]) -> SmtpReply:
        for _ in range(MAX_REPLY_LINES):
            line = await self.reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError("the server hung up")
            found = _LINE.match(line.rstrip(b"\r\n")[:MAX_REPLY_LINE])
            if found is None:
                raise ValueError(f"the server said {line[:60]!r}")
            lines.append("".join(c for c in found[3].decode("utf-8", "replace") if c.isprintable()))
            if found[2] != b"-":
                code = int(found[1])
                enhanced, first = split_enhanced(lines[0])
                rest = [split_enhanced(text)[1] for text in lines[1:]]
                if code == 421:
                    self.broken = True
                return SmtpReply(code, " ".join([first, *rest])[:KEPT_TEXT], enhanced)
        raise ValueError("the server's reply did not end")


def stuffed(content: bytes) -> bytes:
    """A message as DATA carries it: every line ends with CRLF, dots doubled, the end mark put.

    No bare CR or LF leaves us, whatever was in the message (RFC 5321 §2.3.8).
    """
    if content.count(b"\r\n") != content.count(b"\n") or content.count(b"\r") != content.count(
        b"\n"
    ):
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__)[:200]

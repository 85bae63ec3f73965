"""One SMTP conversation: aiosmtpd's protocol, replaced where speed and safety ask for it.

DATA is taken from the buffer as a whole instead of line by line, and addresses are read by one
expression. Also mended, of aiosmtpd 1.4.6: an exception is answered 451 without its text; the
time-out is set anew while data comes; limits on commands belong to one connection; AUTH is offered
on submission doors only and only under TLS.

CRLF is the one line end there is. A bare CR or LF is refused with a 5xx that says so, because other
servers take it for the end of a line and read a second message out of one (SMTP smuggling).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from ssl import SSLContext
from typing import Any, AnyStr

import structlog
from aiosmtpd.smtp import SMTP

from mail.address import Address, parse_address
from mail.envelope import Envelope, Recipient
from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7
from mta.accounts import check_smtp
from mta.intake import Client, Intake, Owner
from mta.limiter import GuessLimiter
from storage.sessions import Sessions
from storage.tables import Credential

log = structlog.get_logger()

MAX_COMMAND = 4096
MAX_ERRORS = 20
"""Refusals in one connection, after which we hang up."""

MAX_COMMANDS = 20_000
MAX_LINE = 64 << 10
"""RFC 5322 §2.1.1 allows 998; what comes is longer now and then, and harmless to us."""

MAX_HEADER = 512 << 10
MAX_HOPS = 100
"""Received fields, after which it is a loop (RFC 5321 §6.3)."""

_PATH = re.compile(r"(FROM|TO):[ ]{0,3}<([^<>]{0,512})>(?: +(.{0,1000}))?\Z", re.IGNORECASE)
_SOURCE_ROUTE = re.compile(r"@[^:]{1,400}:")
_PARAMETER = re.compile(r"([A-Za-z0-9-]{1,40})(?:=([!-<>-~]{1,400}))?\Z")


@dataclass(frozen=True, slots=True)
class Door:
    """How one port behaves."""

    name: str
    submission: bool = False
    implicit_tls: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """From the settings; times in seconds."""

    message_bytes: int
    recipients: int
    idle: float
    session: float


@dataclass(frozen=True, slots=True)
class House:
    """What all conversations of a process share."""

    host_name: str
    sessions: Sessions
    intake: Intake
    limiter: GuessLimiter
    limits: Limits
    tls: SSLContext
    clock: Callable[[], datetime]


class Conversation(SMTP):
    """One connection to one of our doors."""

    line_length_limit = MAX_LINE

    def __init__(self, door: Door, house: House, gone: Callable[[Conversation], None]) -> None:
        super().__init__(
            None,
            data_size_limit=house.limits.message_bytes,
            enable_SMTPUTF8=True,
            hostname=house.host_name,
            ident="ESMTP Waypost",
            tls_context=None if door.implicit_tls else house.tls,
            timeout=house.limits.idle,
            loop=asyncio.get_running_loop(),
        )
        self.command_size_limits = defaultdict(lambda: MAX_COMMAND)
        self._door = door
        self._house = house
        self._gone = gone
        self._mail_from: str | None = None
        self._to_us: list[tuple[Owner, str]] = []
        self._to_people: list[Address] = []
        self._credential: Credential | None = None
        self._errors = 0
        self._commands = 0
        self.keeping = False
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def secure(self) -> bool:
        """Whether what is said is encrypted."""
        return self._door.implicit_tls or self._tls_protocol is not None

    @property
    def _state(self) -> Any:
        """aiosmtpd's session, which is there as long as the connection."""
        return self.session

    @property
    def _peer(self) -> str:
        peer = self._state.peer
        return str(peer[0]) if isinstance(peer, tuple) and peer else ""

    # The life of a connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins, or begins anew after STARTTLS with nothing remembered (RFC 3207 §4.2)."""
        self._credential = None
        if self._deadline is None:
            seconds = self._house.limits.session
            self._deadline = self.loop.call_later(seconds, self._end, transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Lets go of what belonged to the connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._gone(self)
        super().connection_lost(error)

    def dismiss(self) -> None:
        """Ends the conversation because we close."""
        transport: Any = self.transport
        if transport is None:
            return
        # A TLS transport whose other end has just gone raises here (CPython's sslproto).
        with contextlib.suppress(AttributeError, RuntimeError):
            transport.write(b"421 4.3.2 Closing for a moment, come back soon\r\n")
            transport.close()

    def _end(self, transport: asyncio.BaseTransport) -> None:
        log.info("smtp.session_too_long", door=self._door.name, peer=self._peer)
        (self.transport or transport).close()

    async def handle_exception(self, error: Exception) -> str:
        """A mistake of ours is not the client's business, and not for good."""
        if isinstance(error, TemporaryError):
            log.warning("smtp.not_now", door=self._door.name, cause=str(error))
        else:
            log.exception("smtp.failed", door=self._door.name)
        return "451 4.3.0 We can't take this now; please try again"

    async def push(self, status: AnyStr) -> None:
        """Says something; after too many refusals also goodbye."""
        await super().push(status)
        first = status[:1] if isinstance(status, str) else status[:1].decode("ascii")
        self._commands += 1
        if first in {"4", "5"}:
            self._errors += 1
        if self._errors > MAX_ERRORS or self._commands > MAX_COMMANDS:
            log.info("smtp.too_many_errors", door=self._door.name, peer=self._peer)
            self._errors = self._commands = 0
            await super().push("421 4.7.0 Too many errors, come back later")
            if self.transport is not None:
                self.transport.close()

    def _set_rset_state(self) -> None:
        super()._set_rset_state()  # type: ignore[no-untyped-call]
        self._mail_from = None
        self._to_us, self._to_people = [], []

    # Commands.

    async def smtp_EHLO(self, arg: str | None) -> None:  # noqa: N802 - named by aiosmtpd.
        """RFC 5321 §4.1.1.1."""
        if not arg or not arg.isprintable():
            await self.push("501 5.5.4 Say EHLO and your host name")
            return
        self._set_rset_state()
        self._state.extended_smtp = True
        self._state.host_name = arg[:255]
        offers = [
            self.hostname,
            "PIPELINING",
            f"SIZE {self._house.limits.message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if not self.secure:
            offers.append("STARTTLS")
        elif self._door.submission:
            offers.append("AUTH PLAIN LOGIN")
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        await self.push("\r\n".join(lines))

    async def smtp_HELO(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.1, for old clients."""
        if not arg or not arg.isprintable():
            await self.push("501 5.5.4 Say HELO and your host name")
            return
        self._set_rset_state()
        self._state.extended_smtp = False
        self._state.host_name = arg[:255]
        await self.push(f"250 {self.hostname}")

    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: N802
        """RFC 4954 with PLAIN (RFC 4616) and LOGIN."""
        if not self._door.submission:
            await self.push("502 5.5.1 AUTH is not offered here")
        elif not self.secure:
            await self.push("538 5.7.11 AUTH needs TLS; say STARTTLS first")
        elif self._credential is not None or self._mail_from is not None:
            await self.push("503 5.5.1 AUTH comes once, and before MAIL")
        else:
            mechanism, _, initial = (arg or "").partition(" ")
            if mechanism.upper() == "PLAIN":
                answer = await self._ask("", initial)
                parts = (answer or "").split("\0")
                if answer is not None:
                    await self._sign_in(*(parts[1:] if len(parts) == 3 else ("", "")))
            elif mechanism.upper() == "LOGIN":
                login = await self._ask("Username:", initial)
                password = None if login is None else await self._ask("Password:", "")
                if login is not None and password is not None:
                    await self._sign_in(login, password)
            else:
                await self.push("504 5.5.4 This mechanism is not offered")

    async def _ask(self, question: str, initial: str) -> str | None:
        """One answer of the client, decoded; None if that ended the exchange."""
        if not initial:
            await self.push(f"334 {base64.b64encode(question.encode()).decode()}")
            line: bytes = await self._reader.readuntil()
            initial = line.strip().decode("ascii", "replace")
        if initial == "*":
            await self.push("501 5.7.0 Given up, as you wish")
            return None
        try:
            return base64.b64decode("" if initial == "=" else initial, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            await self.push("501 5.5.2 That is not base64")
            return None

    async def _sign_in(self, login: str, password: str) -> None:
        if self._house.limiter.blocked(self._peer, login):
            await self.push("454 4.7.0 Too many wrong passwords; try again in 15 minutes")
            return
        credential = await check_smtp(self._house.sessions, login, password)
        if credential is None:
            self._house.limiter.failed(self._peer, login)
            log.warning("smtp.sign_in_refused", door=self._door.name, peer=self._peer)
            await self.push("535 5.7.8 Login or password is wrong")
            return
        self._credential = credential
        await self.push("235 2.7.0 Welcome")

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.2 with SIZE (RFC 1870), BODY (RFC 6152) and SMTPUTF8 (RFC 6531)."""
        if not self._state.host_name:
            await self.push("503 5.5.1 Say EHLO first")
            return
        if self._door.submission and self._credential is None:
            how = "" if self.secure else "; say STARTTLS first"
            await self.push(f"530 5.7.0 Sign in first{how}")
            return
        if self._mail_from is not None:
            await self.push("503 5.5.1 MAIL was said already")
            return
        path = _path("FROM", arg)
        if path is None:
            await self.push("501 5.5.4 Say MAIL FROM:<address>")
            return
        address, parameters = path
        refusal = self._judge_parameters(parameters)
        if refusal:
            await self.push(refusal)
            return
        parsed = parse_address(address)
        if address and parsed is None:
            await self.push("553 5.1.7 This is not a mail address")
            return
        if self._credential is not None and address:
            try:
                await self._house.intake.check_sender(self._credential, address)
            except PermanentError as error:
                await self.push(f"553 5.7.1 {error.public}")
                return
        self._mail_from = address
        await self.push("250 2.1.0 Sender taken")

    def _judge_parameters(self, parameters: dict[str, str]) -> str:
        for name, value in parameters.items():
            if name == "SIZE":
                if not value.isdigit():
                    return "501 5.5.4 SIZE is a number"
                if int(value[:20]) > self._house.limits.message_bytes:
                    return self._too_big()
            elif name == "BODY":
                if value.upper() not in {"7BIT", "8BITMIME"}:
                    return "501 5.5.4 BODY is 7BIT or 8BITMIME"
            elif name not in {"SMTPUTF8", "AUTH"}:
                return f"555 5.5.4 {name} is not known here"
        return ""

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.3."""
        if self._mail_from is None:
            await self.push("503 5.5.1 Say MAIL first")
            return
        path = _path("TO", arg)
        if path is None:
            await self.push("501 5.5.4 Say RCPT TO:<address>")
            return
        address, parameters = path
        if parameters:
            await self.push(f"555 5.5.4 {next(iter(parameters))} is not known here")
            return
        if len(self._to_us) + len(self._to_people) >= self._house.limits.recipients:
            await self.push("452 4.5.3 Too many recipients; send the others a copy of their own")
            return
        await self.push(await self._judge_recipient(address))

    async def _judge_recipient(self, address: str) -> str:
        directory = self._house.intake.directory
        taken = "250 2.1.5 Recipient taken"
        if address.lower() == "postmaster" and not self._door.submission:
            owner = await directory.postmaster()
            if owner is None:
                return "550 5.1.1 Nobody lives here yet"
            self._to_us.append((owner, "postmaster"))
            return taken
        parsed = parse_address(address)
        if parsed is None:
            return "553 5.1.3 This is not a mail address"
        owner = await directory.owner(parsed.domain)
        if owner is None:
            if not self._door.submission:
                return f"550 5.7.1 {_shown(parsed.domain)} is not a domain of ours: relay denied"
            self._to_people.append(parsed)
            return taken
        own = self._credential is None or self._credential.company_id == owner.company_id
        if not own or not directory.takes(owner, parsed.local):
            return f"550 5.1.1 <{_shown(str(parsed))}> is not a mailbox here"
        if self._door.submission:
            self._to_people.append(parsed)
        else:
            self._to_us.append((owner, str(parsed)))
        return taken

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.4: answers 250 when the message is on disk and written down."""
        if not self._to_us and not self._to_people:
            await self.push("503 5.5.1 Say RCPT first")
            return
        if arg:
            await self.push("501 5.5.4 DATA stands alone")
            return
        await self.push("354 End with <CR><LF>.<CR><LF>")
        try:
            content = await self._take_data()
            answer = self._too_big() if content is None else _judge_content(content)
            if content is not None and not answer:
                answer = await self._keep(content)
        finally:
            self._set_rset_state()  # Also after a failure: the next message begins anew.
        await self.push(answer)

    async def _take_data(self) -> bytes | None:
        """All up to the final dot, dots taken away; None if it was more than is allowed."""
        reader: Any = self._reader
        limit = self._house.limits.message_bytes
        buffer: bytearray = reader._buffer
        scanned, too_big = 0, False
        while True:
            if buffer.startswith(b".\r\n") and not too_big:
                del buffer[:3]
                return b""
            end = buffer.find(b"\r\n.\r\n", scanned)
            if end >= 0:
                break
            if len(buffer) > limit:  # Go on reading, but keep only what may begin the end mark.
                too_big = True
                del buffer[:-4]
            scanned = max(0, len(buffer) - 4)
            await reader._wait_for_data("smtp_DATA")
            self._reset_timeout()
        with memoryview(buffer) as view:
            content = bytes(view[: end + 2])
        del buffer[: end + 5]
        reader._maybe_resume_transport()
        if too_big or len(content) > limit:
            return None
        if content.startswith(b"."):
            content = content[1:]
        return content.replace(b"\r\n..", b"\r\n.") if b"\r\n.." in content else content

    async def _keep(self, content: bytes) -> str:
        self.keeping = True
        try:
            return await self._keep_it(content)
        finally:
            self.keeping = False

    async def _keep_it(self, content: bytes) -> str:
        client = Client(self._peer, str(self._state.host_name), self._credential)
        intake, mail_from = self._house.intake, self._mail_from or ""
        if not self._door.submission:
            raw = self._trace() + content
            envelope = Envelope(mail_from)
            key = await intake.from_the_world(client, envelope, self._to_us, raw)
            return f"250 2.0.0 Kept as {key}"
        try:
            envelope = Envelope(mail_from, tuple(Recipient(str(a)) for a in self._to_people))
            key = await intake.from_a_company(client, envelope, content)
        except PermanentError as error:
            return f"550 5.6.0 {_shown(error.public)}"
        return f"250 2.0.0 Kept as {key}"

    def _trace(self) -> bytes:
        """The Received field that says how the message came (RFC 5321 §4.4)."""
        protocol = "ESMTPS" if self.secure else "ESMTP"
        helo = re.sub(r"[^A-Za-z0-9.:\[\]-]", "?", str(self._state.host_name))[:255]
        now = format_datetime(self._house.clock())
        literal = f"IPv6:{self._peer}" if ":" in self._peer else self._peer
        line = (
            f"Received: from {helo} ([{literal}])\r\n"
            f"\tby {self.hostname} with {protocol} id {uuid7().hex};\r\n\t{now}\r\n"
        )
        return line.encode("ascii", "replace")

    def _too_big(self) -> str:
        most = self._house.limits.message_bytes
        return f"552 5.3.4 A message may have {most} bytes at the most"


def _judge_content(content: bytes) -> str:
    """Empty if the message is well formed as far as SMTP goes, otherwise the refusal."""
    ends = content.count(b"\r\n")
    if content.count(b"\n") != ends:
        return "550 5.6.0 The message has a bare LF; lines end with CRLF (RFC 5321 2.3.8)"
    if content.count(b"\r") != ends:
        return "550 5.6.0 The message has a bare CR; lines end with CRLF (RFC 5321 2.3.8)"
    if b"\0" in content:
        return "550 5.6.0 The message has a NUL character (RFC 5321 4.5.2)"
    if len(content) > MAX_LINE and max(map(len, content.split(b"\r\n"))) > MAX_LINE:
        return f"550 5.6.0 The message has a line of more than {MAX_LINE} bytes"
    head = content.partition(b"\r\n\r\n")[0]
    if len(head) > MAX_HEADER:
        return f"550 5.6.0 The header has more than {MAX_HEADER} bytes"
    if head[:9].lower() == b"received:" or b"\r\nReceived:" in head:
        hops = sum(line[:9].lower() == b"received:" for line in head.split(b"\r\n"))
        if hops > MAX_HOPS:
            return "554 5.4.6 The message has been through too many servers: a loop"
    return ""


def _path(keyword: str, arg: str | None) -> tuple[str, dict[str, str]] | None:
    """Address and parameters of MAIL or RCPT; None if it is not well formed."""
    found = _PATH.match(arg or "")
    if found is None or found[1].upper() != keyword:
        return None
    address = _SOURCE_ROUTE.sub("", found[2], count=1) if found[2][:1] == "@" else found[2]
    parameters = {}
    for word in (found[3] or "").split():
        parameter = _PARAMETER.match(word)
        if parameter is None:
            return None
        parameters[parameter[1].upper()] = parameter[2] or ""
    return address, parameters


def _shown(text: str) -> str:
    """Text of the client's, safe to say back."""
    return "".join(c for c in text if c.isprintable())[:400]

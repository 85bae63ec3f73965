"""One SMTP conversation: bytes in, replies out.

Everything that can be answered from memory is answered at once, all commands of a packet together
(PIPELINING) with one write. What has to wait (a password, a domain nobody knows yet, the disk) runs
as a task, and what the client says meanwhile waits in the buffer, which is bounded.

Written by ourselves, after measuring (docs/decisions): it takes a third of the CPU of aiosmtpd with
its slow parts replaced, and has none of its traps to work around.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from ipaddress import IPv4Network, IPv6Network, ip_address
from ssl import SSLContext, SSLError
from typing import Any, Final, cast

import structlog

from mail.address import parse_address
from mail.envelope import Envelope, Recipient
from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7
from mta.accounts import check_smtp
from mta.allowance import Allowance
from mta.intake import Client, Intake, Owner
from mta.limiter import GuessLimiter
from mta.proxy_protocol import ProxyError, read_header
from mta.wire import judge_content, notify_of, original_of, path_of, shown, unstuffed, xtext
from storage.sessions import Sessions
from storage.tables import Credential

log = structlog.get_logger()

MAX_COMMAND = 4096
MAX_ERRORS = 20
"""Refusals in one connection, after which we hang up."""

SLOW_AFTER = 4
"""Refusals after which each further one is answered later and later."""

MAX_COMMANDS = 20_000
MAX_BUFFER = 256 << 10
"""What a client may write ahead while it has to wait."""

TLS_SECONDS = 30.0

Network = IPv4Network | IPv6Network


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
    slow: float = 0.25
    """The first delay of slow mode; it doubles with each refusal, up to 32 times."""


@dataclass(frozen=True, slots=True)
class House:
    """What all conversations of a process share.

    `proxies` have to say who is behind them; mail from `trusted` networks needs no password at a
    submission door and counts as sent with the login that is named.
    """

    host_name: str
    sessions: Sessions
    intake: Intake
    limiter: GuessLimiter
    limits: Limits
    tls: SSLContext
    clock: Callable[[], datetime]
    allowance: Allowance = field(default_factory=Allowance)
    proxies: tuple[Network, ...] = ()
    trusted: tuple[tuple[Network, str], ...] = ()


COMMANDS: Final = "command"
DATA: Final = "data"
CHUNK: Final = "chunk"
ANSWER: Final = "answer"
PROXY: Final = "proxy"
OVERLONG: Final = "overlong"


class Conversation(asyncio.Protocol):
    """One connection to one of our doors."""

    def __init__(self, door: Door, house: House, gone: Callable[[Conversation], None]) -> None:
        self._door = door
        self._house = house
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._mode: str = COMMANDS
        self._busy = self._choked = self._closing = self._paused = False
        self.keeping = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._heard = self._loop.time()
        self._secure = door.implicit_tls
        self._peer = ""
        self._helo = ""
        self._extended = False
        self._credential: Credential | None = None
        self._errors = self._commands = 0
        self._asked: asyncio.Future[bytes] | None = None
        self._scanned = 0
        self._too_big = False
        self._chunk_left = 0
        self._chunk_last = False
        self._chunk_refused = ""
        self._chunks: bytearray | None = None
        self._sender: str | None = None
        self._to_us: list[tuple[Owner, str]] = []
        self._to_people: list[Recipient] = []
        self._forget_mail()

    # The life of a connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets, or waits for the load balancer to say who it is."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it.
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self._deadline = self._loop.time() + self._house.limits.session
        self._tick()
        if _within(self._peer, self._house.proxies):
            self._mode = PROXY
        else:
            self._greet()

    def connection_lost(self, error: Exception | None) -> None:
        """Lets go of what belonged to the connection; what is being kept is kept all the same."""
        self._closing = True
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is not None and not self._asked.done():
            self._asked.cancel()
        self._buffer.clear()
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        """Answers what is complete."""
        self._heard = self._loop.time()
        self._buffer += data
        if not self._busy and not self._choked:
            self._advance()
        elif len(self._buffer) > MAX_BUFFER and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has said all; who is waiting for an answer still gets it."""
        return self.keeping and not self._secure

    def pause_writing(self) -> None:
        """The client does not read its replies: it gets no more until it does."""
        self._choked = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._choked = False
        if not self._busy:
            self._advance()

    def dismiss(self) -> None:
        """Ends the conversation because we close."""
        self._closing = True
        if self._transport is not None:
            self._write(b"421 4.3.2 Closing for a moment, come back soon\r\n")
            self._hang_up()

    def _greet(self) -> None:
        self._say(f"220 {self._house.host_name} ESMTP Waypost")
        if self._door.submission and _within_trusted(self._peer, self._house.trusted):
            self._wait_for(self._trust())
        else:
            self._flush()

    async def _trust(self) -> None:
        login = _within_trusted(self._peer, self._house.trusted)
        self._credential = await self._house.intake.directory.trusted(login or "")
        if self._credential is None:
            log.error("smtp.trusted_login_unknown", login=login)

    def _tick(self) -> None:
        """Looks now and then whether the client has been silent, or here, for too long."""
        now, limits = self._loop.time(), self._house.limits
        if self._transport is None:
            return
        waits = self._busy and self.keeping
        if now >= self._deadline or (now - self._heard >= limits.idle and not waits):
            log.info("smtp.timed_out", door=self._door.name, peer=self._peer)
            self._closing = True
            self._write(b"421 4.4.2 Too slow, come back later\r\n")
            self._hang_up()
            self._timer = self._loop.call_later(2.0, self._abort)
            return
        ends = min(self._deadline, self._heard + limits.idle) if not waits else self._deadline
        self._timer = self._loop.call_later(max(ends - now, 0.05), self._tick)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _hang_up(self) -> None:
        # A TLS transport whose other end has just gone raises here (CPython's sslproto).
        with contextlib.suppress(AttributeError, RuntimeError):
            if self._transport is not None:
                self._transport.close()

    # Reading and writing.

    def _advance(self) -> None:
        """Takes whole commands from the buffer as long as nothing has to be waited for."""
        buffer = self._buffer
        while buffer and not self._busy and not self._closing and not self._choked:
            if self._mode == COMMANDS:
                end = buffer.find(b"\n")
                if end < 0:
                    if len(buffer) <= MAX_COMMAND:
                        break
                    self._mode = OVERLONG
                    self._say("500 5.5.2 A command has 4096 bytes at the most")
                    continue
                line = bytes(buffer[: end + 1])
                del buffer[: end + 1]
                self._command(line)
            elif not self._advance_in_other_mode():
                break
        self._flush()
        if self._paused and not self._busy and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _advance_in_other_mode(self) -> bool:
        """The same where what comes is no command; False if more has to come."""
        if self._mode == DATA:
            return self._take_data()
        if self._mode == CHUNK:
            return self._take_chunk()
        if self._mode == PROXY:
            return self._take_proxy()
        end = self._buffer.find(b"\n")
        if self._mode == OVERLONG:
            if end < 0:
                self._buffer.clear()
                return False
            del self._buffer[: end + 1]
            self._mode = COMMANDS
            return True
        if end < 0:
            if len(self._buffer) > MAX_COMMAND * 4:
                self._closing = True
                self._hang_up()
            return False
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._mode, self._busy = COMMANDS, True
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(line)
        return True

    def _say(self, reply: str) -> None:
        """Puts a reply in line; after too many refusals also goodbye."""
        self._out.append(reply.encode("utf-8", "replace") + b"\r\n")
        self._commands += 1
        if reply[0] in "45":
            self._errors += 1
            if self._errors > MAX_ERRORS:
                self._leave("421 4.7.0 Too many errors, come back later")
            elif self._errors > SLOW_AFTER and self._house.limits.slow:
                late = min(2.0 ** (self._errors - SLOW_AFTER - 1), 32.0) * self._house.limits.slow
                self._wait_for(asyncio.sleep(late))
        elif self._commands > MAX_COMMANDS:
            self._leave("421 4.7.0 Too many commands, come back later")

    def _leave(self, reply: str) -> None:
        log.info("smtp.sent_away", door=self._door.name, peer=self._peer, reply=reply)
        self._out.append(reply.encode() + b"\r\n")
        self._closing = True
        self._flush()
        self._hang_up()

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            # A TLS transport whose other end has just gone raises here (CPython's sslproto).
            with contextlib.suppress(AttributeError, RuntimeError):
                self._transport.write(data)

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Lets the client wait until the work is done; nobody can cancel it by leaving."""
        if self._busy:  # Slow mode within other work: that takes its time anyway.
            work.close()
            return
        self._busy = True
        self._task = self._loop.create_task(self._finish(work))

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TemporaryError as error:
            log.warning("smtp.not_now", door=self._door.name, cause=str(error))
            self._say("451 4.3.0 We can't take this now; please try again")
        except PermanentError as error:
            self._say(f"550 5.6.0 {shown(error.public)}")
        except Exception:  # A mistake of ours is not the client's business, and not for good.
            log.exception("smtp.failed", door=self._door.name)
            self._say("451 4.3.0 We can't take this now; please try again")
        finally:
            self._busy = self.keeping = False
            self._task = None
        self._heard = self._loop.time()
        self._flush()
        if not self._closing and not self._choked:
            self._advance()

    # Commands.

    def _command(self, line: bytes) -> None:
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
            self._say("500 5.5.2 A command ends with CRLF and has no other CR, LF or NUL")
            return
        try:
            text = line[:-2].decode("utf-8")
        except UnicodeDecodeError:
            self._say("500 5.5.2 That is not UTF-8")
            return
        if len(text) > MAX_COMMAND:
            self._say("500 5.5.2 A command has 4096 bytes at the most")
            return
        verb, _, arg = text.partition(" ")
        answer = _VERBS.get(verb.upper())
        if answer is None:
            self._say(f"500 5.5.1 {shown(verb)[:40]} is no command here")
        else:
            answer(self, arg.strip())

    def _ehlo(self, arg: str) -> None:
        """RFC 5321 §4.1.1.1."""
        if not arg or not arg.isprintable():
            self._say("501 5.5.4 Say EHLO and your host name")
            return
        self._forget_mail()
        self._extended, self._helo = True, arg[:255]
        limits = self._house.limits
        offers = [
            self._house.host_name,
            "PIPELINING",
            f"SIZE {limits.message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
            "DSN",
            f"LIMITS RCPTMAX={limits.recipients}",
        ]
        if not self._secure:
            offers.append("STARTTLS")
        else:
            offers.append("REQUIRETLS")
            if self._door.submission:
                offers.append("AUTH PLAIN LOGIN")
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        self._say("\r\n".join(lines))

    def _hello(self, arg: str) -> None:
        """RFC 5321 §4.1.1.1, for old clients."""
        if not arg or not arg.isprintable():
            self._say("501 5.5.4 Say HELO and your host name")
            return
        self._forget_mail()
        self._extended, self._helo = False, arg[:255]
        self._say(f"250 {self._house.host_name}")

    def _mail(self, arg: str) -> None:
        """RFC 5321 §4.1.1.2 with SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET and
        ENVID (RFC 3461), REQUIRETLS (RFC 8689)."""
        if not self._helo:
            self._say("503 5.5.1 Say EHLO first")
        elif self._door.submission and self._credential is None:
            how = "" if self._secure else "; say STARTTLS first"
            self._say(f"530 5.7.0 Sign in first{how}")
        elif self._sender is not None:
            self._say("503 5.5.1 MAIL was said already")
        elif (path := path_of("FROM", arg)) is None:
            self._say("501 5.5.4 Say MAIL FROM:<address>")
        elif refusal := self._judge_parameters(path.parameters):
            self._forget_mail()
            self._say(refusal)
        elif path.address and parse_address(path.address) is None:
            self._forget_mail()
            self._say("553 5.1.7 This is not a mail address")
        elif refusal := self._judge_pressure():
            self._forget_mail()
            self._say(refusal)
        elif self._credential is not None and path.address:
            intake = self._house.intake
            if intake.knows_sender(self._credential, path.address):
                self._take_sender(path.address)
            else:
                self._wait_for(self._check_sender(path.address))
        else:
            self._take_sender(path.address)

    def _take_sender(self, address: str) -> None:
        self._sender = address
        self._say("250 2.1.0 Sender taken")

    async def _check_sender(self, address: str) -> None:
        assert self._credential is not None
        try:
            await self._house.intake.check_sender(self._credential, address)
        except PermanentError as error:
            self._forget_mail()
            self._say(f"553 5.7.1 {shown(error.public)}")
        else:
            self._take_sender(address)

    def _judge_pressure(self) -> str:
        company = self._credential.company_id if self._credential else None
        if why := self._house.intake.pressure(company):
            return f"452 4.3.1 {why}"
        if self._credential is not None:
            return self._house.allowance.refusal(self._credential.login)
        return ""

    def _judge_parameters(self, parameters: dict[str, str]) -> str:
        for name, value in parameters.items():
            if name == "SIZE":
                if not value.isdigit():
                    return "501 5.5.4 SIZE is a number"
                if int(value[:20]) > self._house.limits.message_bytes:
                    return self._larger()
            elif name == "BODY":
                if value.upper() not in {"7BIT", "8BITMIME"}:
                    return "501 5.5.4 BODY is 7BIT or 8BITMIME"
            elif name == "RET":
                if value.upper() not in {"FULL", "HDRS"}:
                    return "501 5.5.4 RET is FULL or HDRS"
                self._ret = value.upper()
            elif name == "ENVID":
                identity = xtext(value)
                if identity is None or len(identity) > 100:
                    return "501 5.5.4 ENVID is not well formed (RFC 3461)"
                self._envelope_id = identity
            elif name == "REQUIRETLS":
                if not self._secure:
                    return "530 5.7.4 REQUIRETLS needs TLS; say STARTTLS first"
                self._require_tls = True
            elif name not in {"SMTPUTF8", "AUTH"}:
                return f"555 5.5.4 {name} is not known here"
        return ""

    def _rcpt(self, arg: str) -> None:
        """RFC 5321 §4.1.1.3 with NOTIFY and ORCPT (RFC 3461)."""
        if self._sender is None:
            self._say("503 5.5.1 Say MAIL first")
            return
        path = path_of("TO", arg)
        if path is None:
            self._say("501 5.5.4 Say RCPT TO:<address>")
            return
        notify: tuple[str, ...] | None = ()
        original: str | None = ""
        for name, value in path.parameters.items():
            if name == "NOTIFY":
                notify = notify_of(value)
            elif name == "ORCPT":
                original = original_of(value)
            else:
                self._say(f"555 5.5.4 {name} is not known here")
                return
        if notify is None or original is None:
            self._say("501 5.5.4 NOTIFY or ORCPT is not well formed (RFC 3461)")
            return
        if len(self._to_us) + len(self._to_people) >= self._house.limits.recipients:
            self._say("452 4.5.3 Too many recipients; send the others a copy of their own")
            return
        recipient = Recipient(path.address, notify, original)
        try:
            self._say(self._judge_recipient(recipient, self._house.intake.directory.owner_now))
        except LookupError:
            self._wait_for(self._look_up(recipient))

    async def _look_up(self, recipient: Recipient) -> None:
        """The same when the owner of the domain has to be asked for."""
        directory = self._house.intake.directory
        domain = recipient.address.rpartition("@")[2].lower()
        owner = await (directory.owner(domain) if domain else directory.owner(""))
        postmaster = await directory.postmaster() if "@" not in recipient.address else None
        self._say(self._judge_recipient(recipient, lambda name: owner or postmaster))

    def _judge_recipient(
        self, recipient: Recipient, owner_of: Callable[[str], Owner | None]
    ) -> str:
        taken = "250 2.1.5 Recipient taken"
        address = recipient.address
        if address.lower() == "postmaster" and not self._door.submission:
            owner = owner_of("postmaster")
            if owner is None:
                return "550 5.1.1 Nobody lives here yet"
            self._to_us.append((owner, "postmaster"))
            return taken
        parsed = parse_address(address)
        if parsed is None:
            return "553 5.1.3 This is not a mail address"
        owner = owner_of(parsed.domain)
        known = Recipient(str(parsed), recipient.notify, recipient.original)
        if owner is None:
            if not self._door.submission:
                return f"550 5.7.1 {shown(parsed.domain)} is not a domain of ours: relay denied"
            self._to_people.append(known)
            return taken
        own = self._credential is None or self._credential.company_id == owner.company_id
        if not own or not self._house.intake.directory.takes(owner, parsed.local):
            return f"550 5.1.1 <{shown(str(parsed))}> is not a mailbox here"
        if self._door.submission:
            self._to_people.append(known)
        else:
            self._to_us.append((owner, str(parsed)))
        return taken

    def _data(self, arg: str) -> None:
        """RFC 5321 §4.1.1.4."""
        if self._chunks is not None:
            self._say("503 5.5.1 The message was begun with BDAT (RFC 3030 2)")
        elif not self._to_us and not self._to_people:
            self._say("503 5.5.1 Say RCPT first")
        elif arg:
            self._say("501 5.5.4 DATA stands alone")
        else:
            self._mode, self._scanned, self._too_big = DATA, 0, False
            self._say("354 End with <CR><LF>.<CR><LF>")

    def _take_data(self) -> bool:
        """All up to the final dot, found in the buffer as a whole; False if more has to come."""
        buffer = self._buffer
        if self._scanned == 0 and not self._too_big and buffer.startswith(b".\r\n"):
            del buffer[:3]
            self._taken(b"")
            return True
        end = buffer.find(b"\r\n.\r\n", self._scanned)
        if end < 0:
            if len(buffer) > self._house.limits.message_bytes:
                self._too_big = True  # Go on, but keep only what may begin the end mark.
                del buffer[:-4]
            self._scanned = max(0, len(buffer) - 4)
            return False
        with memoryview(buffer) as view:
            content = bytes(view[: end + 2])
        del buffer[: end + 5]
        if self._too_big or len(content) > self._house.limits.message_bytes:
            self._mode = COMMANDS
            self._forget_mail()
            self._say(self._larger())
        else:
            self._taken(unstuffed(content))
        return True

    def _bdat(self, arg: str) -> None:
        """RFC 3030 §2."""
        words = arg.upper().split()
        fits = 0 < len(words) <= 2 and words[0].isdigit() and len(words[0]) <= 12
        if not fits or (len(words) == 2 and words[1] != "LAST"):
            self._say("501 5.5.4 Say BDAT, a size, and LAST where it is the last")
            return
        size, limit = int(words[0]), self._house.limits.message_bytes
        self._chunk_left, self._chunk_last = size, len(words) == 2
        self._chunk_refused = ""
        if not self._to_us and not self._to_people:
            self._chunk_refused = "503 5.5.1 Say RCPT first"
        elif len(self._chunks or b"") + size > limit:
            self._chunk_refused = self._larger()
        if self._chunk_refused and size > 4 * limit:
            self._leave(self._chunk_refused)
            return
        self._chunks = bytearray() if self._chunks is None else self._chunks
        self._mode = CHUNK
        if size == 0:
            self._take_chunk()

    def _take_chunk(self) -> bool:
        part = min(self._chunk_left, len(self._buffer))
        if not self._chunk_refused and self._chunks is not None:
            self._chunks += self._buffer[:part]
        del self._buffer[:part]
        self._chunk_left -= part
        if self._chunk_left:
            return False
        self._mode = COMMANDS
        if self._chunk_refused:
            self._forget_mail()
            self._say(self._chunk_refused)
        elif self._chunk_last:
            content = bytes(self._chunks or b"")
            self._taken(content if content.endswith(b"\r\n") or not content else content + b"\r\n")
        else:
            self._say("250 2.0.0 Chunk taken")
        return True

    def _taken(self, content: bytes) -> None:
        """A whole message is here: it is judged, and kept in a task of its own."""
        self._mode = COMMANDS
        refusal = judge_content(content, taken_apart=self._door.submission)
        envelope = Envelope(
            self._sender or "",
            tuple(self._to_people),
            require_tls=self._require_tls,
            ret=self._ret,
            envelope_id=self._envelope_id,
        )
        to_us = self._to_us
        self._forget_mail()  # Also after a failure: the next message begins anew.
        if refusal:
            self._say(refusal)
        elif not self._busy:
            self.keeping = True
            self._wait_for(self._keep(envelope, to_us, content))

    async def _keep(
        self, envelope: Envelope, to_us: list[tuple[Owner, str]], content: bytes
    ) -> None:
        intake = self._house.intake
        client = Client(self._peer, self._helo, self._credential)
        if self._door.submission:
            key = await intake.from_a_company(client, envelope, content)
            if self._credential is not None:
                self._house.allowance.used(self._credential.login, len(envelope.recipients))
        else:
            raw = self._trace() + content
            key = await intake.from_the_world(client, envelope, to_us, raw)
        self._say(f"250 2.0.0 Kept as {key}")

    def _trace(self) -> bytes:
        """The Received field that says how the message came (RFC 5321 §4.4)."""
        protocol = f"{'ESMTP' if self._extended else 'SMTP'}{'S' if self._secure else ''}"
        helo = re.sub(r"[^A-Za-z0-9.:\[\]-]", "?", self._helo)[:255]
        now = format_datetime(self._house.clock())
        literal = f"IPv6:{self._peer}" if ":" in self._peer else self._peer
        line = (
            f"Received: from {helo} ([{literal}])\r\n"
            f"\tby {self._house.host_name} with {protocol} id {uuid7().hex};\r\n\t{now}\r\n"
        )
        return line.encode("ascii", "replace")

    def _larger(self) -> str:
        most = self._house.limits.message_bytes
        return f"552 5.3.4 A message may have {most} bytes at the most"

    def _forget_mail(self) -> None:
        self._sender = None
        self._to_us, self._to_people = [], []
        self._ret = self._envelope_id = ""
        self._require_tls = False
        self._chunks = None

    def _reset(self, arg: str) -> None:
        self._forget_mail()
        self._say("250 2.0.0 Forgotten")

    def _noop(self, arg: str) -> None:
        self._say("250 2.0.0 Yes")

    def _help(self, arg: str) -> None:
        self._say("214 2.0.0 Commands: EHLO MAIL RCPT DATA BDAT RSET NOOP STARTTLS AUTH QUIT")

    def _verify(self, arg: str) -> None:
        """RFC 5321 §3.5.3: whether somebody lives here is not told."""
        self._say("252 2.5.2 Send mail and see")

    def _not_offered(self, arg: str) -> None:
        self._say("502 5.5.1 This is not offered here")

    def _quit(self, arg: str) -> None:
        self._say("221 2.0.0 Goodbye")
        self._closing = True
        self._flush()
        self._hang_up()

    # TLS and who it is.

    def _start_tls(self, arg: str) -> None:
        """RFC 3207; what came behind the command in the clear is thrown away (CVE-2011-0411)."""
        if self._secure:
            self._say("503 5.5.1 TLS is on already")
        elif arg:
            self._say("501 5.5.4 STARTTLS stands alone")
        else:
            self._buffer.clear()
            self._say("220 2.0.0 Go ahead")
            self._flush()
            self._wait_for(self._upgrade())

    async def _upgrade(self) -> None:
        transport = self._transport
        if transport is None:
            return
        try:
            secure = await self._loop.start_tls(
                transport,
                self,
                self._house.tls,
                server_side=True,
                ssl_handshake_timeout=TLS_SECONDS,
            )
        except (OSError, SSLError) as error:
            log.info("smtp.tls_failed", door=self._door.name, peer=self._peer, cause=str(error))
            transport.abort()
            return
        self._transport = secure
        self._secure = True
        self._helo, self._credential = "", None
        self._forget_mail()

    def _take_proxy(self) -> bool:
        try:
            found = read_header(self._buffer)
        except ProxyError as error:
            log.warning("smtp.no_proxy_header", peer=self._peer, cause=str(error))
            self._leave("421 4.7.0 Say first for whom you speak (PROXY)")
            return False
        if found is None:
            return False
        del self._buffer[: found.length]
        self._peer = found.address or self._peer
        self._mode = COMMANDS
        self._greet()
        return True

    def _auth(self, arg: str) -> None:
        """RFC 4954 with PLAIN (RFC 4616) and LOGIN."""
        mechanism, _, initial = arg.partition(" ")
        if not self._door.submission:
            self._say("502 5.5.1 AUTH is not offered here")
        elif not self._secure:
            self._say("538 5.7.11 AUTH needs TLS; say STARTTLS first")
        elif self._credential is not None or self._sender is not None:
            self._say("503 5.5.1 AUTH comes once, and before MAIL")
        elif mechanism.upper() == "PLAIN":
            self._wait_for(self._plain(initial))
        elif mechanism.upper() == "LOGIN":
            self._wait_for(self._login(initial))
        else:
            self._say("504 5.5.4 This mechanism is not offered")

    async def _plain(self, initial: str) -> None:
        answer = await self._ask("", initial)
        if answer is not None:
            parts = answer.split("\0")
            login, password = parts[1:] if len(parts) == 3 else ("", "")
            await self._sign_in(login, password)

    async def _login(self, initial: str) -> None:
        login = await self._ask("Username:", initial)
        password = None if login is None else await self._ask("Password:", "")
        if login is not None and password is not None:
            await self._sign_in(login, password)

    async def _ask(self, question: str, initial: str) -> str | None:
        """One answer of the client, decoded; None if that ended the exchange."""
        if not initial:
            self._say(f"334 {base64.b64encode(question.encode()).decode()}")
            self._flush()
            self._asked = self._loop.create_future()
            self._mode, self._busy = ANSWER, False
            self._loop.call_soon(self._advance)
            line = await self._asked
            initial = line.strip().decode("ascii", "replace")
        if initial == "*":
            self._say("501 5.7.0 Given up, as you wish")
            return None
        try:
            return base64.b64decode("" if initial == "=" else initial, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            self._say("501 5.5.2 That is not base64")
            return None

    async def _sign_in(self, login: str, password: str) -> None:
        limiter = self._house.limiter
        if limiter.blocked(self._peer, login):
            self._say("454 4.7.0 Too many wrong passwords; try again in 15 minutes")
            return
        credential = await check_smtp(self._house.sessions, login, password)
        if credential is None:
            limiter.failed(self._peer, login)
            log.warning("smtp.sign_in_refused", door=self._door.name, peer=self._peer)
            self._say("535 5.7.8 Login or password is wrong")
            return
        self._credential = credential
        self._say("235 2.7.0 Welcome")


_VERBS: dict[str, Callable[[Conversation, str], None]] = {
    "EHLO": Conversation._ehlo,
    "HELO": Conversation._hello,
    "MAIL": Conversation._mail,
    "RCPT": Conversation._rcpt,
    "DATA": Conversation._data,
    "BDAT": Conversation._bdat,
    "RSET": Conversation._reset,
    "NOOP": Conversation._noop,
    "HELP": Conversation._help,
    "VRFY": Conversation._verify,
    "EXPN": Conversation._not_offered,
    "TURN": Conversation._not_offered,
    "ETRN": Conversation._not_offered,
    "QUIT": Conversation._quit,
    "STARTTLS": Conversation._start_tls,
    "AUTH": Conversation._auth,
}


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return False
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _within_trusted(address: str, trusted: tuple[tuple[Network, str], ...]) -> str:
    """The login that mail from there counts as; empty if it has to sign in."""
    for network, login in trusted:
        if _within(address, (network,)):
            return login
    return ""

"""The life of one SMTP connection: buffers, time, TLS and manners, but no commands.

Everything that can be answered from memory is answered at once, all commands of a packet together
(PIPELINING) with one write. What has to wait (a password, a domain nobody knows yet, the disk) runs
as a task, and what the client says meanwhile waits in the buffer, which is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from ssl import SSLError
from typing import Any, Protocol, cast

import structlog

from mail.errors import PermanentError, TemporaryError
from mta import metrics
from mta.door import Door, House
from mta.proxy_protocol import ProxyError, read_header
from mta.wire import shown

log = structlog.get_logger()

MAX_COMMAND = 4096
MAX_ERRORS = 20
"""Refusals in one connection, after which we hang up."""

SLOW_AFTER = 4
"""Refusals after which each further one is answered later and later."""

MAX_COMMANDS = 20_000
"""Since the last message that was taken."""

MAX_BUFFER = 256 << 10
"""What a client may write ahead while it has to wait."""

TLS_SECONDS = 30.0
LINGER_SECONDS = 2.0
"""How long a client that was sent away may take to read the reason."""

BARE = "521 5.5.2 A command ends with CRLF and has no other CR or LF in it (RFC 5321 2.3.8)"


class Lobby(Protocol):
    """Counts who is there; `mta.listener.Listener` is one."""

    def enter(self, dialogue: Dialogue) -> str:
        """A connection came; returns why it can't stay, or nothing."""
        ...

    def admit(self, dialogue: Dialogue, peer: str) -> str:
        """The same when it is known whose it is."""
        ...

    def leave(self, dialogue: Dialogue) -> None:
        """It has ended."""
        ...


class Dialogue(asyncio.Protocol):
    """One connection to one of our doors."""

    def __init__(self, door: Door, house: House, lobby: Lobby) -> None:
        self._door = door
        self._house = house
        self._lobby = lobby
        self._counted = metrics.at_door(door.name)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._take: Callable[[], bool] = self._take_line
        self._busy = self._choked = self._closing = self._paused = self._eof = False
        self.keeping = False
        """Whether a message is being kept, whose sender has to hear of it."""

        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._heard = self._loop.time()
        self._secure = False
        self._peer = ""
        self._errors = self._commands = 0
        self._late = 0.0
        self._held = 0
        self._asked: asyncio.Future[bytes] | None = None

    @property
    def secure(self) -> bool:
        """Whether TLS is on."""
        return self._secure

    # For the commands.

    def _command(self, line: bytes) -> None:
        """Answers one command, without its CRLF."""
        raise NotImplementedError

    async def _recognise(self) -> None:
        """Finds out who it is, as far as the address tells; before the greeting and after TLS."""

    def _forget(self) -> None:
        """Forgets all that was said (RFC 3207 §4.2)."""
        raise NotImplementedError

    # The life of a connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets, or waits for the load balancer to say who it is."""
        # uvloop's transports are of no asyncio class.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self._deadline = self._loop.time() + self._house.limits.session
        self._tick()
        if refusal := self._lobby.enter(self):
            self._turn_away(refusal)
        elif self._house.is_proxy(self._peer):
            self._take = self._take_proxy
        else:
            self._begin()

    def _begin(self) -> None:
        waits = self._house.limits.greeting and not self._door.submission
        if refusal := self._lobby.admit(self, self._peer):
            self._turn_away(refusal)
        elif self._door.implicit_tls or waits or self._house.trusted:
            self._wait_for(self._begin_slowly())
        else:
            self._greet()
            self._flush()

    async def _begin_slowly(self) -> None:
        if self._door.implicit_tls:
            await self._upgrade(raw=True)
        elif not self._door.submission and self._house.limits.greeting:
            await asyncio.sleep(self._house.limits.greeting)
            if self._buffer and not self._closing:
                self._leave("554 5.5.0 You spoke before the greeting (RFC 5321 4.3.1)")
        if not self._closing:
            await self._recognise()
            self._greet()

    def _greet(self) -> None:
        self._say(f"220 {self._house.host_name} ESMTP Waypost")

    def _turn_away(self, refusal: str) -> None:
        if self._door.implicit_tls:  # It expects TLS and would not understand.
            self._closing = True
            self._hang_up()
        else:
            self._leave(refusal)

    def connection_lost(self, error: Exception | None) -> None:
        """Lets go of what belonged to the connection; what is being kept is kept all the same."""
        self._closing = True
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is not None:
            self._asked.cancel()
        self._buffer.clear()
        self._hold(0)
        self._lobby.leave(self)

    def data_received(self, data: bytes) -> None:
        """Answers what is complete."""
        if self._closing:
            return
        self._heard = self._loop.time()
        self._buffer += data
        if not self._busy and not self._choked:
            self._advance()
        elif len(self._buffer) > MAX_BUFFER and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has said all; who is waiting for an answer still gets it."""
        self._eof = True
        return (self._busy or self._choked) and not self._closing and not self._secure

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
        if not self._door.implicit_tls or self._secure:
            self._write(b"421 4.3.2 Closing for a moment, come back soon\r\n")
        self._hang_up()

    def _tick(self) -> None:
        """Looks now and then whether the client has been silent, or here, for too long."""
        if self._transport is None:
            return
        now, idle = self._loop.time(), self._house.limits.idle
        ends = min(self._deadline, self._heard + idle)
        if self.keeping:  # It has to hear what became of its message, or it would come again.
            ends = max(ends, now + 1.0)
        if now < ends:
            self._timer = self._loop.call_later(max(ends - now, 0.02), self._tick)
            return
        log.info("smtp.timed_out", door=self._door.name, peer=self._peer)
        if not self._closing and (self._secure or not self._door.implicit_tls):
            self._flush()
            self._write(b"421 4.4.2 Too slow, come back later\r\n")
        self._closing = True
        self._hang_up()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._abort)

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
        """Takes what is complete from the buffer as long as nothing has to be waited for."""
        while self._buffer and not (self._busy or self._closing or self._choked):
            if not self._take():
                break
            if self._late:
                self._wait_for(_nothing())
                return  # The refusal itself comes late as well.
        if self._out:
            self._flush()
        if self._paused and not self._busy and not self._choked and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if self._eof and not (self._busy or self._choked):
            self._hang_up()

    def _take_line(self) -> bool:
        buffer = self._buffer
        end = buffer.find(b"\n")
        if end < 0:
            if len(buffer) > MAX_COMMAND:
                self._say("500 5.5.2 A command has 4096 bytes at the most")
                self._take = self._skip_line
                return True
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        if end > MAX_COMMAND:
            self._say("500 5.5.2 A command has 4096 bytes at the most")
        elif line[-1:] != b"\r" or line.find(b"\r") != end - 1:
            # What others take for one line may be two here: nothing after it can be trusted.
            self._leave(BARE)
        elif b"\0" in line:
            self._say("500 5.5.2 A command has no NUL in it")
        else:
            self._command(line[:-1])
        return True

    def _skip_line(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            self._buffer.clear()
            return False
        del self._buffer[: end + 1]
        self._take = self._take_line
        return True

    def _say(self, reply: str, *, fault: bool = True) -> None:
        """Puts a reply in line; after too many refusals also goodbye.

        `fault` says whether a refusal is one that the client is to blame for.
        """
        self._out.append(reply.encode("utf-8", "replace") + b"\r\n")
        self._commands += 1
        if fault and reply[0] in "45":
            self._errors += 1
            if self._errors > MAX_ERRORS:
                self._leave("421 4.7.0 Too many errors, come back later")
            elif self._errors > SLOW_AFTER:
                late = min(2.0 ** (self._errors - SLOW_AFTER - 1), 32.0)
                self._late = late * self._house.limits.slow
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

    def _hold(self, size: int) -> bool:
        """Counts the bytes of a message on its way in; False if there is no room for them."""
        room = self._house.room
        more = size - self._held
        if more > 0 and room.used + more > self._house.limits.held_bytes:
            return False
        room.used += more
        self._held = size
        return True

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Lets the client wait until the work is done; nobody can cancel it by leaving."""
        assert not self._busy
        self._busy = True
        self._task = self._loop.create_task(self._finish(work))

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TemporaryError as error:
            log.warning("smtp.not_now", door=self._door.name, cause=str(error))
            self._say(f"451 4.3.0 {shown(error.public)}", fault=False)
        except PermanentError as error:
            self._say(f"550 5.6.0 {shown(error.public)}")
        except Exception:  # A mistake of ours is not the client's business, and not for good.
            log.exception("smtp.failed", door=self._door.name)
            self._say("451 4.3.0 We can't take this now; please try again", fault=False)
        finally:
            self.keeping = False
            if self._held:
                self._hold(0)
        if self._late:
            late, self._late = self._late, 0.0
            if not self._closing:
                await asyncio.sleep(late)
        self._busy = False
        self._task = None
        self._heard = self._loop.time()
        self._flush()
        if not self._closing and not self._choked:
            self._advance()

    async def _ask(self, challenge: str) -> bytes:
        """The client's answer to a 334; raises `CancelledError` if it leaves."""
        self._out.append(f"334 {challenge}\r\n".encode())
        self._asked = self._loop.create_future()
        self._take, self._busy = self._take_answer, False
        self._loop.call_soon(self._advance)
        return await self._asked

    def _take_answer(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0 and len(self._buffer) <= MAX_COMMAND * 4:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if end < 0 or line[-1:] != b"\r":
            self._leave(BARE if end >= 0 else "500 5.5.6 This answer is too long")
            return True
        self._take, self._busy = self._take_line, True
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(line[:-1])
        return True

    # Who it is behind a load balancer, and TLS.

    def _take_proxy(self) -> bool:
        try:
            found = read_header(self._buffer)
        except ProxyError as error:
            log.warning("smtp.no_proxy_header", peer=self._peer, cause=str(error))
            self._turn_away("421 4.7.0 Say first for whom you speak (PROXY)")
            return False
        if found is None:
            return False
        del self._buffer[: found.length]
        self._peer = found.address or self._peer
        self._take = self._take_line
        if self._door.implicit_tls and self._transport is not None:
            self._transport.pause_reading()
        self._begin()
        return True

    def _start_tls(self, arg: str) -> None:
        """RFC 3207; what came behind the command in the clear is thrown away (CVE-2011-0411)."""
        if self._secure:
            self._say("503 5.5.1 TLS is on already")
        elif arg:
            self._say("501 5.5.4 STARTTLS stands alone")
        elif self._transport is not None:
            self._transport.pause_reading()  # Not a byte more in the clear.
            self._buffer.clear()
            self._say("220 2.0.0 Go ahead")
            self._flush()
            self._wait_for(self._upgrade())

    async def _upgrade(self, *, raw: bool = False) -> None:
        """Puts TLS under the conversation; `raw` if bytes of it may have been read already."""
        transport = self._transport
        if transport is None:
            return
        starting = self._loop.create_task(
            self._loop.start_tls(
                transport,
                self,
                self._house.tls,
                server_side=True,
                ssl_handshake_timeout=min(TLS_SECONDS, self._house.limits.idle),
            )
        )
        if raw:
            await asyncio.sleep(0)  # Now the bytes go to TLS,
            await asyncio.sleep(0)  # and now it is ready for those that came to us.
            early = bytes(self._buffer)
            self._buffer.clear()
            _feed(transport, early)
        try:
            secure = await starting
        except (OSError, SSLError) as error:
            log.info("smtp.tls_failed", door=self._door.name, peer=self._peer, cause=str(error))
            secure = None
        if secure is None:
            transport.abort()
            self.connection_lost(None)  # asyncio does not, where a handshake takes too long.
            return
        if self._closing:
            secure.abort()
            return
        self._transport = secure
        self._secure = True
        session = secure.get_extra_info("ssl_object")
        metrics.tls("in", session.version() if session is not None else "TLS").inc()
        self._paused = False
        self._forget()
        if not raw:
            await self._recognise()


async def _nothing() -> None:
    """Work that is done at once."""


def _feed(transport: asyncio.Transport, data: bytes) -> None:
    """Gives bytes that were read to the protocol that is there now."""
    protocol = cast(asyncio.BufferedProtocol, transport.get_protocol())
    while data and not transport.is_closing():
        buffer = cast(memoryview, protocol.get_buffer(len(data)))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]

"""What is said at our doors: the commands of SMTP, from EHLO to the message.

`mta.dialogue` reads and writes; here is decided what is answered. Written by ourselves after
measuring (docs/decisions/0006-own-smtp-session.md).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from time import perf_counter, time_ns

import structlog

from mail.address import parse_address
from mail.envelope import Envelope, Recipient
from mail.errors import PermanentError
from mta.dialogue import MAX_ERRORS as MAX_ERRORS
from mta.dialogue import Dialogue, Lobby
from mta.door import Door as Door
from mta.door import House as House
from mta.door import Limits as Limits
from mta.intake import Client, Owner
from mta.sign_in import RefusedError, mechanisms, sign_in
from mta.wire import judge_content, notify_of, original_of, path_of, shown, unstuffed, xtext
from storage.tables import Credential

log = structlog.get_logger()

MAX_MAILS = 50_000
"""Messages in one connection, announced as MAILMAX (RFC 9422)."""

HOLD_FROM = 64 << 10
"""Messages on their way in that are smaller are not counted as taking memory."""


class Conversation(Dialogue):
    """One connection to one of our doors."""

    def __init__(self, door: Door, house: House, lobby: Lobby) -> None:
        super().__init__(door, house, lobby)
        self._helo = ""
        self._extended = False
        self._credential: Credential | None = None
        self._signed_in = False
        self._mails = 0
        self._scanned = 0
        self._chunk_left = 0
        self._chunk_last = False
        self._refusal = ""
        self._chunks: bytearray | None = None
        self._forget_mail()

    def _forget(self) -> None:
        self._helo, self._credential, self._signed_in = "", None, False
        self._forget_mail()

    def _forget_mail(self) -> None:
        self._sender: str | None = None
        self._to_us: list[tuple[Owner, str]] = []
        self._to_people: list[Recipient] = []
        self._ret = self._envelope_id = self._body = ""
        self._require_tls = self._utf8 = False
        self._chunks = None

    async def _recognise(self) -> None:
        login = self._door.submission and self._house.trusted_login(self._peer)
        if login:
            self._credential = await self._house.intake.directory.trusted(login)
            if self._credential is None:
                log.error("smtp.trusted_login_unknown", login=login)

    # Commands.

    def _command(self, line: bytes) -> None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            self._say("500 5.5.2 That is not UTF-8")
            return
        verb, _, arg = text.partition(" ")
        answer = _VERBS.get(verb.upper())
        if answer is None:
            self._say(f"500 5.5.1 {shown(verb)[:40]} is no command here")
        else:
            answer(self, arg.strip(" \t"))

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
            f"LIMITS RCPTMAX={limits.recipients} MAILMAX={MAX_MAILS}",
        ]
        if not self._secure:
            offers.append("STARTTLS")
        else:
            offers.append("REQUIRETLS")
            if self._door.submission:
                offers.append(f"AUTH {mechanisms(self._house)}")
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
        elif self._mails >= MAX_MAILS:
            self._leave(f"421 4.7.0 {MAX_MAILS} messages are enough for one connection")
        elif (path := path_of("FROM", arg)) is None:
            self._say("501 5.5.4 Say MAIL FROM:<address>")
        elif path.parameters and (refusal := self._judge_parameters(path.parameters)):
            self._forget_mail()
            self._say(refusal)
        elif path.address and parse_address(path.address) is None:
            self._forget_mail()
            self._say("553 5.1.7 This is not a mail address")
        elif refusal := self._judge_pressure():
            self._counted.deferred.inc()
            self._forget_mail()
            self._say(refusal, fault=False)
        elif self._credential is not None and path.address:
            intake = self._house.intake
            if intake.knows_sender(self._credential, path.address):
                self._take_sender(path.address)
            else:
                self._wait_for(self._check_sender(self._credential, path.address))
        else:
            self._take_sender(path.address)

    def _take_sender(self, address: str) -> None:
        self._sender = address
        self._mails += 1
        self._say("250 2.1.0 Sender taken")

    async def _check_sender(self, credential: Credential, address: str) -> None:
        try:
            await self._house.intake.check_sender(credential, address)
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
                if not value.isascii() or not value.isdigit():
                    return "501 5.5.4 SIZE is a number"
                if int(value[:20]) > self._house.limits.message_bytes:
                    return self._larger()
            elif name == "BODY":
                self._body = value.upper()
                if self._body not in {"7BIT", "8BITMIME"}:
                    return "501 5.5.4 BODY is 7BIT or 8BITMIME"
            elif name == "RET":
                self._ret = value.upper()
                if self._ret not in {"FULL", "HDRS"}:
                    return "501 5.5.4 RET is FULL or HDRS"
            elif name == "ENVID":
                identity = xtext(value)
                if identity is None or len(identity) > 100:
                    return "501 5.5.4 ENVID is not well formed (RFC 3461)"
                self._envelope_id = identity
            elif name == "REQUIRETLS":
                if not self._secure:
                    return "530 5.7.4 REQUIRETLS needs TLS; say STARTTLS first"
                if value:
                    return "501 5.5.4 REQUIRETLS has no value"
                self._require_tls = True
            elif name == "SMTPUTF8":
                self._utf8 = True
            elif name != "AUTH":
                return f"555 5.5.4 {name} is not known here"
        return ""

    def _rcpt(self, arg: str) -> None:
        """RFC 5321 §4.1.1.3 with NOTIFY and ORCPT (RFC 3461)."""
        if self._sender is None:
            self._say("503 5.5.1 Say MAIL first")
            return
        if self._chunks is not None:
            self._say("503 5.5.1 The message was begun; its recipients come before")
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
            # Those who send to more than we take go on with the rest (RFC 5321 §4.5.3.1.10).
            reply = "452 4.5.3 Too many recipients; send the others a copy of their own"
            self._say(reply, fault=False)
            return
        recipient = Recipient(path.address, notify, original)
        try:
            self._say(self._judge_recipient(recipient, self._house.intake.directory.owner_now))
        except LookupError:
            self._wait_for(self._look_up(recipient))

    async def _look_up(self, recipient: Recipient) -> None:
        """The same when the owner of the domain has to be asked for."""
        directory, address = self._house.intake.directory, recipient.address
        if "@" in address:
            parsed = parse_address(address)
            owner = await directory.owner(parsed.domain) if parsed else None
        else:
            owner = await directory.postmaster()
        self._say(self._judge_recipient(recipient, lambda name: owner))

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

    # The message.

    def _data(self, arg: str) -> None:
        """RFC 5321 §4.1.1.4."""
        if self._chunks is not None:
            self._say("503 5.5.1 The message was begun with BDAT (RFC 3030 2)")
        elif not self._to_us and not self._to_people:
            self._say("503 5.5.1 Say RCPT first")
        elif arg:
            self._say("501 5.5.4 DATA stands alone")
        else:
            self._take, self._scanned, self._refusal = self._take_data, 0, ""
            self._say("354 End with <CR><LF>.<CR><LF>")

    def _take_data(self) -> bool:
        """All up to the final dot, found in the buffer as a whole; False if more has to come."""
        buffer = self._buffer
        if self._scanned == 0 and not self._refusal and buffer.startswith(b".\r\n"):
            del buffer[:3]
            self._taken(b"")
            return True
        end = buffer.find(b"\r\n.\r\n", self._scanned)
        if end < 0:
            if len(buffer) > HOLD_FROM:
                self._watch_size(len(buffer))
            if self._refusal:
                del buffer[:-4]  # Go on, but keep only what may begin the end mark.
            self._scanned = max(0, len(buffer) - 4)
            return False
        with memoryview(buffer) as view:
            content = bytes(view[: end + 2])
        del buffer[: end + 5]
        if not self._refusal and len(content) > self._house.limits.message_bytes:
            self._refusal = self._larger()
        if self._refusal:
            self._counted.turned_away(self._refusal)
            self._take = self._take_line
            self._hold(0)
            self._forget_mail()
            self._say(self._refusal)
        else:
            self._taken(unstuffed(content))
        return True

    def _watch_size(self, size: int) -> None:
        """Stops keeping a message that is, or all together are, too large."""
        if size > self._house.limits.message_bytes + 5:
            self._refusal = self._larger()
        elif not self._hold(size):
            self._refusal = "452 4.3.1 Too much mail comes in just now; try again in a minute"
        if self._refusal:
            self._hold(0)

    def _bdat(self, arg: str) -> None:
        """RFC 3030 §2."""
        words = arg.upper().split(" ")
        fits = words[0].isascii() and words[0].isdigit() and len(words[0]) <= 12
        if not fits or words[1:] not in ([], ["LAST"]):
            # Where the chunk ends is not known, so what follows can't be told from commands.
            self._leave("501 5.5.4 Say BDAT, a size, and LAST where it is the last")
            return
        size, limit = int(words[0]), self._house.limits.message_bytes
        self._chunk_left, self._chunk_last, self._refusal = size, len(words) == 2, ""
        if not self._to_us and not self._to_people:
            self._refusal = "503 5.5.1 Say RCPT first"
        else:
            self._chunks = bytearray() if self._chunks is None else self._chunks
            if len(self._chunks) + size > limit:
                self._refusal = self._larger()
            elif len(self._chunks) + size > HOLD_FROM:
                self._watch_size(len(self._chunks) + size)
        if self._refusal and size > 4 * limit:
            self._leave(self._refusal)
            return
        self._take = self._take_chunk
        if size == 0:
            self._take_chunk()

    def _take_chunk(self) -> bool:
        part = min(self._chunk_left, len(self._buffer))
        if not self._refusal and self._chunks is not None:
            with memoryview(self._buffer) as view:
                self._chunks += view[:part]
        del self._buffer[:part]
        self._chunk_left -= part
        if self._chunk_left:
            return False
        self._take = self._take_line
        if self._refusal:
            self._counted.turned_away(self._refusal)
            self._forget_mail()
            self._hold(0)
            self._say(self._refusal)
        elif self._chunk_last:
            content = bytes(self._chunks or b"")
            self._taken(content if content.endswith(b"\r\n") or not content else content + b"\r\n")
        else:
            self._say("250 2.0.0 Chunk taken")
        return True

    def _taken(self, content: bytes) -> None:
        """A whole message is here: it is judged, and kept in a task of its own."""
        self._take = self._take_line
        refusal = judge_content(content, taken_apart=self._door.submission)
        envelope = Envelope(
            self._sender or "",
            tuple(self._to_people),
            body=self._body,
            utf8=self._utf8,
            require_tls=self._require_tls,
            ret=self._ret,
            envelope_id=self._envelope_id,
        )
        to_us = self._to_us
        self._forget_mail()  # Also after a failure: the next message begins anew.
        if refusal:
            self._counted.turned_away(refusal)
            self._hold(0)
            self._say(refusal)
        else:
            self.keeping = True
            self._wait_for(self._keep(envelope, to_us, content))

    async def _keep(
        self, envelope: Envelope, to_us: list[tuple[Owner, str]], content: bytes
    ) -> None:
        intake = self._house.intake
        client = Client(self._peer, self._helo, self._credential)
        raw = self._trace(envelope.utf8) + content
        counted, started = self._counted, perf_counter()
        try:
            if self._credential is not None:
                key = await intake.from_a_company(client, envelope, raw)
                self._house.allowance.used(self._credential.login, len(envelope.recipients))
            else:
                key = await intake.from_the_world(client, envelope, to_us, raw)
        except PermanentError:
            counted.refused.inc()
            raise
        except Exception:
            counted.deferred.inc()
            raise
        counted.accepted.inc()
        counted.seconds.observe(perf_counter() - started)
        self._commands = 0
        self._say(f"250 2.0.0 Kept as {key}")

    def _trace(self, utf8: bool) -> bytes:
        """The Received field that says how the message came (RFC 5321 §4.4, RFC 3848).

        Of mail that our own people hand in it does not say from where: that is theirs to tell.
        """
        protocol = (
            f"{'UTF8' if utf8 else 'E' if self._extended else ''}SMTP"
            f"{'S' if self._secure else ''}{'A' if self._signed_in else ''}"
        )
        now = _written(int(self._house.clock().timestamp()))
        sender = ""
        if not self._door.submission:
            helo = _NO_HOST.sub("?", self._helo)[:255]
            literal = f"IPv6:{self._peer}" if ":" in self._peer else self._peer
            sender = f"from {helo} ([{literal}])\r\n\t"
        line = (
            f"Received: {sender}by {self._house.host_name} with {protocol} "
            f"id {time_ns():x}{_PROCESS};\r\n\t{now}\r\n"
        )
        return line.encode("ascii", "replace")

    def _larger(self) -> str:
        most = self._house.limits.message_bytes
        return f"552 5.3.4 A message may have {most} bytes at the most"

    # The rest.

    def _reset(self, arg: str) -> None:
        self._forget_mail()
        self._hold(0)
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

    def _auth(self, arg: str) -> None:
        """RFC 4954."""
        if not self._door.submission:
            self._say("502 5.5.1 AUTH is not offered here")
        elif not self._secure:
            self._say("538 5.7.11 AUTH needs TLS; say STARTTLS first")
        elif not self._helo:
            self._say("503 5.5.1 Say EHLO first")
        elif self._signed_in or self._sender is not None:
            self._say("503 5.5.1 AUTH comes once, and before MAIL")
        else:
            self._wait_for(self._sign_in(arg))

    async def _sign_in(self, arg: str) -> None:
        try:
            self._credential = await sign_in(self._house, self._peer, arg, self._ask)
        except RefusedError as refused:
            self._say(str(refused))
        except asyncio.CancelledError:
            if not self._closing:
                raise
        else:
            self._signed_in = True
            self._say("235 2.7.0 Welcome")


@lru_cache(maxsize=4)
def _written(second: int) -> str:
    """A time as headers have it; within a second it is the same for all."""
    return format_datetime(datetime.fromtimestamp(second, UTC))


_PROCESS = f"{os.getpid():x}"
_NO_HOST = re.compile(r"[^A-Za-z0-9.:\[\]-]")

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

"""Fetches mailboxes by IMAP (RFC 3501, IDLE: RFC 2177), each message exactly once.

A message goes to the spool first; then its arrival, its event and how far we are in the mailbox are
one transaction. A crash in between fetches it again, and its key keeps it from arriving twice. If
the server renumbers the mailbox (UIDVALIDITY), all of it is looked at again and inbound drops what
it has had by Message-ID and content. The mailbox itself is left as it is.

aioimaplib does not tell when a connection is lost while it idles, so IDLE is left at every poll and
the server asked for a sign of life, with a time-out.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import aioimaplib
import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from inbound import headers
from inbound.parse import split_headers
from mail.errors import ConfigError, TemporaryError
from mail.ids import uuid7
from mail.tokens import TokenKeys, TokenProblem
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions, insert_new
from storage.tables import Arrival, Mailbox

log = structlog.get_logger()

FIRST_WAIT = timedelta(seconds=2)
LONGEST_WAIT = timedelta(minutes=5)
RESCAN = timedelta(seconds=15)
"""How often we look for mailboxes that were added or removed."""

ANSWER_SECONDS = 60.0
"""The longest that a server may take for one answer, a whole message included."""

_VALIDITY = re.compile(rb"UIDVALIDITY (\d{1,10})")
_SIZE = re.compile(rb"RFC822\.SIZE (\d{1,12})")
_TOKEN_HEADERS = ("to", "cc", "delivered-to", "x-original-to", "envelope-to", "resent-to")


class Spool(Protocol):
    """Where message bytes are kept; `append` returns when they are on disk."""

    async def append(self, data: bytes) -> dict[str, Any]: ...


async def add_mailbox(
    session: AsyncSession,
    seal: Seal,
    *,
    host: str,
    login: str,
    password: str,
    port: int = 993,
    tls: bool = True,
    folder: str = "INBOX",
    now: datetime,
) -> Mailbox:
    """A mailbox to be fetched from now on. Raises `ConfigError` saying what to change."""
    for name, text in (("host", host), ("login", login), ("folder", folder)):
        if not text or not text.isprintable() or not text.isascii() or '"' in text:
            raise ConfigError(f"mailbox: the {name} {text!r} must be plain ASCII without quotes.")
    if any(c in password for c in "\r\n\0"):
        raise ConfigError("mailbox: the password must be one line.")
    if not 0 < port < 65536:
        raise ConfigError(f"mailbox: {port} is no port. IMAP over TLS uses 993.")
    if not tls and not _is_loopback(host):
        raise ConfigError(
            f"mailbox: without TLS the password would cross the network to {host} in the clear. "
            "Use TLS (port 993)."
        )
    mailbox = Mailbox(
        host=host,
        port=port,
        tls=tls,
        login=login,
        password=seal.seal(password),
        folder=folder,
        last_uid=0,
        error="",
        created_at=now,
    )
    session.add(mailbox)
    await session.flush()
    return mailbox


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class MailboxFetcher:
    """Keeps one connection to each mailbox of every company."""

    def __init__(
        self,
        sessions: Sessions,
        spool: Spool,
        seal: Seal,
        keys: TokenKeys,
        clock: Callable[[], datetime],
        *,
        poll: float,
        max_message_bytes: int = 25 << 20,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`poll`: seconds between askings of a mailbox, also while the server tells by itself."""
        self._sessions = sessions
        self._spool = spool
        self._seal = seal
        self._keys = keys
        self._clock = clock
        self._poll = poll
        self._max_message_bytes = max_message_bytes
        self._tls = tls
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ends `run`."""
        self._stop.set()

    async def run(self) -> None:
        """Fetches until it is told to stop."""
        tasks: dict[UUID, asyncio.Task[None]] = {}
        try:
            while not self._stop.is_set():
                async with self._sessions.read(EVERY_COMPANY) as session:
                    wanted = set(await session.scalars(select(Mailbox.id)))
                for key in wanted - tasks.keys():
                    tasks[key] = asyncio.create_task(self._serve(key))
                for key in tasks.keys() - wanted:
                    tasks.pop(key).cancel()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), RESCAN.total_seconds())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _serve(self, key: UUID) -> None:
        wait = FIRST_WAIT
        while not self._stop.is_set():
            try:
                async with self._connected(key) as (client, mailbox, lost):
                    while not self._stop.is_set():
                        await self._fetch(client, mailbox)
                        await self._note(key, "")
                        wait = FIRST_WAIT
                        await self._wait_for_news(client, lost)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # Whatever it is, the mailbox is tried again later.
                text = _explain(error)
                log.warning("mailbox.failed", mailbox_id=str(key), cause=text)
                with suppress(Exception):
                    await self._note(key, text)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait.total_seconds())
                wait = min(wait * 2, LONGEST_WAIT)

    async def fetch_once(self, key: UUID) -> int:
        """Takes what is there now; says how many messages it was."""
        async with self._connected(key) as (client, mailbox, _):
            taken = await self._fetch(client, mailbox)
        await self._note(key, "")
        return taken

    @asynccontextmanager
    async def _connected(
        self, key: UUID
    ) -> AsyncIterator[tuple[aioimaplib.IMAP4, Mailbox, asyncio.Event]]:
        async with self._sessions.read(EVERY_COMPANY) as session:
            mailbox = (await session.scalars(select(Mailbox).where(Mailbox.id == key))).one()
        kind = aioimaplib.IMAP4_SSL if mailbox.tls else aioimaplib.IMAP4
        more = {"ssl_context": self._tls} if mailbox.tls and self._tls else {}
        client = kind(mailbox.host, mailbox.port, timeout=ANSWER_SECONDS, **more)
        lost = asyncio.Event()
        client.protocol.conn_lost_cb = lambda error: lost.set()
        try:
            await client.wait_hello_from_server()
            answer = await client.login(f'"{mailbox.login}"', self._seal.open(mailbox.password))
            if answer.result != "OK":
                raise ConfigError(
                    f"{mailbox.host} refuses the login {mailbox.login}: {_said(answer)}. "
                    "Check the password of the mailbox."
                )
            yield client, mailbox, lost
        finally:
            with suppress(Exception):
                if client.has_pending_idle():
                    client.idle_done()
            client._client_task.cancel()
            if client.protocol.transport is not None:
                client.protocol.transport.close()

    async def _fetch(self, client: Any, mailbox: Mailbox) -> int:
        answer = await client.select(f'"{mailbox.folder}"')
        if answer.result != "OK":
            raise ConfigError(f"{mailbox.host} has no folder {mailbox.folder}: {_said(answer)}")
        found = _VALIDITY.search(b"\n".join(bytes(line) for line in answer.lines))
        validity = int(found[1]) if found else 0
        last = await self._begin_at(mailbox, validity)
        answer = await client.uid_search(f"UID {last + 1}:*", charset=None)
        words = [word for line in answer.lines for word in bytes(line).split()]
        # `n:*` names the newest message even if its number is below n (RFC 3501 §6.4.8).
        uids = sorted({int(word) for word in words if word.isdigit() and int(word) > last})
        for uid in uids:
            await self._take(client, mailbox, validity, uid)
        return len(uids)

    async def _begin_at(self, mailbox: Mailbox, validity: int) -> int:
        async with self._sessions.begin(mailbox.company_id) as session:
            row = (await session.scalars(select(Mailbox).where(Mailbox.id == mailbox.id))).one()
            if row.uid_validity != validity:
                row.uid_validity = validity
                row.last_uid = 0
            return row.last_uid

    async def _take(self, client: Any, mailbox: Mailbox, validity: int, uid: int) -> None:
        answer = await client.uid("fetch", str(uid), "(RFC822.SIZE)")
        size = _SIZE.search(b"\n".join(bytes(line) for line in answer.lines))
        raw = b""
        cause = ""
        if size is not None and int(size[1]) > self._max_message_bytes:
            cause = (
                f"It has {size[1].decode()} bytes; {self._max_message_bytes} are taken. "
                "It is still in the mailbox. Raise [smtp] max_message to have it fetched."
            )
        elif size is not None:
            answer = await client.uid("fetch", str(uid), "(BODY.PEEK[])")
            # aioimaplib gives literals as bytearray, lines as bytes.
            raw = b"".join(bytes(one) for one in answer.lines if isinstance(one, bytearray))
            if answer.result != "OK":
                raise TemporaryError("the server did not give a message", _said(answer))
        place = await self._spool.append(raw) if raw else {}
        recipients, mail_from = envelope_of(raw, self._keys, mailbox.login)
        now = self._clock()
        row = {
            "id": uuid7(),
            "key": f"imap:{mailbox.id}:{validity}:{uid}",
            "source": "imap",
            "mail_from": mail_from,
            "recipients": recipients,
            "login": None,
            "spool": place,
            "state": "held" if cause else "waiting",
            "cause": cause,
            "received_at": now,
        }
        async with self._sessions.begin(mailbox.company_id) as session:
            wanted = bool(raw or cause)  # Neither: it was deleted in the meantime.
            if wanted and await insert_new(session, Arrival, [row], unless=["key"]) and raw:
                await publish(session, Kind.MAIL_ARRIVED, occurred_at=now, arrival=row["id"])
            moved = update(Mailbox).where(
                Mailbox.id == mailbox.id, Mailbox.uid_validity == validity, Mailbox.last_uid < uid
            )
            await session.execute(moved.values(last_uid=uid))

    async def _wait_for_news(self, client: Any, lost: asyncio.Event) -> None:
        """Returns when there may be new mail, at the latest after the poll interval."""
        if not client.has_capability("IDLE"):
            await _first(self._poll, lost.wait(), self._stop.wait())
        else:
            idle = await client.idle_start(timeout=self._poll + ANSWER_SECONDS)
            while not lost.is_set() and not self._stop.is_set():
                pushed = await _first(
                    self._poll, client.wait_server_push(), lost.wait(), self._stop.wait()
                )
                # "Still here" every two minutes is no news; some servers send it.
                if not isinstance(pushed, list) or any(b"EXISTS" in line for line in pushed):
                    break
            client.idle_done()
            if not lost.is_set():
                await asyncio.wait_for(idle, ANSWER_SECONDS)
        if lost.is_set():
            raise TemporaryError("the connection was lost")
        await client.noop()

    async def _note(self, key: UUID, error: str) -> None:
        async with self._sessions.begin(EVERY_COMPANY) as session:
            noted = update(Mailbox).where(Mailbox.id == key)
            await session.execute(noted.values(error=error, checked_at=self._clock()))


async def _first(limit: float, *waits: Any) -> Any:
    """What the first of the waits returns; None after the limit."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        return next((task.result() for task in tasks if task in done), None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def envelope_of(raw: bytes, keys: TokenKeys, login: str) -> tuple[list[str], str]:
    """To whom a fetched message came and from whom, as far as its headers tell.

    Addresses with a token of ours come first; without any, it came to the mailbox itself.
    """
    fields, _ = split_headers(raw, lambda problem: None)
    named = [
        mailbox.address
        for name in _TOKEN_HEADERS
        for key, value in fields
        if key == name
        for mailbox in headers.addresses(value)
    ]
    ours = [
        address
        for address in dict.fromkeys(named)
        if keys.read_local_part(address.rpartition("@")[0]) is not TokenProblem.NOT_A_TOKEN
    ]
    path = next((value for key, value in fields if key == "return-path"), "")
    sender = headers.addresses(path)
    return ours or [login], sender[0].address if sender else ""


def _said(answer: Any) -> str:
    lines: Sequence[bytes] = answer.lines or [b""]
    return bytes(lines[-1]).decode("utf-8", "replace")[:200]


def _explain(error: Exception) -> str:
    if isinstance(error, (ConfigError, TemporaryError)):
        return str(error)
    if isinstance(error, TimeoutError):
        return "The server did not answer in time."
    return f"{type(error).__name__}: {error}"[:300]

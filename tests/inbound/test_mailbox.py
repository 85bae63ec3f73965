"""Fetching a mailbox from a real Dovecot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from bus.events import Kind
from bus.stations import Line
from config.settings import Settings
from inbound.mailbox import MailboxFetcher, add_mailbox, envelope_of
from inbound.service import stations
from mail.errors import ConfigError
from mail.tokens import Token, TokenKeys, TokenKind
from mta.spool import Spool
from storage.sealing import Seal
from storage.sessions import Sessions
from storage.tables import Arrival, Event, Mailbox, Message
from tests.conftest import MONDAY
from tests.inbound.test_authentication import World
from tests.inbound.world import Firm, add_firm
from tests.peers.dovecot import Dovecot, dovecot


class Shelf:
    """A spool in memory."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.broken = False

    async def append(self, data: bytes) -> dict[str, Any]:
        if self.broken:
            raise OSError("the disk is full")
        self.kept.append(data)
        return {"at": len(self.kept) - 1}


@pytest.fixture
async def server() -> AsyncIterator[Dovecot]:
    async with dovecot() as running:
        yield running


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def firm(store: Sessions) -> Firm:
    return await add_firm(store, 1, "ann")


def fetcher(
    store: Sessions, shelf: Shelf, seal: Seal, keys: TokenKeys, **changes: Any
) -> MailboxFetcher:
    options: dict[str, Any] = {"poll": 30.0, "max_message_bytes": 1 << 20}
    return MailboxFetcher(store, shelf, seal, keys, lambda: MONDAY, **(options | changes))


async def box(
    store: Sessions, seal: Seal, firm: Firm, server: Dovecot, password: str = "secret word"
) -> UUID:
    async with store.begin(firm.id) as session:
        mailbox = await add_mailbox(
            session,
            seal,
            host="127.0.0.1",
            port=server.port,
            tls=False,
            login=server.login,
            password=password,
            now=MONDAY,
        )
    return mailbox.id


def letter(number: int, to: str = "box@firm1.test") -> bytes:
    return (
        f"Return-Path: <ann@example.com>\r\nFrom: ann@example.com\r\nTo: {to}\r\n"
        f"Message-ID: <{number}@example.com>\r\n\r\nLetter {number}\r\n"
    ).encode()


async def arrivals(store: Sessions, firm: Firm) -> list[Arrival]:
    async with store.read(firm.id) as session:
        return list(await session.scalars(select(Arrival).order_by(Arrival.id)))


async def test_each_message_arrives_once(
    store: Sessions, shelf: Shelf, seal: Seal, keys: TokenKeys, firm: Firm, server: Dovecot
) -> None:
    token = keys.local_part(Token(TokenKind.REPLY, 1, firm.message))
    server.deliver(letter(1, f"Hello <{token}@{firm.host}>, other@else.test"))
    server.deliver(letter(2))
    key = await box(store, seal, firm, server)
    fetch = fetcher(store, shelf, seal, keys)
    assert await fetch.fetch_once(key) == 2
    assert await fetch.fetch_once(key) == 0
    server.deliver(letter(3))
    assert await fetch.fetch_once(key) == 1

    found = {bytes(shelf.kept[row.spool["at"]]): row for row in await arrivals(store, firm)}
    assert len(found) == 3
    first = found[letter(1, f"Hello <{token}@{firm.host}>, other@else.test")]
    assert first.recipients == [f"{token}@{firm.host}"]
    assert (first.mail_from, first.source, first.state) == ("ann@example.com", "imap", "waiting")
    assert found[letter(2)].recipients == ["box"]
    async with store.read(firm.id) as session:
        events = list(await session.scalars(select(Event)))
        mailbox = (await session.scalars(select(Mailbox))).one()
    assert {event.payload["arrival"] for event in events} == {str(row.id) for row in found.values()}
    assert (mailbox.last_uid, mailbox.error, mailbox.checked_at) == (3, "", MONDAY)
    assert server.password not in mailbox.password


async def test_a_crash_between_spool_and_commit_loses_and_doubles_nothing(
    store: Sessions, shelf: Shelf, seal: Seal, keys: TokenKeys, firm: Firm, server: Dovecot
) -> None:
    server.deliver(letter(1))
    key = await box(store, seal, firm, server)
    fetch = fetcher(store, shelf, seal, keys)
    shelf.broken = True
    with pytest.raises(OSError):
        await fetch.fetch_once(key)
    assert await arrivals(store, firm) == []
    shelf.broken = False
    await fetch.fetch_once(key)
    async with store.begin(firm.id) as session:  # As if it had crashed before noting its place.
        mailbox = (await session.scalars(select(Mailbox))).one()
        mailbox.last_uid = 0
    await fetch.fetch_once(key)
    assert len(await arrivals(store, firm)) == 1
    async with store.read(firm.id) as session:
        assert len(list(await session.scalars(select(Event)))) == 1


async def test_a_renumbered_mailbox_is_looked_at_again(
    store: Sessions, shelf: Shelf, seal: Seal, keys: TokenKeys, firm: Firm, server: Dovecot
) -> None:
    server.deliver(letter(1))
    key = await box(store, seal, firm, server)
    fetch = fetcher(store, shelf, seal, keys)
    await fetch.fetch_once(key)
    await server.renumber()
    server.deliver(letter(2))
    assert await fetch.fetch_once(key) == 2
    keys_seen = {row.key for row in await arrivals(store, firm)}
    assert len(keys_seen) == 3
    assert len({key.split(":")[2] for key in keys_seen}) == 2


async def test_a_message_that_is_too_large_is_held_with_its_cause(
    store: Sessions, shelf: Shelf, seal: Seal, keys: TokenKeys, firm: Firm, server: Dovecot
) -> None:
    server.deliver(letter(1) + b"x" * 5000)
    server.deliver(letter(2))
    key = await box(store, seal, firm, server)
    assert await fetcher(store, shelf, seal, keys, max_message_bytes=2000).fetch_once(key) == 2
    states = sorted((row.state, "max_message" in row.cause) for row in await arrivals(store, firm))
    assert states == [("held", True), ("waiting", False)]


async def test_new_mail_comes_by_idle_and_after_a_restart_of_the_server(
    store: Sessions, shelf: Shelf, seal: Seal, keys: TokenKeys, firm: Firm, server: Dovecot
) -> None:
    await box(store, seal, firm, server)
    fetch = fetcher(store, shelf, seal, keys)
    running = asyncio.create_task(fetch.run())
    try:
        await _until(lambda: _checked(store, firm))
        server.deliver(letter(1))
        await _until(lambda: _count(store, firm, 1))  # The poll is 30 s away: IDLE told it.
        await server.stop()
        await server.start()
        server.deliver(letter(2))
        await _until(lambda: _count(store, firm, 2))
    finally:
        fetch.stop()
        await asyncio.wait_for(running, 10)


async def test_a_wrong_password_is_said_on_the_mailbox(
    store: Sessions, shelf: Shelf, seal: Seal, keys: TokenKeys, firm: Firm, server: Dovecot
) -> None:
    await box(store, seal, firm, server, password="wrong")
    fetch = fetcher(store, shelf, seal, keys)
    running = asyncio.create_task(fetch.run())
    try:
        await _until(lambda: _complaint(store, firm, "refuses the login box"))
    finally:
        fetch.stop()
        await asyncio.wait_for(running, 10)


async def test_a_fetched_reply_is_understood(
    store: Sessions, seal: Seal, keys: TokenKeys, firm: Firm, server: Dovecot, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool")
    token = keys.local_part(Token(TokenKind.REPLY, 1, firm.message))
    server.deliver(letter(1, f"{token}@{firm.host}"))
    key = await box(store, seal, firm, server)
    fetch = MailboxFetcher(store, spool, seal, keys, lambda: MONDAY, poll=30.0)
    assert await fetch.fetch_once(key) == 1
    made = stations(
        sessions=store,
        settings=Settings(),
        keys=keys,
        spool=spool,
        resolver=World(),
        clock=lambda: MONDAY,
    )
    await Line(store, made, tick=0.01).drain()
    async with store.read(firm.id) as session:
        kinds = list(await session.scalars(select(Event.kind).order_by(Event.seq)))
        message = await session.scalar(select(Message).where(Message.direction == "in"))
    assert kinds == [Kind.MAIL_ARRIVED, Kind.REPLY_RECEIVED]
    assert message is not None
    assert (message.body, message.answers_id) == ("Letter 1", firm.message)
    spool.close()


async def test_a_mailbox_that_makes_no_sense_is_refused(
    store: Sessions, seal: Seal, firm: Firm
) -> None:
    good: dict[str, Any] = {"host": "imap.test", "login": "box", "password": "x", "now": MONDAY}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"tls": False}, "in the clear"),
        ({"port": 0}, "is no port"),
        ({"folder": 'a"b'}, "without quotes"),
        ({"password": "a\r\nb"}, "one line"),
        ({"host": ""}, "host"),
    ]
    for change, words in wrong:
        async with store.begin(firm.id) as session:
            with pytest.raises(ConfigError, match=words):
                await add_mailbox(session, seal, **(good | change))


def test_any_bytes_have_an_envelope(keys: TokenKeys) -> None:
    assert envelope_of(b"", keys, "box") == (["box"], "")
    assert envelope_of(b"\xff\x00To: ,,,<>\r\n", keys, "box") == (["box"], "")


async def _until(question: Any) -> None:
    for _ in range(200):
        if await question():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen within ten seconds")


async def _checked(store: Sessions, firm: Firm) -> bool:
    async with store.read(firm.id) as session:
        return (await session.scalars(select(Mailbox))).one().checked_at is not None


async def _complaint(store: Sessions, firm: Firm, words: str) -> bool:
    async with store.read(firm.id) as session:
        return words in (await session.scalars(select(Mailbox))).one().error


async def _count(store: Sessions, firm: Firm, number: int) -> bool:
    return len(await arrivals(store, firm)) == number

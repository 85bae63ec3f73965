"""The doors: what is said to well-behaved, clumsy and hostile clients."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from mail.tokens import Token, TokenKeys, TokenKind
from mta.certificate import server_context
from mta.intake import Directory, Intake
from mta.limiter import BY_ADDRESS, BY_PAIR, LONGEST_DELAY, GuessLimiter, network_of
from mta.listener import MX, SUBMISSION, Listener
from mta.session import MAX_ERRORS, House, Limits
from mta.spool import Spool
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Arrival
from tests.conftest import MONDAY
from tests.mta.house import Tenant

BOX = "postmaster@reply.acme.test"
ENVELOPE = f"EHLO x.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<{BOX}>\r\nDATA\r\n".encode()


class Doors:
    """Open doors, and what came through them."""

    def __init__(self, listener: Listener, store: Sessions, spool: Spool, intake: Intake) -> None:
        self.listener, self.store, self.spool, self.intake = listener, store, spool, intake

    async def kept(self) -> list[bytes]:
        """All messages that were taken."""
        await self.intake.sorter.settle()
        async with self.store.read(EVERY_COMPANY) as session:
            rows = (await session.scalars(select(Arrival).order_by(Arrival.id))).all()
        return [self.spool.read(row.spool) for row in rows]

    async def say(self, *pieces: bytes, door: str = "mx") -> list[str]:
        """Sends the pieces one by one, then QUIT, and returns all that was answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.ports[door])
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        if pieces and not pieces[-1].endswith(b"QUIT\r\n"):
            writer.write(b"QUIT\r\n")
        heard = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return heard.decode().splitlines()


@pytest.fixture
async def doors(
    store: Sessions, keys: TokenKeys, acme: Tenant, tmp_path: Path
) -> AsyncIterator[Doors]:
    spool = Spool(tmp_path / "spool")
    intake = Intake(store, spool, Directory(store, keys), lambda: MONDAY)
    sorting = asyncio.create_task(intake.sorter.run())
    house = House(
        host_name="mail.acme.test",
        sessions=store,
        intake=intake,
        limiter=GuessLimiter(),
        limits=Limits(message_bytes=200_000, recipients=100, idle=1.0, session=3.0, slow=0.0),
        tls=server_context(tmp_path / "tls", "mail.acme.test", None, None),
        clock=lambda: MONDAY,
    )
    listener = Listener(house, listen="127.0.0.1")
    await listener.start({MX: 0, SUBMISSION: 0})
    yield Doors(listener, store, spool, intake)
    await listener.stop()
    spool.close()
    intake.sorter.stop()
    await sorting


def codes(lines: Sequence[str]) -> list[str]:
    return [line[:3] for line in lines if line[3:4] == " "]


async def test_a_whole_conversation_may_come_at_once(doors: Doors) -> None:
    letter = b"Subject: one\r\n\r\nHello\r\n..\r\n.\r\n"
    second = ENVELOPE.partition(b"\r\n")[2]
    heard = await doors.say(ENVELOPE + letter + second + b".\r\nQUIT\r\n")
    assert codes(heard) == [
        "220",
        "250",
        "250",
        "250",
        "354",
        "250",
        *"250 250 354 250 221".split(),
    ]
    first, empty = await doors.kept()
    assert first.endswith(b"Subject: one\r\n\r\nHello\r\n.\r\n")
    assert empty.count(b"\r\n") == 3


async def test_what_the_door_offers(doors: Doors) -> None:
    heard = await doors.say(b"EHLO x.test\r\n")
    offers = {line[4:] for line in heard if line.startswith("250")}
    assert offers == {
        "mail.acme.test",
        "PIPELINING",
        "SIZE 200000",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "DSN",
        "LIMITS RCPTMAX=100 MAILMAX=50000",
        "STARTTLS",
    }


SMUGGLED = b"\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<%s>\r\nDATA\r\nevil\r\n.\r\n" % BOX.encode()


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n\n.\r\n",
        b"\r\r\n.\r\n",
    ],
)
@pytest.mark.parametrize("split", [False, True])
async def test_nothing_but_crlf_dot_crlf_ends_a_message(
    doors: Doors, end: bytes, split: bool
) -> None:
    body = b"Subject: x\r\n\r\nHello" + end + SMUGGLED
    pieces = [body[i : i + 7] for i in range(0, len(body), 7)] if split else [body]
    heard = await doors.say(ENVELOPE, *pieces)
    assert any(line.startswith("550 5.6.0 The message has a bare ") for line in heard)
    assert not any(b"evil@x.test" in kept for kept in await doors.kept())
    assert len(await doors.kept()) <= 1


async def test_the_end_mark_is_found_in_any_split(doors: Doors) -> None:
    body = b"Subject: x\r\n\r\nHello\r\n.\r\n"
    for cut in range(len(body) - 6, len(body)):
        await doors.say(ENVELOPE, body[:cut], body[cut:])
    kept = await doors.kept()
    assert len(kept) == 6
    assert all(raw.endswith(b"\r\n\r\nHello\r\n") for raw in kept)


async def test_a_message_that_is_too_large_is_refused_and_the_next_one_taken(
    doors: Doors,
) -> None:
    large = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 78 + b"\r\n") * 4000 + b".\r\n"
    again = ENVELOPE.partition(b"\r\n")[2] + b"Subject: small\r\n\r\n.\r\n"
    heard = await doors.say(ENVELOPE + large + again)
    assert codes(heard)[5] == "552"
    assert len(await doors.kept()) == 1
    announced = await doors.say(b"EHLO x.test\r\nMAIL FROM:<a@x.test> SIZE=200001\r\n")
    assert "552 5.3.4 A message may have 200000 bytes at the most" in announced


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"MAIL FROM:a@x.test", "501"),
        (b"MAIL FROM:<a@x.test", "501"),
        (b"MAIL FROM:<a b@x.test>", "553"),
        (b"MAIL FROM:<a@localhost>", "553"),
        (b"MAIL FROM:<a@x.test> BODY=BINARYMIME", "501"),
        (b"MAIL FROM:<a@x.test> FANTASY=1", "555"),
        (b"MAIL FROM:<a@x.test> SIZE=99999999999999999999999999", "552"),
        (b"MAIL FROM:<>", "250"),
        (b"mail from: <A@X.test> SIZE=10 BODY=8BITMIME SMTPUTF8", "250"),
        ("MAIL FROM:<jürgen@x.test> SMTPUTF8".encode(), "250"),
        (b"MAIL FROM:<@hop.test:a@x.test>", "250"),
        (b"RCPT TO:<a@x.test>", "503"),
        (b"DATA", "503"),
        (b"AUTH PLAIN AGEAYg==", "502"),
        (b"\xff\xfe", "500"),
        (b"VRFY a", "252"),
    ],
)
async def test_commands_are_judged(doors: Doors, line: bytes, code: str) -> None:
    heard = await doors.say(b"EHLO x.test\r\n", line + b"\r\n")
    assert codes(heard)[2] == code


async def test_too_many_errors_end_the_conversation(doors: Doors) -> None:
    heard = await doors.say(b"EHLO x.test\r\n" + b"BOGUS\r\n" * (MAX_ERRORS + 5))
    assert heard[-1].startswith(("421", "502"))
    assert len(heard) < MAX_ERRORS + 16


async def test_an_endless_command_line_is_bounded(doors: Doors) -> None:
    heard = await doors.say(b"EHLO x.test\r\n", b"X" * 1_000_000, b"\r\nNOOP\r\n")
    assert any(line.startswith("500") for line in heard)
    assert codes(heard)[-2:] == ["250", "221"]


async def test_who_says_nothing_is_sent_away(doors: Doors) -> None:
    heard = await asyncio.wait_for(doors.say(), 5)
    assert codes(heard) == ["220", "421"]


async def test_a_drip_of_data_ends_with_the_session(doors: Doors) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", doors.listener.ports["mx"])
    writer.write(ENVELOPE)
    started = asyncio.get_running_loop().time()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        while asyncio.get_running_loop().time() - started < 8:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.2)
            if reader.at_eof():
                raise ConnectionResetError
    assert asyncio.get_running_loop().time() - started < 6
    writer.close()


async def test_what_was_said_before_tls_is_forgotten(doors: Doors) -> None:
    """Commands slipped in behind STARTTLS are discarded (CVE-2011-0411)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", doors.listener.ports["mx"])
    await reader.readline()
    writer.write(b"EHLO x.test\r\n")
    while (await reader.readline())[3:4] == b"-":
        continue
    writer.write(b"STARTTLS\r\nMAIL FROM:<evil@x.test>\r\n")
    assert (await reader.readline()).startswith(b"220")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await writer.start_tls(context)
    writer.write(b"RCPT TO:<%s>\r\n" % BOX.encode())
    assert (await reader.readline()).startswith(b"503")
    writer.write(b"EHLO x.test\r\n")
    offers = b""
    while (line := await reader.readline())[3:4] == b"-":
        offers += line
    assert b"STARTTLS" not in offers + line
    writer.close()


async def test_a_store_that_fails_is_not_told_to_the_client(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: Any) -> dict[str, object]:
        raise RuntimeError("secret path /var/lib")

    monkeypatch.setattr(doors.spool, "append", fail)
    again = b"MAIL FROM:<a@x.test>\r\n"
    heard = await doors.say(ENVELOPE + b"Subject: x\r\n\r\n.\r\n" + again)
    assert codes(heard)[-2:] == ["250", "221"]
    assert "451 4.3.0 We can't take this now; please try again" in heard
    assert "secret" not in " ".join(heard)
    assert await doors.kept() == []


async def test_closing_lets_a_client_hear_that_its_message_was_kept(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = doors.spool.append
    begun = asyncio.Event()

    async def slow(*args: Any) -> dict[str, object]:
        begun.set()
        await asyncio.sleep(0.3)
        return await append(*args)

    monkeypatch.setattr(doors.spool, "append", slow)
    talk = asyncio.create_task(doors.say(ENVELOPE + b"Subject: x\r\n\r\n.\r\n"))
    await begun.wait()
    await doors.listener.stop()
    heard = await talk
    assert codes(heard)[5] == "250"
    assert len(await doors.kept()) == 1


async def test_no_password_is_logged(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await doors.say(b"EHLO x.test\r\n", b"AUTH PLAIN c2VjcmV0\r\n", door="submission")
    assert "c2VjcmV0" not in caplog.text


async def test_loops_and_recipients_have_an_end(doors: Doors) -> None:
    trace = b"Received: from a\r\n" * 101
    heard = await doors.say(ENVELOPE + trace + b"\r\nx\r\n.\r\n")
    assert codes(heard)[5] == "554"
    many = b"EHLO x.test\r\nMAIL FROM:<a@x.test>\r\n" + b"RCPT TO:<%s>\r\n" % BOX.encode() * 101
    heard = await doors.say(many)
    assert codes(heard)[-2] == "452"


async def test_tokens_of_each_kind_have_a_mailbox(
    doors: Doors, acme: Tenant, keys: TokenKeys
) -> None:
    for kind in (TokenKind.REPLY, TokenKind.BOUNCE, TokenKind.FORWARD, TokenKind.UNSUBSCRIBE):
        local = keys.local_part(Token(kind, acme.number, acme.id))
        said = f"EHLO x.test\r\nMAIL FROM:<>\r\nRCPT TO:<{local}@reply.acme.test>\r\n"
        assert codes(await doors.say(said.encode()))[3] == "250"


def test_guesses_are_forgiven_after_a_while() -> None:
    now = [0.0]
    limiter = GuessLimiter(lambda: now[0])
    for count in range(BY_ADDRESS):
        assert limiter.blocked("192.0.2.1", "shop") is (count >= BY_PAIR)
        assert not limiter.blocked("192.0.2.1", "other")
        limiter.failed("192.0.2.1", "shop")
    assert limiter.blocked("192.0.2.1", "other")
    assert not limiter.blocked("192.0.2.2", "shop")
    now[0] = 901.0
    assert not limiter.blocked("192.0.2.1", "shop")


def test_strangers_can_slow_an_account_down_but_not_lock_it() -> None:
    limiter = GuessLimiter(lambda: 0.0)
    for number in range(500):
        limiter.failed(f"192.0.2.{number % 250}", "Shop")
    assert not limiter.blocked("198.51.100.1", "shop")
    assert limiter.delay("shop ") == LONGEST_DELAY
    assert limiter.delay("other") == 0.0


def test_an_ipv6_customer_is_one_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2")
    assert network_of("2001:db8::1") != network_of("2001:db8:1::1")

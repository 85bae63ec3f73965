"""What we send is right, and hostile servers cost bounded time and memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.client import Connection, LostError, Patience, stuffed
from mta.resolver import MxRecord, Resolver
from mta.routes import DirectToMx, Host, Refused, SmartHost, is_public
from tests.mta.strangers import Sink
from tests.peers.dns_server import DnsServer

QUICK = Patience(connect=2, greeting=0.5, reply=0.5, data=0.5)
LETTER = b"Subject: x\r\n\r\n.dot\r\nHello\r\n"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """A server that does what a test says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def hand_over(port: int, content: bytes = LETTER) -> str:
    connection = await Connection.open("127.0.0.1", port, host="mx.test", patience=QUICK)
    async with connection:
        refusal = await connection.greet("mail.acme.test")
        if refusal is not None:
            return f"refused {refusal}"
        handover = await connection.send("b@acme.test", "a@x.test", content)
        return f"{handover.command} {handover.reply}"


async def test_a_message_arrives_as_it_is_and_the_connection_is_used_again() -> None:
    async with Sink() as sink:
        sink.at_rcpt["no@x.test"] = "550 5.1.1 nobody"
        connection = await Connection.open("127.0.0.1", sink.port, host="x", patience=QUICK)
        async with connection:
            assert await connection.greet("mail.acme.test") is None
            for recipient in ("a@x.test", "no@x.test", "b@x.test"):
                await connection.send("b@acme.test", recipient, LETTER)
    assert [taken.content for taken in sink.taken] == [LETTER, LETTER]
    assert sink.connections == 1


def reading(*replies: bytes) -> Script:
    """Answers each line (or pipelined lines) with the next of `replies`."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        for reply in replies:
            await reader.readline()
            writer.write(reply)
            await writer.drain()
        await asyncio.sleep(2)

    return script


EHLO = b"250-x\r\n250 PIPELINING\r\n"


async def test_pipelined_refusals_are_told_apart() -> None:
    replies = (EHLO, b"250 ok\r\n", b"550-5.1.1 no\r\n550 5.1.1 body\r\n", b"554 no rcpt\r\n")
    async with scripted(reading(*replies, b"250 reset\r\n", b"221 bye\r\n")) as port:
        assert await hand_over(port) == "RCPT 550 5.1.1 no body"


async def test_a_354_without_recipients_is_ended_with_nothing() -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.write(EHLO)
        for reply in (b"250 ok\r\n", b"450 later\r\n", b"354 go\r\n"):
            await reader.readline()
            writer.write(reply)
        for reply in (b"554 nothing\r\n", b"250 reset\r\n", b"221 bye\r\n"):
            seen.append(await reader.readline())
            writer.write(reply)

    async with scripted(script) as port:
        assert await hand_over(port) == "RCPT 450 later"
    assert seen == [b".\r\n", b"RSET\r\n", b"QUIT\r\n"]


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"220-and more\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0)


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"2")
        await writer.drain()
        await asyncio.sleep(0.1)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def one_long_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 " + b"x" * 1_000_000)
    await asyncio.sleep(2)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff HTTP/1.1 400 Bad\r\n")
    await asyncio.sleep(2)


@pytest.mark.parametrize("script", [endless, dripping, silent, one_long_line, garbage])
async def test_hostile_greetings_end_soon(script: Script) -> None:
    async with scripted(script) as port:
        started = time.monotonic()
        with pytest.raises(LostError) as lost:
            await hand_over(port)
    assert not lost.value.after_data
    assert time.monotonic() - started < 4


async def test_a_lost_last_reply_is_known_as_such() -> None:
    replies = (EHLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        for reply in replies:
            await reader.readline()
            writer.write(reply)
        await reader.readuntil(b"\r\n.\r\n")

    async with scripted(script) as port:
        with pytest.raises(LostError) as lost:
            await hand_over(port)
    assert lost.value.after_data


async def test_servers_without_ehlo_or_with_small_limits() -> None:
    old = (b"502 what\r\n", b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        for reply in old:
            await reader.readline()
            writer.write(reply)
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 2.0.0 kept\r\n")

    async with scripted(script) as port:
        assert await hand_over(port) == ". 250 2.0.0 kept"
    async with scripted(reading(b"250-x\r\n250 SIZE 10\r\n", b"221 bye\r\n")) as port:
        assert (await hand_over(port)).startswith("EHLO 552 5.3.4")


@given(st.binary(max_size=200))
def test_what_leaves_has_no_bare_ends_and_one_end_mark(content: bytes) -> None:
    sent = stuffed(content)
    assert sent.endswith(b"\r\n.\r\n") or sent == b".\r\n" or content in {b"", b"."}
    body = sent.removesuffix(b".\r\n")
    assert body.replace(b"\r\n", b"").count(b"\n") == 0
    assert body.replace(b"\r\n", b"").count(b"\r") == 0
    assert b"\r\n.\r\n" not in b"\r\n" + body
    lines = body.split(b"\r\n")
    back = b"\r\n".join(line.removeprefix(b".") for line in lines)
    normal = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert back == (normal if normal.endswith(b"\r\n") else normal + b"\r\n")


async def test_routes_follow_dns() -> None:
    zone = {
        "two.test": {"MX": ["20 b.two.test", "10 a.two.test"]},
        "none.test": {"MX": ["0 ."]},
        "bare.test": {"A": ["192.0.2.1"]},
        "nothing.test": {"TXT": ["x"]},
        "text.test": {"TXT": ["v=spf1 -all", "y" * 300]},
        "alias.test": {"CNAME": ["bare.test"]},
    }
    async with DnsServer(zone) as dns:
        resolver = Resolver([dns.address], timeout_seconds=1)
        routes = DirectToMx(resolver, port=2525)
        assert await routes.to("two.test") == [Host("a.two.test", 2525), Host("b.two.test", 2525)]
        assert await routes.to("none.test") == Refused("5.1.10", "none.test takes no mail")
        assert await routes.to("bare.test") == [Host("bare.test", 2525)]
        for name in ("nothing.test", "missing.test"):
            refused = await routes.to(name)
            assert isinstance(refused, Refused)
        assert sorted(await resolver.txt("text.test")) == ["v=spf1 -all", "y" * 300]
        assert await resolver.addresses("alias.test") == ["192.0.2.1"]
        assert await resolver.addresses("127.0.0.1") == ["127.0.0.1"]
        found = await resolver.mx("two.test")
        assert set(found) == {MxRecord(20, "b.two.test"), MxRecord(10, "a.two.test")}
        assert dns.asked.count(("two.test", "MX")) == 1  # Remembered.
    relay = SmartHost(Host("relay.test", 587))
    assert await relay.to("any.test") == [Host("relay.test", 587)]
    assert relay.site("one.test") == relay.site("two.test")


def test_only_the_open_internet_is_public() -> None:
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "0.0.0.0"):
        assert not is_public(address)
    assert is_public("9.9.9.9")

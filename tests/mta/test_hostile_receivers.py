"""Servers that misbehave around the message itself: bounded time, and no doubt where none is."""

from __future__ import annotations

import asyncio
import time

import pytest

from mta.client import LostError
from tests.mta.test_client import EHLO, Script, hand_over, scripted

LARGE = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 8_000_000


def after(phase: str, said: bytes, *, hang_up: bool = True) -> Script:
    """Polite until "data" is asked for or the final "dot" came; then says `said`."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        for reply in (EHLO, b"250 ok\r\n", b"250 ok\r\n"):
            await reader.readline()
            writer.write(reply)
        await reader.readline()
        if phase == "dot":
            writer.write(b"354 go\r\n")
            await reader.readuntil(b"\r\n.\r\n")
        writer.write(said)
        await writer.drain()
        if not hang_up:
            await asyncio.sleep(3)

    return script


@pytest.mark.parametrize("said", [b"", b"rubbish\r\n", b"250-" * 9000, b"250-x\r\n" * 500])
@pytest.mark.parametrize("phase", ["data", "dot"])
async def test_only_a_loss_after_the_final_dot_is_uncertain(phase: str, said: bytes) -> None:
    async with scripted(after(phase, said)) as port:
        started = time.monotonic()
        with pytest.raises(LostError) as lost:
            await hand_over(port)
    assert lost.value.after_data is (phase == "dot")
    assert time.monotonic() - started < 4


async def test_a_reply_before_the_hanging_up_counts() -> None:
    async with scripted(after("dot", b"250 2.0.0 kept\r\n")) as port:
        assert await hand_over(port) == ". 250 2.0.0 kept"
    async with scripted(after("dot", b"421 4.3.2 closing\r\n")) as port:
        assert await hand_over(port) == ". 421 4.3.2 closing"


async def test_a_server_that_never_reads_the_message_is_left() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        for reply in (EHLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await reader.readline()
            writer.write(reply)
        await asyncio.sleep(4)

    async with scripted(script) as port:
        started = time.monotonic()
        with pytest.raises(LostError):
            await hand_over(port, LARGE)
    assert time.monotonic() - started < 5

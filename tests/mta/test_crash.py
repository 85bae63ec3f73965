"""`kill -9` under load: what was acknowledged arrives, and copies are of lost last replies only."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
import ssl
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from mta.accounts import add_credential
from mta.retry import OPEN
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Delivery
from tests.mta.house import make_tenant
from tests.mta.strangers import Sink, free_port

ROUNDS = 2
SESSIONS = 4


class Load:
    """Clients that submit one numbered message after the other."""

    def __init__(self, port: int, login: str, secret: str) -> None:
        self.port = port
        self.login = base64.b64encode(f"\0{login}\0{secret}".encode()).decode()
        self.acknowledged: set[str] = set()
        self.number = 0
        self.one_more = asyncio.Event()
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    async def client(self) -> None:
        """Submits until the server is gone."""
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)
            await reader.readline()
            assert (await self._say(reader, writer, "EHLO x.test")).startswith("250")
            said = await self._say(reader, writer, f"AUTH PLAIN {self.login}")
            assert said.startswith("235"), said
            while True:
                self.number += 1
                name = f"n{self.number}"
                for line in (
                    "MAIL FROM:<bo@acme.test>",
                    f"RCPT TO:<{name}@customer.test>",
                    "DATA",
                ):
                    await self._say(reader, writer, line)
                said = await self._say(
                    reader,
                    writer,
                    f"From: bo@acme.test\r\nSubject: {name}\r\n\r\nhello\r\n.",
                )
                if said.startswith("250"):
                    self.acknowledged.add(name)
                    self.one_more.set()

    async def until(self, count: int) -> None:
        """Waits until so many were acknowledged in all."""
        while len(self.acknowledged) < count:
            self.one_more.clear()
            await self.one_more.wait()

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str
    ) -> str:
        writer.write(f"{line}\r\n".encode())
        while True:
            answer = await reader.readline()
            if not answer.endswith(b"\n"):
                raise EOFError
            if answer[3:4] != b"-":
                return answer.decode()


async def launch(folder: Path, submissions: int, sink: int) -> asyncio.subprocess.Process:
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.mta.crash_target",
        str(folder),
        str(submissions),
        str(sink),
        cwd=root,
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", submissions)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return process
    raise AssertionError("the mail process did not start")


async def test_what_was_acknowledged_arrives_after_kill_9(store: Sessions, tmp_path: Path) -> None:
    acme = await make_tenant(store, Seal(b"s" * 32), "acme", 1)
    async with store.begin(acme.id) as session:
        _, secret = await add_credential(
            session, "smtp", login="shop@acme.test", now=datetime.now(UTC)
        )
    load = Load(free_port(), "shop@acme.test", secret)
    async with Sink() as sink:
        for round_number in range(ROUNDS):
            process = await launch(tmp_path, load.port, sink.port)
            clients = [asyncio.create_task(load.client()) for _ in range(SESSIONS)]
            await load.until(len(load.acknowledged) + 15 + 7 * round_number)
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            await asyncio.gather(*clients)
        process = await launch(tmp_path, load.port, sink.port)
        for _ in range(600):
            async with store.read(EVERY_COMPANY) as session:
                open_ones = select(func.count(Delivery.id)).where(
                    Delivery.state.in_([str(state) for state in OPEN])
                )
                left = await session.scalar(open_ones)
            if not left:
                break
            await asyncio.sleep(0.05)
        process.terminate()
        await process.wait()
    assert left == 0
    arrived = Counter(taken.recipients[0].partition("@")[0] for taken in sink.taken)
    assert load.acknowledged <= set(arrived), load.acknowledged - set(arrived)
    copies = {name for name, count in arrived.items() if count > 1}
    assert len(copies) <= 8 * ROUNDS  # At most what was on its way at the moment of a kill.
    for name in copies:
        ids = {
            found[1]
            for taken in sink.taken
            if taken.recipients[0].startswith(f"{name}@")
            and (found := re.search(rb"Message-ID: (<[^>]+>)", taken.content))
        }
        assert len(ids) == 1

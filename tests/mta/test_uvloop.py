"""The doors on the event loop that the appliance runs on, whose transports are of other classes."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from pathlib import Path

import uvloop

from mail.tokens import TokenKeys
from mta.certificate import server_context
from mta.intake import Directory, Intake
from mta.limiter import GuessLimiter
from mta.listener import MX, Listener
from mta.session import House, Limits
from mta.spool import Spool
from storage.engine import database_url, make_engine
from storage.sessions import Sessions
from tests.conftest import MONDAY


async def _greeted(folder: Path) -> tuple[int, int, bytes]:
    store = Sessions(make_engine(database_url("", folder)))
    spool = Spool(folder / "spool")
    house = House(
        host_name="mail.acme.test",
        sessions=store,
        intake=Intake(store, spool, Directory(store, TokenKeys({0: b"k" * 32}, 0)), lambda: MONDAY),
        limiter=GuessLimiter(),
        limits=Limits(message_bytes=200_000, recipients=100, idle=5.0, session=10.0, slow=0.0),
        tls=server_context(folder / "tls", "mail.acme.test", None, None),
        clock=lambda: MONDAY,
    )
    doors = Listener(house, listen="127.0.0.1")
    await doors.start({MX: 0})
    port = doors.ports["mx"]
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def talk() -> tuple[int, int]:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            plain = client.ehlo()[0]
            client.starttls(context=context)
            return plain, client.ehlo()[0]

    try:
        plain, secure = await asyncio.to_thread(talk)
        doors.admit = lambda dialogue, peer: "421 4.7.0 Too many connections"  # type: ignore[method-assign]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turned_away = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    finally:
        await doors.stop()
        spool.close()
        await store.close()
    return plain, secure, turned_away


def test_the_doors_open_on_uvloop(tmp_path: Path) -> None:
    plain, secure, turned_away = uvloop.run(_greeted(tmp_path))
    assert (plain, secure) == (250, 250)
    assert turned_away.startswith(b"421 4.7.0")

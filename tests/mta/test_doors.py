"""The doors under every split, flood and trick; and all ways to come in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import resource
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.envelope import Envelope
from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7
from mta.accounts import add_credential
from mta.allowance import Allowance
from mta.certificate import server_context
from mta.door import Door, House, Limits
from mta.intake import Intake, Owner
from mta.limiter import GuessLimiter
from mta.listener import MX, SUBMISSION, SUBMISSIONS, Listener
from mta.session import Conversation
from storage.sessions import Sessions
from tests.conftest import MONDAY
from tests.mta.house import Tenant

LIMITS = Limits(message_bytes=100_000, recipients=100, idle=1.0, session=4.0, slow=0.0)
OURS = Owner(uuid7(), 1)


class Keeper:
    """An intake that keeps what it gets in memory. `fail` is raised, `late` waited first."""

    def __init__(self) -> None:
        self.kept: list[tuple[Envelope, bytes]] = []
        self.clients: list[Any] = []
        self.fail: Exception | None = None
        self.late = 0.0
        self.heavy = ""
        self.login = SimpleNamespace(id=uuid7(), login="shop", company_id=OURS.company_id)
        self.directory = self

    def owner_now(self, domain: str) -> Owner | None:
        return OURS if domain == "ours.test" else None

    async def owner(self, domain: str) -> Owner | None:
        return self.owner_now(domain)

    async def postmaster(self) -> Owner | None:
        return OURS

    async def trusted(self, login: str) -> Any:
        return self.login if login == "shop" else None

    def takes(self, owner: Owner, local: str) -> bool:
        return local != "nobody"

    def pressure(self, company: object) -> str:
        return self.heavy

    def knows_sender(self, credential: object, address: str) -> bool:
        return True

    async def from_the_world(self, client: Any, envelope: Envelope, to: object, raw: bytes) -> str:
        return await self._keep(client, envelope, raw)

    async def from_a_company(self, client: Any, envelope: Envelope, raw: bytes) -> str:
        return await self._keep(client, envelope, raw)

    async def _keep(self, client: Any, envelope: Envelope, raw: bytes) -> str:
        await asyncio.sleep(self.late)
        if self.fail is not None:
            raise self.fail
        self.kept.append((envelope, raw))
        self.clients.append(client)
        return f"m{len(self.kept)}"

    def bodies(self) -> list[bytes]:
        """What was kept, without our own Received field."""
        return [raw.partition(b"+0000\r\n")[2] for _, raw in self.kept]


def house_of(keeper: Keeper, limits: Limits = LIMITS, **more: Any) -> House:
    return House(
        host_name="mail.ours.test",
        sessions=cast(Sessions, None),
        intake=cast(Intake, keeper),
        limiter=GuessLimiter(),
        limits=limits,
        tls=more.pop("tls", cast(ssl.SSLContext, None)),
        clock=lambda: MONDAY,
        **more,
    )


class Wire:
    """A transport in memory."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.7", 4000) if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.said += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Anyone:
    """A lobby that lets everybody in."""

    def enter(self, dialogue: object) -> str:
        return ""

    def admit(self, dialogue: object, peer: str) -> str:
        return ""

    def leave(self, dialogue: object) -> None:
        return None


async def played(pieces: list[bytes], door: Door = MX) -> tuple[bytes, list[bytes], bool]:
    """All that is said to these pieces, what is kept, and whether we hung up."""
    keeper, wire = Keeper(), Wire()
    talk = Conversation(door, house_of(keeper), Anyone())
    talk.connection_made(cast(asyncio.BaseTransport, wire))
    for piece in pieces:
        if not wire.closed:
            talk.data_received(piece)
    for _ in range(300):
        await asyncio.sleep(0)
    talk.connection_lost(None)
    return bytes(wire.said), keeper.bodies(), wire.closed


HELLO = b"EHLO x.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@ours.test>\r\n"
PARTS = st.sampled_from(
    [
        b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\n.\r", b"\r\n..\r\n", b"\r",
        b"\n", b".", b"\0", b"\r\n", b"Subject: x\r\n\r\n", b"text", HELLO, b"DATA\r\n",
        b"QUIT\r\n", b"RSET\r\n", b"BDAT 4\r\nabcd", b"BDAT 6 LAST\r\nab\r\n.\r\n",
        b"BDAT 0 LAST\r\n", b"BDAT x\r\n", b"BDAT 9999999\r\n", b"MAIL FROM:<>\r\n",
        b"RCPT TO:<nobody@ours.test>\r\n",
        b"x" * 5000, b"\xff\r\n", b"NOOP\r\n", b"DATA\r\n.\r\n", b"y" * 101_000 + b"\r\n",
    ]
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(parts=st.lists(PARTS, max_size=14), cuts=st.lists(st.integers(0, 400), max_size=40))
def test_how_tcp_splits_what_is_said_makes_no_difference(
    parts: list[bytes], cuts: list[int]
) -> None:
    said = HELLO + b"".join(parts)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(said[at : at + cut])
        at += cut
    pieces.append(said[at:])

    async def both() -> None:
        whole = await played([said])
        assert whole == await played([piece for piece in pieces if piece])
        if len(said) < 1000:
            assert whole == await played([said[i : i + 1] for i in range(len(said))])

    asyncio.run(both())


BARE = st.sampled_from([b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n.\n", b"\r.\r", b"\0"])


@settings(max_examples=60, deadline=None)
@given(
    before=st.binary(max_size=60).map(lambda b: b.translate(None, b"\r\n\0")),
    bare=BARE,
    chunked=st.booleans(),
)
def test_a_bare_line_end_anywhere_is_refused(before: bytes, bare: bytes, chunked: bool) -> None:
    content = b"Subject: x\r\n\r\n" + before + bare + b"x\r\n"
    if chunked:
        half = len(content) - 3
        said = b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (half, content[:half], 3, content[half:])
    else:
        said = b"DATA\r\n" + content + b".\r\n"
    heard, kept, _ = asyncio.run(played([HELLO + said]))
    assert kept == []
    assert b"\r\n550 5.6.0 The message has a " in heard


@pytest.mark.parametrize("line", [b"NOOP\n", b"NOOP\rRSET\r\n", b"\n", b"NOOP \n\r\n"])
async def test_a_bare_line_end_in_a_command_ends_it_all(line: bytes) -> None:
    heard, kept, closed = await played([HELLO + line + b"DATA\r\n\r\n.\r\n"])
    assert heard.splitlines()[-1].startswith(b"521 5.5.2 ")
    assert closed
    assert not kept


async def test_chunks_make_one_message() -> None:
    said = b"BDAT 12\r\nSubject: x\r\nBDAT 3\r\n\r\n.BDAT 0\r\nBDAT 7 LAST\r\n\r\nend\r\n"
    heard, kept, _ = await played([HELLO + said + b"NOOP\r\n"])
    assert kept == [b"Subject: x\r\n\r\n.\r\nend\r\n"]
    assert heard.splitlines()[-2:] == [b"250 2.0.0 Kept as m1", b"250 2.0.0 Yes"]
    large = b"BDAT 90000\r\n" + b"x" * 90_000 + b"BDAT 20000 LAST\r\n" + b"y" * 20_000
    heard, kept, _ = await played([HELLO + large + b"NOOP\r\n"])
    assert not kept
    assert heard.splitlines()[-2].startswith(b"552 5.3.4 ")
    heard, kept, closed = await played([HELLO + b"BDAT 1 NOW\r\nx" + HELLO])
    assert closed
    assert not kept
    for late in (b"RCPT TO:<c@ours.test>\r\n", b"DATA\r\n"):
        heard, _, _ = await played([HELLO + b"BDAT 1\r\nx" + late])
        assert heard.splitlines()[-1].startswith(b"503 5.5.1 ")


async def test_the_envelope_carries_what_was_asked_for() -> None:
    keeper, wire = Keeper(), Wire()
    door = Door("submission", submission=True)
    trusted = ((ip_network("192.0.2.0/24"), "shop"),)
    talk = Conversation(door, house_of(keeper, trusted=trusted), Anyone())
    talk.connection_made(cast(asyncio.BaseTransport, wire))
    talk.data_received(
        b"EHLO app\r\nMAIL FROM:<a@x.test> RET=hdrs ENVID=a+2Bb BODY=8BITMIME SMTPUTF8\r\n"
        b"RCPT TO:<b@y.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2B@y.test\r\n"
        b"RCPT TO:<c@y.test> NOTIFY=NEVER\r\nDATA\r\nSubject: x\r\n\r\n.\r\n"
    )
    for _ in range(50):
        await asyncio.sleep(0)
    envelope, raw = keeper.kept[0]
    assert (envelope.ret, envelope.envelope_id, envelope.body) == ("HDRS", "a+b", "8BITMIME")
    assert envelope.utf8
    assert not envelope.require_tls
    assert [(r.address, r.notify, r.original) for r in envelope.recipients] == [
        ("b@y.test", ("SUCCESS", "DELAY"), "rfc822;b+@y.test"),
        ("c@y.test", ("NEVER",), ""),
    ]
    assert raw.startswith(b"Received: by mail.ours.test with UTF8SMTP id ")
    assert b"192.0.2.7" not in raw
    talk.connection_lost(None)


@pytest.mark.parametrize(
    "parameters",
    [
        b"RET=ALL", b"ENVID=a+2b", b"ENVID=+0A", b"ENVID=" + b"x" * 101, b"RET=FULL RET=FULL",
        b"SIZE=\xc2\xb2", b"BODY=BINARYMIME", b"REQUIRETLS", b"REQUIRETLS=1", b"X=1", b"SIZE=",
    ],
)  # fmt: skip
async def test_parameters_that_are_wrong_are_refused(parameters: bytes) -> None:
    said = b"EHLO x\r\nMAIL FROM:<a@x.test> " + parameters + b"\r\nRCPT TO:<b@ours.test>\r\n"
    lines = (await played([said]))[0].splitlines()
    assert lines[-2][:1] == b"5"
    assert lines[-1].startswith(b"503")


async def test_floods_stay_bounded() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = b"RCPT TO:<b@ours.test>\r\n" * 100_000
    heard, kept, closed = await played(
        [HELLO, *(many[i : i + 65536] for i in range(0, len(many), 65536))]
    )
    assert closed
    assert not kept
    assert heard.count(b"452 4.5.3") > 1000, "those who send to many are not sent away at once"
    heard, _, closed = await played([b"x" * 65536] * 100 + [b"\r\nNOOP\r\n"])
    assert heard.splitlines()[-1] == b"250 2.0.0 Yes"
    assert heard.count(b"500 ") == 1
    heard, _, closed = await played([b"\0\r\n" * 100])
    assert closed
    assert len(heard) < 4000
    heard, kept, _ = await played(
        [HELLO + b"DATA\r\n", *[b"y" * 65536] * 200, b"\r\n.\r\nNOOP\r\n"]
    )
    assert heard.splitlines()[-2].startswith(b"552 ")
    assert not kept
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


async def test_the_memory_of_all_messages_together_has_an_end() -> None:
    keeper = Keeper()
    limits = Limits(10_000_000, 10, 5.0, 5.0, held_bytes=300_000)
    house = house_of(keeper, limits)
    talks = []
    for _ in range(2):
        wire = Wire()
        talk = Conversation(MX, house, Anyone())
        talk.connection_made(cast(asyncio.BaseTransport, wire))
        talk.data_received(HELLO + b"DATA\r\n" + b"z\r\n" * 70_000)
        talks.append((talk, wire))
    assert house.room.used <= 300_000
    for talk, _wire in talks:
        talk.data_received(b".\r\n")
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(keeper.kept) == 1
    assert [w.said.splitlines()[-1][:9] for _, w in talks] == [b"250 2.0.0", b"452 4.3.1"]
    assert house.room.used == 0
    for talk, _wire in talks:
        talk.connection_lost(None)


async def test_what_waits_is_read_no_further() -> None:
    keeper, wire = Keeper(), Wire()
    keeper.late = 0.05
    talk = Conversation(MX, house_of(keeper), Anyone())
    talk.connection_made(cast(asyncio.BaseTransport, wire))
    talk.data_received(HELLO + b"DATA\r\n\r\n.\r\n" + b"NOOP\r\n" * 10)
    talk.data_received(b"NOOP\r\n" * 50_000)
    assert not wire.reading
    await asyncio.sleep(0.1)
    assert wire.reading or wire.closed
    assert len(keeper.kept) == 1
    talk.connection_lost(None)


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (RuntimeError("secret"), b"451 4.3.0 We can't take this now; please try again"),
        (TemporaryError("the disk is full", "secret"), b"451 4.3.0 the disk is full"),
        (PermanentError("no From", "secret"), b"550 5.6.0 no From"),
    ],
)
async def test_errors_become_replies_without_their_cause(error: Exception, reply: bytes) -> None:
    keeper, wire = Keeper(), Wire()
    keeper.fail = error
    talk = Conversation(MX, house_of(keeper), Anyone())
    talk.connection_made(cast(asyncio.BaseTransport, wire))
    talk.data_received(HELLO + b"DATA\r\n\r\n.\r\n")
    for _ in range(20):
        await asyncio.sleep(0)
    assert wire.said.splitlines()[-1] == reply
    talk.connection_lost(None)


async def test_a_client_that_leaves_does_not_undo_the_keeping() -> None:
    keeper, wire = Keeper(), Wire()
    keeper.late = 0.02
    talk = Conversation(MX, house_of(keeper), Anyone())
    talk.connection_made(cast(asyncio.BaseTransport, wire))
    talk.data_received(HELLO + b"DATA\r\n\r\n.\r\n")
    await asyncio.sleep(0)
    talk.connection_lost(ConnectionResetError())
    await asyncio.sleep(0.05)
    assert len(keeper.kept) == 1


async def test_pressure_and_allowance_put_mail_off() -> None:
    keeper, wire = Keeper(), Wire()
    now = [0.0]
    allowance = Allowance(hourly=1, clock=lambda: now[0])
    trusted = ((ip_network("192.0.2.0/24"), "shop"),)
    house = house_of(keeper, trusted=trusted, allowance=allowance)
    talk = Conversation(SUBMISSION, house, Anyone())
    talk.connection_made(cast(asyncio.BaseTransport, wire))
    mail = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n\r\n.\r\n"
    talk.data_received(b"EHLO app\r\n" + mail + b"MAIL FROM:<a@x.test>\r\n")
    for _ in range(50):
        await asyncio.sleep(0)
    assert wire.said.splitlines()[-1].startswith(b"450 4.7.1 1 recipients in one hour")
    keeper.heavy, now[0] = "the disk is nearly full", 3601.0
    talk.data_received(b"MAIL FROM:<a@x.test>\r\n")
    assert wire.said.splitlines()[-1] == b"452 4.3.1 the disk is nearly full"
    keeper.heavy = ""
    talk.data_received(b"MAIL FROM:<a@x.test>\r\n")
    assert wire.said.splitlines()[-1].startswith(b"250 ")
    talk.connection_lost(None)


# Over real sockets.

Open = Callable[..., Any]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens all three doors; returns keeper and listener."""
    listeners = []
    context = server_context(tmp_path / "tls", "mail.ours.test", None, None)

    async def start(limits: Limits = LIMITS, **more: Any) -> tuple[Keeper, Listener]:
        keeper = Keeper()
        sessions = more.pop("sessions", None)
        house = house_of(keeper, limits, tls=context, **more)
        if sessions is not None:
            object.__setattr__(house, "sessions", sessions)
        listener = Listener(house, listen="127.0.0.1")
        await listener.start({MX: 0, SUBMISSION: 0, SUBMISSIONS: 0})
        listeners.append(listener)
        return keeper, listener

    yield start
    for listener in listeners:
        await listener.stop()


async def talk_to(port: int, *pieces: bytes, pause: float = 0.01) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause)
    heard = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return heard


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n"
    + b"\x21\x11\x00\x0c"
    + bytes([203, 0, 113, 9, 1, 1, 1, 1, 0, 9, 0, 25])
)


async def test_a_load_balancer_says_who_is_behind_it(opened: Open) -> None:
    proxies = (ip_network("127.0.0.0/8"),)
    keeper, listener = await opened(proxies=proxies)
    said = HELLO + b"DATA\r\n\r\n.\r\nQUIT\r\n"
    first = b"PROXY TCP4 203.0.113.7 127.0.0.1 1 25\r\n"
    await talk_to(listener.ports["mx"], first + said)
    await talk_to(listener.ports["mx"], first[:9], first[9:], said)
    await talk_to(listener.ports["mx"], V2 + said)
    addresses = [client.address for client in keeper.clients]
    assert addresses == ["203.0.113.7", "203.0.113.7", "203.0.113.9"]
    assert (await talk_to(listener.ports["mx"], said)).startswith(b"421 4.7.0 ")
    assert listener.count == 0
    _, plain = await opened()
    assert b"500 5.5.1 PROXY is no command" in await talk_to(plain.ports["mx"], first + b"QUIT\r\n")


async def test_a_load_balancer_passes_tls_on(opened: Open) -> None:
    _, listener = await opened(proxies=(ip_network("127.0.0.0/8"),))
    for header in (b"PROXY TCP4 203.0.113.7 127.0.0.1 1 465\r\n", V2):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = unverified().wrap_bio(incoming, outgoing, server_hostname="x")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports["submissions"])
        writer.write(header + outgoing.read())  # The first bytes of TLS come in the same packet.
        greeting = b""
        for _ in range(20):
            incoming.write(await asyncio.wait_for(reader.read(65536), 5))
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                writer.write(outgoing.read())
                greeting = tls.read(1000)
                break
            writer.write(outgoing.read())
        assert greeting.startswith(b"220 mail.ours.test")
        writer.close()


async def test_a_handshake_that_fails_leaves_nothing_behind(opened: Open) -> None:
    _, listener = await opened()
    for _ in range(3):
        await talk_to(listener.ports["submissions"], b"EHLO x\r\nthis is no TLS at all\r\n")
        await talk_to(listener.ports["mx"], b"STARTTLS\r\n", b"this is no TLS at all\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports["submissions"])
    assert await asyncio.wait_for(reader.read(), 5) == b"", "who says nothing is sent away"
    writer.close()
    for _ in range(100):
        await asyncio.sleep(0.01)
        if not listener.count:
            break
    assert listener.count == 0


async def test_whoever_speaks_first_is_refused_at_port_25_only(opened: Open) -> None:
    limits = Limits(100_000, 100, 1.0, 4.0, greeting=0.1)
    _, listener = await opened(limits)
    assert (await talk_to(listener.ports["mx"], b"EHLO x\r\nQUIT\r\n")).startswith(b"554 ")
    heard = await talk_to(listener.ports["submission"], b"EHLO x\r\nQUIT\r\n")
    assert heard.startswith(b"220 ")
    assert (await talk_to(listener.ports["mx"], b"", b"QUIT\r\n", pause=0.15)).startswith(b"220 ")


async def test_connections_are_counted_by_address_and_in_all(opened: Open) -> None:
    _, listener = await opened(Limits(1000, 10, 5.0, 5.0, connections=4, per_address=3))
    held = [await asyncio.open_connection("127.0.0.1", listener.ports["mx"]) for _ in range(3)]
    for reader, _ in held:
        assert (await reader.readline()).startswith(b"220 ")
    assert b"421 4.7.0 Too many connections" in await talk_to(listener.ports["mx"])
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.05)
    assert listener.count == 0
    assert b"220 " in await talk_to(listener.ports["mx"], b"QUIT\r\n")


async def test_a_thousand_idle_connections_are_borne_and_told_goodbye(opened: Open) -> None:
    _, listener = await opened(Limits(1000, 10, 60.0, 60.0, per_address=2000))
    held = [await asyncio.open_connection("127.0.0.1", listener.ports["mx"]) for _ in range(1000)]
    for reader, _ in held:
        assert (await reader.readline()).startswith(b"220 ")
    assert listener.count == 1000
    await listener.stop()
    for reader, writer in held:
        assert (await reader.readline()).startswith(b"421 4.3.2 ")
        writer.close()
    assert listener.count == 0


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"EH",
        HELLO,
        HELLO + b"DATA\r\nx",
        HELLO + b"BDAT 99\r\nx",
        b"STARTTLS\r\n",
        b"x" * 9000,
    ],
)
async def test_the_slow_are_sent_away_in_every_phase(opened: Open, start: bytes) -> None:
    keeper, listener = await opened(Limits(100_000, 100, 0.2, 2.0, slow=0.0))
    await asyncio.wait_for(talk_to(listener.ports["mx"], start), 5)
    for _ in range(100):
        await asyncio.sleep(0.01)
        if not listener.count:
            break
    assert listener.count == 0
    assert not keeper.kept


async def test_misbehaviour_is_answered_ever_later(opened: Open) -> None:
    _, listener = await opened(Limits(1000, 10, 5.0, 9.0, slow=0.02))
    loop = asyncio.get_running_loop()
    began = loop.time()
    heard = await talk_to(listener.ports["mx"], b"BOGUS\r\n" * 9 + b"QUIT\r\n")
    assert loop.time() - began > 0.02 * (1 + 2 + 4 + 8 + 16)
    assert heard.count(b"\r\n") == 11


async def test_who_does_not_read_its_replies_gets_no_more(opened: Open) -> None:
    _, listener = await opened(Limits(1000, 10, 0.5, 3.0, slow=0.0))
    _reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports["mx"], limit=1024)
    writer.write(b"EHLO x\r\n" * 15_000)
    for _ in range(500):
        await asyncio.sleep(0.01)
        if not listener.count:
            break
    assert listener.count == 0
    writer.transport.abort()


async def test_a_half_closed_client_hears_all_replies(opened: Open) -> None:
    keeper, listener = await opened()
    keeper.late = 0.05
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports["mx"])
    writer.write(HELLO + b"DATA\r\n\r\n.\r\nNOOP\r\n")
    writer.write_eof()
    heard = await asyncio.wait_for(reader.read(), 0.9)
    assert heard.endswith(b"250 2.0.0 Kept as m1\r\n250 2.0.0 Yes\r\n")
    writer.close()


async def test_all_ways_to_sign_in(opened: Open, store: Sessions, acme: Tenant) -> None:
    async with store.begin(acme.id) as session:
        _, secret = await add_credential(session, "smtp", login="app@acme.test", now=MONDAY)
    keeper, listener = await opened(sessions=store)

    def by(method: str) -> None:
        port = listener.ports["submissions"]
        with smtplib.SMTP_SSL("127.0.0.1", port, context=unverified(), timeout=10) as client:
            client.ehlo("app")
            assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
            assert client.has_extn("requiretls")
            client.user, client.password = "app@acme.test", secret
            client.auth(method, getattr(client, f"auth_{method.lower()}"))
            client.sendmail("bo@acme.test", ["ann@x.test"], b"Subject: x\r\n\r\nHi\r\n")

    for method in ("PLAIN", "LOGIN"):
        await asyncio.to_thread(by, method)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.ports["submissions"], ssl=unverified()
    )
    for password, code in (("wrong", b"535"), (secret, b"235")):
        assert (await scram(reader, writer, "app@acme.test", password)).startswith(code)
    assert (await scram(reader, writer, "app@acme.test", secret)).startswith(b"503")
    writer.close()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.ports["submissions"], ssl=unverified()
    )
    assert (await scram(reader, writer, "nobody", secret)).startswith(b"535")
    writer.close()
    assert len(keeper.kept) == 2
    assert keeper.kept[0][1].startswith(b"Received: by mail.ours.test with ESMTPSA id ")


async def scram(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, login: str, password: str
) -> bytes:
    """The client's side of RFC 5802, written from its §3."""

    async def say(line: bytes) -> bytes:
        writer.write(line + b"\r\n")
        while (heard := await asyncio.wait_for(reader.readline(), 5))[:4] in (b"220 ", b"250-"):
            continue
        return heard

    def mac(key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, hashlib.sha256).digest()

    await say(b"EHLO app")
    bare = f"n={login},r=abcdefghij".encode()
    heard = await say(b"AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,," + bare))
    if not heard.startswith(b"334 "):
        return heard
    challenge = base64.b64decode(heard[4:])
    fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
    salt, rounds = base64.b64decode(fields[b"s"]), int(fields[b"i"])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    key = mac(salted, b"Client Key")
    final = b"c=biws,r=" + fields[b"r"]
    signed = b",".join((bare, challenge, final))
    proof = bytes(
        a ^ b for a, b in zip(key, mac(hashlib.sha256(key).digest(), signed), strict=True)
    )
    heard = await say(base64.b64encode(final + b",p=" + base64.b64encode(proof)))
    if heard.startswith(b"334 "):
        theirs = mac(mac(salted, b"Server Key"), signed)
        assert base64.b64decode(heard[4:]) == b"v=" + base64.b64encode(theirs)
        heard = await say(b"")
    return heard


async def test_a_trusted_host_needs_no_password_also_after_starttls(opened: Open) -> None:
    keeper, listener = await opened(trusted=((ip_network("127.0.0.0/8"), "shop"),))

    def send(tls: bool) -> None:
        with smtplib.SMTP("127.0.0.1", listener.ports["submission"], timeout=10) as client:
            if tls:
                client.starttls(context=unverified())
            client.sendmail("bo@acme.test", ["ann@x.test"], b"Subject: x\r\n\r\nHi\r\n")

    await asyncio.to_thread(send, False)
    await asyncio.to_thread(send, True)
    assert [client.credential.login for client in keeper.clients] == ["shop", "shop"]
    _, stranger = await opened(trusted=((ip_network("10.0.0.0/8"), "shop"),))
    heard = await talk_to(stranger.ports["submission"], HELLO + b"QUIT\r\n")
    assert b"530 5.7.0 Sign in first; say STARTTLS first" in heard


def test_scram_and_idle_doors_also_work_on_uvloop(tmp_path: Path) -> None:
    import uvloop

    context = server_context(tmp_path / "tls", "mail.ours.test", None, None)

    async def run() -> int:
        keeper = Keeper()
        trusted = ((ip_network("127.0.0.0/8"), "shop"),)
        house = house_of(keeper, tls=context, trusted=trusted)
        listener = Listener(house, listen="127.0.0.1")
        await listener.start({MX: 0, SUBMISSION: 0, SUBMISSIONS: 0})

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", listener.ports["submission"], timeout=10) as client:
                client.starttls(context=unverified())
                client.sendmail("bo@acme.test", ["ann@x.test"], b"Subject: x\r\n\r\nHi\r\n")
            port = listener.ports["submissions"]
            with smtplib.SMTP_SSL("127.0.0.1", port, context=unverified(), timeout=10) as client:
                client.sendmail("bo@acme.test", ["ann@x.test"], b"Subject: y\r\n\r\nHi\r\n")

        await asyncio.gather(*(asyncio.to_thread(send) for _ in range(4)))
        await talk_to(listener.ports["submissions"], b"this is no TLS at all\r\n")
        await listener.stop()
        assert listener.count == 0
        return len(keeper.kept)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == 8

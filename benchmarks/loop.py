"""Figures of the main loop's parts on this machine, one core each, with their conditions.

    make bench

Rates are per CPU second where a part computes, per second where it waits for the disk. The mail
path's comparison with other servers is another benchmark's work.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from inbound.analysis import analyse
from mail.ids import uuid7
from mail.tokens import TokenKeys
from mta.compose import Composer, GenericMessage, Letter
from mta.signing import DkimSigner, load_key
from mta.spool import Spool
from mta.template import CompiledTemplate, TemplateKind
from responder.engine import decide
from responder.facts import case_of
from responder.reading.reader import Reader

SECONDS = 2.0
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
REPLY = "Thanks for writing. How much does it cost for 25 people, and can you call me on Tuesday?"
HTML = "<p>Hello {{ contact.name }},</p>" + "".join(
    f'<p>{"A line of plain words for the reader. " * 20}<a href="https://a.example/{n}">more</a></p>'
    for n in range(20)
)


def main() -> None:
    """Runs every measurement and prints a table."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    print(f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores,", end=" ")
    print(f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}\n")
    composer = Composer(TokenKeys({0: os.urandom(32)}, 0), "https://track.a.example")
    generic = GenericMessage(
        "k", CompiledTemplate(TemplateKind(bulk=True, literal=False), "Hello", "Hello you", HTML)
    )
    signer = _signer()
    message = composer.compose(generic, _letter()).content
    per_second("compose, 20 tracked links", lambda: composer.compose(generic, _letter()), message)
    per_second("sign with RSA-2048 and Ed25519", lambda: signer.sign(message, NOW), message)
    for sessions in (1, 20):
        asyncio.run(spool(sessions, message[:4096]))
    raw = (
        f"From: ann@b.example\r\nTo: bo@a.example\r\nSubject: Re: Hello\r\n\r\n{REPLY}\r\n\r\n"
        "On Mon, 23 Nov 2026, Bo wrote:\r\n> Hello\r\n> you\r\n"
    ).encode()
    per_second("take a reply apart", lambda: analyse(raw), raw)
    reader = Reader.load()
    latency("read a reply (model, lexicon, entities)", lambda: reader.read(REPLY, now=NOW))
    reading = reader.read(REPLY, now=NOW)
    case = case_of(reading, REPLY, now=NOW)
    latency("decide by rules", lambda: decide(case))


def per_second(name: str, work: Callable[[], object], sample: bytes) -> None:
    """How often a piece of work is done in one CPU second."""
    work()
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < SECONDS:
        work()
        done += 1
    rate = done / (time.process_time() - cpu)
    print(f"{name:42} {rate:9,.0f} /CPU-s   ({len(sample) / 1024:.0f} KiB)")


def latency(name: str, work: Callable[[], object]) -> None:
    """How long a piece of work takes, in the middle and at worst."""
    work()
    taken = []
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        before = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - before))
    worst = statistics.quantiles(taken, n=100)[98] if len(taken) > 2 else max(taken)
    print(f"{name:42} {statistics.median(taken):9.1f} ms p50   {worst:.1f} ms p99")


async def spool(sessions: int, body: bytes) -> None:
    """Durable appends with so many sessions waiting at a time."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        place = Spool(Path(folder))
        stop = time.perf_counter() + SECONDS
        done = 0

        async def session() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                await place.append(body)
                done += 1

        await asyncio.gather(*(session() for _ in range(sessions)))
        place.close()
    print(f"{f'spool 4 KiB durably, {sessions} sessions':42} {done / SECONDS:9,.0f} /s")


def _signer() -> DkimSigner:
    made = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    )
    pems = [
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        for key in made
    ]
    return DkimSigner("a.example", (load_key("r", pems[0]), load_key("e", pems[1])))


def _letter() -> Letter:
    key = uuid7()
    return Letter(
        id=key,
        company=1,
        kind="bulk",
        sender="bo@a.example",
        sender_name="Bo",
        recipient="ann@b.example",
        recipient_name="Ann",
        values={"contact": {"name": "Ann"}},
        rfc_message_id=f"<{key}@a.example>",
        references="",
        reply_domain="reply.a.example",
        postal_address="Mill Road 4, 10115 Berlin",
        created_at=NOW,
    )


if __name__ == "__main__":
    main()

"""What is measured gets out of every process, once, and never too much of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from mail.ids import uuid7
from mta import exposition, metrics, queue_samples
from mta.instruments import OTHER, Instruments
from mta.retry import State
from mta.submission import submit
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Attempt, Delivery, QueueSample
from tests.mta.house import Tenant, make_tenant, order


def read_page(text: bytes) -> dict[tuple[str, ...], float]:
    """Every sample by name and sorted label values."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_values_of_all_processes_are_on_one_page(tmp_path: Path) -> None:
    one = Instruments()
    handed = one.counter("waypost_x_total", "X.", "door")
    took = one.histogram("waypost_x_seconds", "How long.", bounds=(0.1, 1.0))
    handed.of("mx").inc()
    took.of().observe(0.1)
    took.of().observe(0.5)
    took.of().observe(7)
    exposition.write(tmp_path, "mail-1", one, at=time.time())
    handed.of("mx").inc(4)
    exposition.write(tmp_path, "mail-2", one, at=time.time())

    found = exposition.read(tmp_path, now=time.time())
    page = read_page(exposition.page(one, found, {"held": 3}))

    assert page["waypost_x_total", "mail-1", "mx"] == 1
    assert page["waypost_x_total", "mail-2", "mx"] == 5
    assert page["waypost_x_seconds_bucket", "0.1", "mail-1"] == 1
    assert page["waypost_x_seconds_bucket", "1.0", "mail-1"] == 2
    assert page["waypost_x_seconds_bucket", "+Inf", "mail-1"] == 3
    assert page["waypost_x_seconds_sum", "mail-1"] == pytest.approx(7.6)
    assert page["waypost_queue_deliveries", "held"] == 3


def test_files_of_dead_processes_are_removed_and_broken_ones_passed_by(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    now = time.time()
    (tmp_path / "mail-1.json").write_text(f'{{"pid": {gone.pid}, "at": {now}, "values": {{}}}}')
    stuck = f'{{"pid": {os.getpid()}, "at": {now - 61}, "values": {{}}}}'
    (tmp_path / "mail-2.json").write_text(stuck)
    (tmp_path / "mail-3.json").write_text('{"pid": ')
    exposition.write(tmp_path, "web", Instruments(), at=now)

    assert [s.process for s in exposition.read(tmp_path, now=now)] == ["web"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mail-3.json", "web.json"]


async def test_a_process_writes_while_it_runs_and_takes_its_file_away(tmp_path: Path) -> None:
    folder = exposition.folder_of(tmp_path)
    writing = asyncio.create_task(
        exposition.keep_writing(folder, "engine", Instruments(), every=0.01)
    )
    await asyncio.sleep(0.05)
    assert [one.process for one in exposition.read(folder, now=time.time())] == ["engine"]
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert list(folder.iterdir()) == []


def test_strangers_cannot_make_series_without_end() -> None:
    some = Instruments()
    family = some.counter("waypost_y_total", "Y.", "site", limit=3)
    for number in range(1000):
        family.of(f"site-{number}").inc()
    values = {names[0]: one.value for names, one in family}
    assert len(values) == 4
    assert values[OTHER] == 997

    ready = some.gauge("waypost_z", "Z.", "site", limit=2)
    ready.replace({"a": 1, "b": 9, "c": 5, "d": 2})
    assert {names[0]: one.value for names, one in ready} == {"b": 9, "c": 5, OTHER: 3}
    ready.replace({"a": 1})
    assert {names[0]: one.value for names, one in ready} == {"a": 1}


def test_every_measure_is_in_the_documentation() -> None:
    text = Path("docs/metrics.md").read_text(encoding="utf-8")
    for name, family in metrics.INSTRUMENTS.families.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert family.kind in line
        assert ", ".join(family.labels) in line


def test_counting_is_cheap() -> None:
    """Generous: 20 times what it takes, for a machine that does other things."""
    sent, took = metrics.delivered("delivered", "test"), metrics.attempt_seconds("test")
    started = time.process_time()
    for _ in range(20_000):
        sent.inc()
        took.observe(0.3)
    assert time.process_time() - started < 20_000 * 10e-6


async def test_transactions_are_measured(store: Sessions, acme: Tenant) -> None:
    metrics.watch_store(store.engine.sync_engine)
    before = sum(metrics._store_seconds.of("commit").counts)
    async with store.begin(acme.id) as session:
        await session.scalars(select(Delivery))
    assert sum(metrics._store_seconds.of("commit").counts) == before + 1


async def test_the_queue_is_sampled_by_company(any_store: Sessions, seal: Seal) -> None:
    now = datetime.now(UTC)
    acme = await make_tenant(any_store, seal, "acme", 1)
    rival = await make_tenant(any_store, seal, "rival", 2)
    for tenant, number in ((acme, 3), (rival, 1)):
        async with any_store.begin(tenant.id) as session:
            for key in range(number):
                sent = replace(order(str(key)), sender=f"bo@{tenant.domain.name}")
                await submit(session, sent, now=now)
            rows = list(await session.scalars(select(Delivery)))
            rows[0].state = State.HELD
            for outcome in (State.DELIVERED, State.DEFERRED):
                attempt = Attempt(id=uuid7(), delivery_id=rows[0].id, at=now, outcome=outcome)
                attempt.code = None
                session.add(attempt)
    later = now + timedelta(seconds=30)
    async with any_store.begin(EVERY_COMPANY) as session:
        samples = await queue_samples.count(session, now=later)
        await queue_samples.keep(session, samples, now=later)
    async with any_store.read(EVERY_COMPANY) as session:
        depths = await queue_samples.depths(session, now=later)
        assert depths == {"queued": 2, "sending": 0, "deferred": 0, "held": 2}
        old = await queue_samples.depths(session, now=later + timedelta(hours=1))
        assert set(old.values()) == {0}
    async with any_store.read(acme.id) as session:
        (mine,) = await queue_samples.since(session, after=now)
    assert (mine.queued, mine.held, mine.delivered, mine.put_off) == (2, 1, 1, 1)
    async with any_store.begin(EVERY_COMPANY) as session:
        await queue_samples.keep(session, [], now=later + timedelta(hours=25))
        assert list(await session.scalars(select(QueueSample))) == []

"""What shaping learnt survives a restart, and people's orders reach what sends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from mail.errors import PermanentError
from mta.shaping.files import shipped
from mta.shaping.reading import read
from mta.shaping.shaper import Shaper
from mta.shaping.store import SiteStore, learnt, orders, resume_site, suspend_site
from mta.shaping.verdict import Verdict
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import SiteRecord

NOW = datetime(2026, 8, 3, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def complain(shaper: Shaper, site: str, now: datetime, *, source: str = "") -> None:
    shaper.started(site, now.timestamp(), source=source)
    rate = Verdict(421, "rate limit", "4.7.0", "mail")
    shaper.finished(site, rate, now.timestamp(), source=source)


async def test_what_was_learnt_is_there_after_a_restart(any_store: Sessions, clock: Clock) -> None:
    rules = read('[source.a]\naddress = "192.0.2.1"\nwarm_up = true\n', "own.toml", shipped())
    shaper = Shaper(rules)
    complain(shaper, "a.example", NOW, source="a")
    await SiteStore(any_store, "mail-1", clock).turn(shaper)

    clock.now += timedelta(seconds=1)
    again, other = Shaper(rules), Shaper(rules)
    await SiteStore(any_store, "mail-1", clock).load(again)
    await SiteStore(any_store, "mail-2", clock).load(other)

    at = clock.now.timestamp()
    assert again.room("a.example", at) == 0
    assert again.dump(at) == shaper.dump(at)
    assert again.dump(at)["warmth"]
    assert other.snapshot(at) == [], "each process learns for itself"


async def test_only_what_changed_is_written(store: Sessions, clock: Clock) -> None:
    shaper = Shaper(shipped())
    keeper = SiteStore(store, "mail-1", clock)
    complain(shaper, "a.example", NOW)
    complain(shaper, "b.example", NOW)
    await keeper.turn(shaper)
    clock.now += timedelta(seconds=2)
    complain(shaper, "b.example", clock.now)
    await keeper.turn(shaper)
    async with store.read(EVERY_COMPANY) as session:
        written = {row.site: row.updated_at for row in await learnt(session)}
    assert written == {"a.example": NOW, "b.example": clock.now}

    clock.now += timedelta(days=2)
    for site in ("a.example", "b.example"):
        shaper.started(site, clock.now.timestamp())
        shaper.finished(site, Verdict(250), clock.now.timestamp())
    await keeper.turn(shaper)
    async with store.read(EVERY_COMPANY) as session:
        assert await learnt(session) == [], "after a day without complaint nothing is left"


async def test_an_order_reaches_every_process_and_ends(any_store: Sessions, clock: Clock) -> None:
    first, second = Shaper(shipped()), Shaper(shipped())
    keepers = [SiteStore(any_store, f"mail-{n}", clock) for n in (1, 2)]
    async with any_store.begin(EVERY_COMPANY) as session:
        await suspend_site(session, "Google", until=NOW + HOUR, reason="blocked us", now=NOW)
    for keeper, shaper in zip(keepers, (first, second), strict=True):
        await keeper.turn(shaper)
        assert shaper.room("google", NOW.timestamp()) == 0
        assert shaper.next_room("google", NOW.timestamp()) == (NOW + HOUR).timestamp()

    clock.now += timedelta(minutes=1)
    async with any_store.begin(EVERY_COMPANY) as session:
        await resume_site(session, "google", now=clock.now)
    await keepers[0].turn(first)
    assert first.room("google", clock.now.timestamp()) > 0
    complain(first, "google", clock.now)
    await keepers[0].turn(first)
    assert first.room("google", clock.now.timestamp()) == 0, "an order is followed once"

    restarted = Shaper(shipped())
    await SiteStore(any_store, "mail-2", clock).load(restarted)
    assert restarted.room("google", clock.now.timestamp()) > 0


async def test_a_suspension_outlives_a_restart_but_not_its_end(
    store: Sessions, clock: Clock
) -> None:
    async with store.begin(EVERY_COMPANY) as session:
        await suspend_site(session, "yahoo", until=NOW + HOUR, reason="x", now=NOW)
        assert [order.site for order in await orders(session, NOW)] == ["yahoo"]
        assert await orders(session, NOW + HOUR) == []
    shaper = Shaper(shipped())
    await SiteStore(store, "mail-1", clock).load(shaper)
    assert shaper.room("yahoo", NOW.timestamp()) == 0
    clock.now += HOUR
    late = Shaper(shipped())
    await SiteStore(store, "mail-1", clock).load(late)
    assert late.room("yahoo", clock.now.timestamp()) > 0


@pytest.mark.parametrize("hours", [0, -1, 24 * 400])
async def test_a_suspension_needs_an_end(store: Sessions, hours: int) -> None:
    async with store.begin(EVERY_COMPANY) as session:
        with pytest.raises(PermanentError):
            await suspend_site(session, "google", until=NOW + hours * HOUR, reason="", now=NOW)
        with pytest.raises(PermanentError, match="explain"):
            await suspend_site(session, " ", until=NOW + HOUR, reason="", now=NOW)


async def test_it_runs_until_it_is_stopped_and_writes_at_the_end(
    store: Sessions, clock: Clock
) -> None:
    shaper, stop = Shaper(shipped()), asyncio.Event()
    running = asyncio.create_task(SiteStore(store, "mail-1", clock).run(shaper, stop, every=60.0))
    await asyncio.sleep(0.05)
    complain(shaper, "a.example", NOW)
    stop.set()
    await asyncio.wait_for(running, 5)
    async with store.read(EVERY_COMPANY) as session:
        rows = (await session.scalars(select(SiteRecord))).all()
    assert [(row.process, row.site) for row in rows] == [("mail-1", "a.example")]

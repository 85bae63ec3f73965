"""Stations: every event has its effect once, and a bad one does not stop the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus import stations as module
from bus.events import Kind, publish
from bus.stations import Line, Station, standings
from mail.errors import TemporaryError
from mail.ids import uuid7
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Contact, Event, Hold

NOW = datetime(2026, 11, 23, tzinfo=UTC)
COMPANIES = [uuid7(), uuid7()]


@pytest.fixture
async def stream(any_store: Sessions) -> Sessions:
    """A store with two companies that each have published ten clicks and an opening."""
    store = any_store
    async with store.begin(EVERY_COMPANY) as session:
        for number, key in enumerate(COMPANIES, 1):
            session.add(Company(id=key, number=number, name=str(number), created_at=NOW))
    for key in COMPANIES:
        async with store.begin(key) as session:
            await publish(session, Kind.OPENED)
            for number in range(10):
                await publish(session, Kind.CLICKED, slot=number)
    return store


async def count(session: AsyncSession, event: Event) -> None:
    """The effect: a contact with the event's key as its address, one per event."""
    session.add(Contact(address=f"{event.id}@example.test", created_at=NOW))


def counter(handle: module.Handler = count) -> Station:
    return Station("counter", frozenset({Kind.CLICKED}), handle)


async def effects(store: Sessions) -> list[UUID]:
    async with store.read(EVERY_COMPANY) as session:
        return list(await session.scalars(select(Contact.company_id)))


async def test_every_event_has_its_effect_once_in_its_company(stream: Sessions) -> None:
    line = Line(stream, [counter()], tick=0.01)

    assert await line.drain() == 20
    assert await line.drain() == 0
    assert sorted(await effects(stream)) == sorted(COMPANIES * 10)


async def test_two_processes_share_the_work_and_double_nothing(stream: Sessions) -> None:
    lines = [Line(stream, [counter()], tick=0.01) for _ in range(3)]

    await asyncio.gather(*(line.drain() for line in lines))
    assert await lines[0].drain() == 0
    assert len(await effects(stream)) == 20


async def test_an_effect_that_fails_leaves_nothing_and_the_event_is_held(stream: Sessions) -> None:
    async def fail_on_three(session: AsyncSession, event: Event) -> None:
        await count(session, event)
        if event.payload["slot"] == 3:
            raise ZeroDivisionError("three")

    line = Line(stream, [counter(fail_on_three)], tick=0.01)
    assert await line.drain() == 20

    assert len(await effects(stream)) == 18
    async with stream.read(EVERY_COMPANY) as session:
        holds = (await session.scalars(select(Hold))).all()
        (standing,) = await standings(session, [counter()])
    assert {hold.company_id for hold in holds} == set(COMPANIES)
    assert all("ZeroDivisionError: three" in hold.cause for hold in holds)
    assert (standing.behind, standing.held) == (0, 2)

    assert not await line.retry(holds[0])
    mended = Line(stream, [counter()], tick=0.01)
    assert await mended.retry(holds[0])
    assert await mended.retry(holds[0])  # A second try finds it done.
    assert len(await effects(stream)) == 19


async def test_a_temporary_error_is_tried_again(
    stream: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", (0.0, 0.0))
    calls: list[int] = []

    async def second_time_lucky(session: AsyncSession, event: Event) -> None:
        calls.append(event.seq)
        if calls.count(event.seq) == 1:
            raise TemporaryError("come back")
        await count(session, event)

    await Line(stream, [counter(second_time_lucky)], tick=0.01).drain()
    assert len(calls) == 40
    assert len(await effects(stream)) == 20


async def test_what_takes_long_is_done_before_the_transaction(stream: Sessions) -> None:
    prepared: list[UUID] = []

    async def prepare(event: Event) -> None:
        async with stream.begin(EVERY_COMPANY) as session:  # Would wait for itself within one.
            await session.get(Company, event.company_id)
        prepared.append(event.id)
        if len(prepared) == 1:
            raise TemporaryError("not yet")

    async def expect(session: AsyncSession, event: Event) -> None:
        assert prepared[-1] == event.id
        await count(session, event)

    station = Station("counter", frozenset({Kind.CLICKED}), expect, prepare)
    assert await Line(stream, [station], tick=0.01).drain() == 20
    assert len(await effects(stream)) == 20
    assert len(prepared) == 21


async def test_a_handler_sees_only_the_company_of_the_event(stream: Sessions) -> None:
    seen: set[tuple[UUID, UUID]] = set()

    async def look(session: AsyncSession, event: Event) -> None:
        for company in await session.scalars(select(Event.company_id)):
            seen.add((event.company_id, company))

    await Line(stream, [counter(look)], tick=0.01).drain()
    assert seen == {(key, key) for key in COMPANIES}


async def test_a_running_line_sees_new_events_and_stops(stream: Sessions) -> None:
    line = Line(stream, [counter()], tick=0.01)
    running = asyncio.create_task(line.run())
    async with stream.begin(COMPANIES[0]) as session:
        await publish(session, Kind.CLICKED, slot=99)
    for _ in range(500):
        if len(await effects(stream)) == 21:
            break
        await asyncio.sleep(0.01)
    line.stop()
    await asyncio.wait_for(running, 5)
    assert len(await effects(stream)) == 21


async def test_events_of_others_are_passed_by(
    stream: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRIDE", 10)
    line = Line(stream, [Station("bounces", frozenset({Kind.BOUNCE_RECEIVED}), count)], tick=0.01)
    await line.drain()
    async with stream.read(EVERY_COMPANY) as session:
        (standing,) = await standings(session, line.stations)
    assert standing.seq == 20


async def test_an_unknown_station_cannot_retry(stream: Sessions) -> None:
    hold = Hold(station="gone", event_seq=1)
    with pytest.raises(ValueError, match="no station is called gone"):
        await Line(stream, [counter()], tick=0.01).retry(hold)


async def test_a_station_is_called_for_what_its_sieve_leaves(stream: Sessions) -> None:
    asked: list[int] = []

    async def even(session: AsyncSession, seqs: Sequence[int]) -> list[int]:
        asked.extend(seqs)
        found = await session.execute(select(Event.seq, Event.payload).where(Event.seq.in_(seqs)))
        return [seq for seq, payload in found if payload["slot"] % 2 == 0]

    station = Station("counter", frozenset({Kind.CLICKED}), count, sift=even)
    line = Line(stream, [station], tick=0.01)
    assert await line.drain() == 10
    assert await line.drain() == 0
    assert sorted(await effects(stream)) == sorted(COMPANIES * 5)
    assert len(set(asked)) == 20  # Never the openings, which are not its kind.


async def test_a_broken_sieve_loses_nothing(stream: Sessions) -> None:
    async def broken(session: AsyncSession, seqs: Sequence[int]) -> list[int]:
        raise ValueError("no")

    station = Station("counter", frozenset({Kind.CLICKED}), count, sift=broken)
    assert await Line(stream, [station], tick=0.01).drain() == 20


async def test_what_is_sifted_out_is_left_behind(store: Sessions) -> None:
    async def none(session: AsyncSession, seqs: Sequence[int]) -> list[int]:
        return []

    async with store.begin(EVERY_COMPANY) as session:
        session.add(Company(id=COMPANIES[0], number=1, name="1", created_at=NOW))
    async with store.begin(COMPANIES[0]) as session:
        for number in range(300):
            await publish(session, Kind.CLICKED, slot=number)
    station = Station("counter", frozenset({Kind.CLICKED}), count, sift=none)
    await Line(store, [station], tick=0.01).drain()
    async with store.read(EVERY_COMPANY) as session:
        (place,) = await standings(session, [station])
    assert place.behind == 0
    assert await effects(store) == []

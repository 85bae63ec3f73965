"""Stations: readers of the stream that keep their own place in it.

The effect of an event and the reader's new place are one transaction: an event has its effect once,
however often a process dies. A handler that raises does not stop the stream: its event is set
aside with the cause, and the station goes on; a `TemporaryError` is tried a few times first.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import BigInteger, Row, Text, cast, func, select, tuple_, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind
from mail.errors import TemporaryError
from storage.sessions import EVERY_COMPANY, Sessions, insert_new, narrow
from storage.tables import Cursor, Event, Hold

log = structlog.get_logger()

Handler = Callable[[AsyncSession, Event], Awaitable[None]]
Sieve = Callable[[AsyncSession, Sequence[int]], Awaitable[Collection[int]]]

PATIENCE = (0.2, 1.0, 5.0)
"""Seconds between tries of an event whose handler asks to be called again."""

STRIDE = 500
"""Rows of the stream that are looked at in one go."""


@dataclass(frozen=True, slots=True)
class Station:
    """A named reader. `handle` gets a writing session narrowed to the event's company.

    `prepare`, if given, is called before with no transaction open: for what takes long or talks to
    other machines. It writes nothing, and may be called although another process has the effect.
    `sift`, if given, picks those of many events that concern the station, by their `seq`: for one
    that hears of every delivery and has to do with few. Its session reads, for every company.
    """

    name: str
    kinds: frozenset[Kind]
    handle: Handler
    prepare: Callable[[Event], Awaitable[None]] | None = None
    sift: Sieve | None = None


class LostError(Exception):
    """Another process moved this station's cursor: the event is done."""


class Line:
    """Runs stations side by side until it is told to stop."""

    def __init__(self, sessions: Sessions, stations: Sequence[Station], *, tick: float) -> None:
        """`tick` is how often, in seconds, the stream is looked at when nothing calls."""
        self._sessions = sessions
        self.stations = list(stations)
        self._tick = tick
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ends `run` after the events in hand."""
        self._stop.set()

    async def run(self) -> None:
        """Handles events as they come."""
        await asyncio.gather(*(self._serve(station) for station in self.stations))

    async def drain(self) -> int:
        """Handles all that is there now, also what that leads to; says how many events it was."""
        total = 0
        while True:
            handled = sum([await self.advance(station) for station in self.stations])
            if not handled:
                return total
            total += handled

    async def _serve(self, station: Station) -> None:
        await self._open(station)
        while not self._stop.is_set():
            try:
                handled = await self.advance(station)
            except (OSError, OperationalError) as error:  # The store is away; it comes back.
                log.warning("station.store_lost", station=station.name, cause=str(error)[:200])
                handled = 0
            if not handled:
                try:
                    await asyncio.wait_for(self._stop.wait(), self._tick)
                except TimeoutError:
                    continue

    async def _open(self, station: Station) -> None:
        async with self._sessions.begin(EVERY_COMPANY) as session:
            await insert_new(session, Cursor, [{"station": station.name}], unless=["station"])

    async def advance(self, station: Station) -> int:
        """Handles the next events of one station; says how many it looked at."""
        async with self._sessions.read(EVERY_COMPANY) as session:
            here = await session.get(Cursor, station.name)
            if here is not None:
                found = await _after(session, self._sessions.dialect, (here.tx, here.seq))
        if here is None:
            await self._open(station)
            return await self.advance(station)
        wanted = await self._sifted(
            station, [seq for _, seq, kind in found if kind in station.kinds]
        )
        place = (here.tx, here.seq)
        handled = 0
        for tx, seq, _ in found:
            if seq not in wanted:
                continue
            if self._stop.is_set() or not await self._handle(station, place, (tx, seq)):
                return handled
            place = (tx, seq)
            handled += 1
        passed = len(found) - next(
            (i + 1 for i in reversed(range(len(found))) if found[i].seq in wanted), 0
        )
        if passed >= STRIDE // 2:  # Others' events, so that they are not read again and again.
            with suppress(LostError):
                async with self._sessions.begin(EVERY_COMPANY) as session:
                    await _move(session, station.name, place, (found[-1].tx, found[-1].seq))
            return passed
        return handled

    async def _sifted(self, station: Station, seqs: Sequence[int]) -> Collection[int]:
        if station.sift is None or not seqs:
            return frozenset(seqs)
        try:
            async with self._sessions.read(EVERY_COMPANY) as session:
                return frozenset(await station.sift(session, seqs))
        except (OSError, OperationalError):
            raise
        except Exception:  # One by one, those that are at fault are held with their cause.
            log.exception("station.not_sifted", station=station.name)
            return frozenset(seqs)

    async def _handle(
        self, station: Station, place: tuple[int, int], event_place: tuple[int, int]
    ) -> bool:
        for wait in (*PATIENCE, None):
            try:
                await self._prepare(station, event_place[1])
                async with self._sessions.begin(EVERY_COMPANY) as session:
                    await _move(session, station.name, place, event_place)
                    await _call(session, station, event_place[1])
                return True
            except LostError:
                return False
            except TemporaryError as error:
                if wait is None:
                    await self._hold(station, place, event_place, error)
                    return True
                await asyncio.sleep(wait)
            except OperationalError:
                raise  # Not the event's fault.
            except Exception as error:
                await self._hold(station, place, event_place, error)
                return True
        return True

    async def _prepare(self, station: Station, seq: int) -> None:
        if station.prepare is None:
            return
        async with self._sessions.read(EVERY_COMPANY) as session:
            event = (await session.scalars(select(Event).where(Event.seq == seq))).one()
        await station.prepare(event)

    async def _hold(
        self,
        station: Station,
        place: tuple[int, int],
        event_place: tuple[int, int],
        error: Exception,
    ) -> None:
        cause = "".join(traceback.format_exception(error, limit=-6))[-4000:]
        log.error("event.held", station=station.name, seq=event_place[1], cause=repr(error)[:300])
        async with self._sessions.begin(EVERY_COMPANY) as session:
            try:
                await _move(session, station.name, place, event_place)
            except LostError:
                return
            event = (await session.scalars(select(Event).where(Event.seq == event_place[1]))).one()
            row = {
                "company_id": event.company_id,
                "station": station.name,
                "event_seq": event.seq,
                "cause": cause,
                "held_at": datetime.now(UTC),
            }
            await insert_new(session, Hold, [row], unless=["station", "event_seq"])

    async def retry(self, hold: Hold) -> bool:
        """Tries a held event again; the hold ends in the transaction of the effect."""
        station = next((s for s in self.stations if s.name == hold.station), None)
        if station is None:
            raise ValueError(f"no station is called {hold.station}")
        try:
            await self._prepare(station, hold.event_seq)
            async with self._sessions.begin(EVERY_COMPANY) as session:
                taken = await session.execute(
                    update(Hold)
                    .where(Hold.id == hold.id, Hold.released_at.is_(None))
                    .values(released_at=datetime.now(UTC))
                )
                if getattr(taken, "rowcount", 0):
                    await _call(session, station, hold.event_seq)
            return True
        except Exception as error:
            cause = "".join(traceback.format_exception(error, limit=-6))[-4000:]
            async with self._sessions.begin(EVERY_COMPANY) as session:
                again = update(Hold).where(Hold.id == hold.id)
                await session.execute(again.values(tries=Hold.tries + 1, cause=cause))
            return False


async def _after(
    session: AsyncSession, dialect: str, place: tuple[int, int]
) -> Sequence[Row[int, int, str]]:
    """The next rows of the stream; on PostgreSQL only those that none can slip in before."""
    query = select(Event.tx, Event.seq, Event.kind).limit(STRIDE)
    if dialect == "sqlite":  # One writer: numbers appear in order.
        query = query.where(Event.seq > place[1]).order_by(Event.seq)
    else:
        oldest = func.pg_snapshot_xmin(func.pg_current_snapshot())
        query = query.where(
            tuple_(Event.tx, Event.seq) > tuple_(*place),
            Event.tx < cast(cast(oldest, Text), BigInteger),
        ).order_by(Event.tx, Event.seq)
    return (await session.execute(query)).all()


async def _move(
    session: AsyncSession, station: str, old: tuple[int, int], new: tuple[int, int]
) -> None:
    moved = await session.execute(
        update(Cursor)
        .where(Cursor.station == station, Cursor.tx == old[0], Cursor.seq == old[1])
        .values(tx=new[0], seq=new[1], moved_at=datetime.now(UTC))
    )
    if not getattr(moved, "rowcount", 0):
        raise LostError


async def _call(session: AsyncSession, station: Station, seq: int) -> None:
    event = (await session.scalars(select(Event).where(Event.seq == seq))).one()
    session.expunge(event)
    narrow(session, event.company_id)
    await station.handle(session, event)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a station stands: its last move, how many events lie before it, how many on hold."""

    station: str
    seq: int
    moved_at: datetime | None
    behind: int
    held: int


async def standings(session: AsyncSession, stations: Sequence[Station]) -> list[Standing]:
    """Every station's place; needs a session for every company."""
    found = []
    for station in stations:
        cursor = await session.get(Cursor, station.name)
        seq = cursor.seq if cursor else 0
        tx = cursor.tx if cursor else 0
        kinds = [str(kind) for kind in station.kinds]
        later = tuple_(Event.tx, Event.seq) > tuple_(tx, seq)
        behind = select(func.count(Event.seq)).where(later, Event.kind.in_(kinds))
        held = select(func.count(Hold.id)).where(
            Hold.station == station.name, Hold.released_at.is_(None)
        )
        found.append(
            Standing(
                station.name,
                seq,
                cursor.moved_at if cursor else None,
                await session.scalar(behind) or 0,
                await session.scalar(held) or 0,
            )
        )
    return found

"""From the spool into the tables: what a message that was taken leads to, in bulk and once.

A door answers 250 when the record is on disk. The sorter follows each segment in order and writes
what its records lead to: arrivals for `inbound`, send orders with contacts and deliveries. The
rows and the mark that says how far the segment is sorted are one transaction, so that a crash
sorts nothing twice and leaves nothing out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from mta import metrics
from mta.spool import Kept, Spool
from storage.aside import Aside
from storage.bulk import change_many
from storage.sessions import EVERY_COMPANY, Sessions, insert_new
from storage.tables import SpoolMark

log = structlog.get_logger()

_SECONDS = metrics.sort_seconds()
_RECORDS = metrics.sort_records()

BATCH = 250
"""Records in one transaction."""

MAX_BACKLOG = 20_000
MAX_BACKLOG_BYTES = 256 << 20
"""What may wait to be sorted before the doors say 451."""

GATHER = 8
GATHER_SECONDS = 0.04
"""After so many records in one transaction, more are let gather: it costs as much for one as for
a hundred."""

ROOM_SECONDS = 0.5
"""How long records wait for the relay to have room, so that they need not go through the queue."""

AWAY_SECONDS = 1.0
"""Between tries while the store is away."""

ORPHANS_SECONDS = 60.0
"""How often segments that nobody writes to any more are looked for."""

Sort = Callable[[AsyncSession, Sequence[Kept]], Awaitable[Callable[[], None]]]
"""Writes what records lead to; returns what to do once that is committed."""

SetAside = Callable[[AsyncSession, Kept, str], Awaitable[None]]
"""Writes that a record can't be sorted, and why."""


class TakenError(Exception):
    """Another process has sorted this segment further."""


class _Book:
    """Writes batches of one segment after the other, each with its mark."""

    def __init__(
        self, aside: Aside, sort: Sort, set_aside: SetAside, marks: dict[str, int]
    ) -> None:
        self._aside = aside
        self._sort = sort
        self._set_aside = set_aside
        self._marks = marks

    async def enter(self, batch: Sequence[Kept]) -> int:
        """How many of the first records are in the tables now; 0 if the store is away.

        Raises `TakenError` if somebody else sorts this segment.
        """
        try:
            await self._write(batch, self._sort)
        except TakenError:
            raise
        except Exception as error:
            if _is_away(error):
                log.error("sorter.store_lost", cause=str(error)[:200])
                await asyncio.sleep(AWAY_SECONDS)
                return 0
            if len(batch) > 1:  # One that can't be sorted must not keep the others.
                return await self.enter(batch[:1])
            log.exception("sorter.set_aside", place=batch[0].place)
            await self._refuse(batch[0], repr(error)[:500])
            return 1
        return len(batch)

    async def _refuse(self, record: Kept, cause: str) -> None:
        async def set_aside(session: AsyncSession, batch: Sequence[Kept]) -> Callable[[], None]:
            await self._set_aside(session, record, cause)
            return lambda: None

        await self._write([record], set_aside)

    async def _write(self, batch: Sequence[Kept], sort: Sort) -> None:
        segment, end = batch[0].segment, batch[-1].end

        async def write(sessions: Sessions) -> Callable[[], None]:
            async with sessions.begin(EVERY_COMPANY) as session:
                await self._move_mark(session, segment, end)
                return await sort(session, batch)

        after = await self._aside.run(write)
        self._marks = {segment: end}
        after()

    async def _move_mark(self, session: AsyncSession, segment: str, end: int) -> None:
        """Compare and set."""
        before = self._marks.get(segment)
        if before is None:
            row = {"segment": segment, "sorted_to": end}
            if not await insert_new(session, SpoolMark, [row], unless=["segment"]):
                raise TakenError(segment)
            return
        moved = await change_many(
            session,
            SpoolMark,
            set_=("sorted_to",),
            where=("segment", "sorted_to"),
            rows=[(end, segment, before)],
        )
        if not moved:
            raise TakenError(segment)


class Sorter:
    """Sorts the records of this process as they come, and those of processes that died."""

    def __init__(
        self,
        sessions: Sessions,
        spool: Spool,
        sort: Sort,
        set_aside: SetAside,
        has_room: Callable[[float], Awaitable[None]],
        aside: Aside,
    ) -> None:
        """`has_room` waits up to so many seconds until what is sorted can be sent at once."""
        self._has_room = has_room
        self._sessions = sessions
        self._spool = spool
        self._sort = sort
        self._set_aside = set_aside
        self._aside = aside
        self._book = _Book(aside, sort, set_aside, {})
        self._waiting: deque[Kept] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        spool.sink = self.feed

    @property
    def full(self) -> bool:
        """Whether the doors should take nothing more for now."""
        return len(self._waiting) >= MAX_BACKLOG or self._bytes >= MAX_BACKLOG_BYTES

    def feed(self, kept: Sequence[Kept]) -> None:
        """Takes records in the order in which they stand in their segment."""
        self._waiting.extend(kept)
        self._bytes += sum(len(record.data) for record in kept)
        self._idle.clear()
        self._more.set()

    async def settle(self) -> None:
        """Waits until nothing waits to be sorted; something has to run `run`."""
        await self._idle.wait()

    def stop(self) -> None:
        """`run` ends after what waits is sorted."""
        self._stopping = True
        self._more.set()

    async def run(self) -> None:
        """Sorts until `stop`, and meanwhile what processes that are gone have left behind."""
        adopting = asyncio.create_task(self._adopt())
        try:
            while True:
                while self._waiting:
                    if not self._stopping:
                        await self._has_room(ROOM_SECONDS)
                    done = await self._next()
                    if done >= GATHER and not self._stopping and len(self._waiting) < BATCH:
                        await asyncio.sleep(GATHER_SECONDS)
                self._idle.set()
                if self._stopping:
                    return
                self._more.clear()
                await self._more.wait()
        finally:
            adopting.cancel()

    async def _next(self) -> int:
        """Sorts the first records; they leave the line only when they are in the tables."""
        segment = self._waiting[0].segment
        batch = [
            record for record in itertools.islice(self._waiting, BATCH) if record.segment == segment
        ]
        started = time.perf_counter()
        try:
            done = await self._book.enter(batch)
        except TakenError:  # Nobody else sorts a segment that is open, so this can't be undone.
            log.critical("sorter.taken", segment=segment, records=len(batch))
            raise
        if done:
            _SECONDS.observe(time.perf_counter() - started)
            _RECORDS.observe(done)
        for _ in range(done):
            self._bytes -= len(self._waiting.popleft().data)
        return done

    async def _adopt(self) -> None:
        while True:
            try:
                await self.recover()
            except (OSError, DBAPIError) as error:
                log.error("sorter.recovery_failed", cause=str(error)[:200])
            await asyncio.sleep(ORPHANS_SECONDS)

    async def recover(self) -> int:
        """Sorts the records that abandoned segments still hold; says how many there were."""
        total = 0
        async with self._sessions.read(EVERY_COMPANY) as session:
            rows = await session.execute(select(SpoolMark.segment, SpoolMark.sorted_to))
            marks = {row.segment: row.sorted_to for row in rows}
        for path in self._spool.segments():
            mark = marks.get(path.name)
            if mark is not None and mark >= path.stat().st_size:
                continue
            with self._spool.abandoned(path) as free:
                if free:
                    with contextlib.suppress(TakenError):  # Done since we looked.
                        total += await self._recover(path, mark)
        if total:
            log.warning("sorter.recovered", records=total)
        return total

    async def _recover(self, path: Path, mark: int | None) -> int:
        book = _Book(
            self._aside,
            self._sort,
            self._set_aside,
            {} if mark is None else {path.name: mark},
        )
        records = self._spool.records
        noted = deque(
            await asyncio.to_thread(lambda: [r for r in records(path, start=mark or 0) if r.note])
        )
        total = len(noted)
        while noted:
            for _ in range(await book.enter(list(itertools.islice(noted, BATCH)))):
                noted.popleft()
        await self._finish(path.name, path.stat().st_size)
        return total

    async def _finish(self, segment: str, size: int) -> None:
        """The segment is sorted to its end, a torn record there included."""
        async with self._sessions.begin(EVERY_COMPANY) as session:
            row = {"segment": segment, "sorted_to": size}
            if not await insert_new(session, SpoolMark, [row], unless=["segment"]):
                await session.execute(
                    update(SpoolMark)
                    .where(SpoolMark.segment == segment, SpoolMark.sorted_to < size)
                    .values(sorted_to=size)
                )


def _is_away(error: Exception) -> bool:
    """Whether the store is gone for now, as opposed to refusing what it was given."""
    return isinstance(error, OSError | OperationalError | InterfaceError)

"""Writes of many tasks in one transaction: whoever waits shares the next commit.

A commit costs a sync of the disk. Results of deliveries and arrivals of mail come from many tasks
at once, so each hands in what it wants written and is answered after the commit. If one of a batch
fails, each is tried by itself, so that none fails for another's sake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from storage.sessions import EVERY_COMPANY, Sessions

T = TypeVar("T")
Write = Callable[[AsyncSession], Awaitable[Any]]

BATCH = 100


class Ledger:
    """Group commit for one process. A write narrows its session to its company first."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._waiting: list[tuple[Write, asyncio.Future[Any]]] = []
        self._working: asyncio.Task[None] | None = None

    async def enter(self, write: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Runs `write` in a transaction with others' and returns what it said, once committed.

        It goes on even if the caller is cancelled: what was promised to be written is written.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await asyncio.shield(done)

    async def close(self) -> None:
        """Waits for what was handed in."""
        if self._working is not None:
            await self._working

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                results = await self._commit([write for write, _ in batch])
            except Exception as error:
                if len(batch) == 1:
                    _settle(batch[0][1], error=error)
                    continue
                for write, done in batch:
                    try:
                        (result,) = await self._commit([write])
                    except Exception as own:
                        _settle(done, error=own)
                    else:
                        _settle(done, result)
                continue
            for (_, done), result in zip(batch, results, strict=True):
                _settle(done, result)

    async def _commit(self, writes: list[Write]) -> list[Any]:
        async with self._sessions.begin(EVERY_COMPANY) as session:
            results = []
            for write in writes:
                results.append(await write(session))
                await session.flush()
            return results


def _settle(done: asyncio.Future[Any], result: Any = None, error: Exception | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
        done.exception()  # Read once, so that nobody is told twice if the caller is gone.

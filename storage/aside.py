"""Transactions that run beside the main loop, in a thread with a loop of its own.

A transaction waits for the database a dozen times, and in a busy loop each time also for all that
came meanwhile, with the one write lock in its hands. Beside it, it is through in a tenth of that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import Engine

from storage.engine import make_engine
from storage.sessions import Sessions

T = TypeVar("T")

JOIN_SECONDS = 10.0


class Aside:
    """A thread with its own connections to the same store."""

    def __init__(
        self, sessions: Sessions, opened: Callable[[Engine], None] = lambda engine: None
    ) -> None:
        """`sessions` says which store; its own connections are not used.

        `opened` is told of the engine that is used instead.
        """
        self._opened = opened
        self._url = sessions.engine.url.render_as_string(hide_password=False)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._sessions: Sessions | None = None

    async def run(self, work: Callable[[Sessions], Awaitable[T]]) -> T:
        """Does the work over there and returns what it said.

        It goes on to its end even if the caller is cancelled. What it touches beside the store has
        to bear that the main loop runs at the same time.
        """
        loop = self._loop or self._start()

        async def whole() -> T:
            if self._sessions is None:
                engine = make_engine(self._url, pool=2)
                self._opened(engine.sync_engine)
                self._sessions = Sessions(engine)
            return await work(self._sessions)

        done = asyncio.run_coroutine_threadsafe(whole(), loop)
        return await asyncio.shield(asyncio.wrap_future(done))

    async def close(self) -> None:
        """Ends the thread after what it has begun."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=JOIN_SECONDS)
            if self._sessions is not None:
                await self._sessions.close()
                self._sessions = None

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(end(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(self._thread.join, JOIN_SECONDS)
        if not self._thread.is_alive():
            loop.close()

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="store", daemon=True)
        self._thread.start()
        self._loop = loop
        return loop

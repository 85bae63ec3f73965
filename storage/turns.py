"""Takes turns at writing to SQLite, which has one writer at a time.

Left to itself SQLite sleeps between tries, for up to a tenth of a second, while the file may long
be free: with a handful of writers most of the time is slept away. Here whoever wants to write waits
in line: tasks of one process in the order they came, processes by a lock on a file, looked at every
other millisecond. A process that dies loses its lock; SQLite's own lock still guards the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from weakref import WeakKeyDictionary

LOOK_SECONDS = 0.002
PATIENCE_SECONDS = 20.0
"""After this somebody is stuck: go on, and let SQLite say what is wrong."""


class Turns:
    """The line for one database file; without a file everybody goes at once."""

    def __init__(self, database: str | None) -> None:
        name = f"{database}-turn" if database and database != ":memory:" else ""
        self._path = Path(name) if name else None
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )
        self._ours: ContextVar[bool] = ContextVar("writing", default=False)
        self._file = -1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One's turn to write."""
        if self._path is None:
            yield
            return
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = asyncio.Lock()
        if self._ours.get():  # Within a turn of its own: it would wait for itself.
            yield
            return
        mark = self._ours.set(True)
        try:
            async with line:
                held = await self._take(self._path)
                try:
                    yield
                finally:
                    if held:
                        with contextlib.suppress(OSError):
                            fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            with contextlib.suppress(ValueError):  # Closed from another context: it has ended.
                self._ours.reset(mark)

    async def _take(self, path: Path) -> bool:
        if self._file < 0:
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                return False  # A folder that can't be written to: SQLite will say so.
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return True
        return False

    def close(self) -> None:
        """Lets the file go."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1

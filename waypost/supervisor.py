"""Keeps the processes of all roles running on one machine.

A process that dies is started again, at once the first time and then with growing pauses if it
keeps dying. It keeps its name, by which it takes back what it had claimed. When this process ends,
however it ends, the kernel ends its children (Linux `PR_SET_PDEATHSIG`).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1
STEADY_SECONDS = 20
LONGEST_PAUSE_SECONDS = 30
STOP_SECONDS = 15


def die_with_parent() -> None:
    """Asks the kernel to end this process when its parent ends; children call it first."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:  # The parent was quicker.
            raise SystemExit(0)


@dataclass
class Child:
    """One role's process and how often it died."""

    name: str
    arguments: Sequence[str]
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0
    started: float = field(default_factory=time.monotonic)


class Supervisor:
    """Starts `waypost serve --role …` for each role and keeps it going."""

    def __init__(self, config: Path, roles: Sequence[str], log_file: Path | None = None) -> None:
        """`roles` are names such as `mail-1`, `engine`, `web`; output goes to `log_file` if set."""
        self._log_file = log_file
        self.children = [
            Child(
                name,
                (
                    sys.executable,
                    "-m",
                    "waypost",
                    "serve",
                    "--config",
                    str(config),
                    "--role",
                    name.partition("-")[0],
                    "--name",
                    name,
                    "--supervised",
                ),
            )
            for name in roles
        ]
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keeps all children running until `stop` is called, then ends them."""
        await asyncio.gather(*(self._keep(child) for child in self.children))

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    def pids(self) -> Mapping[str, int]:
        """The processes that run now."""
        return {
            child.name: child.process.pid
            for child in self.children
            if child.process is not None and child.process.returncode is None
        }

    async def _keep(self, child: Child) -> None:
        while not self._stopping.is_set():
            child.process = await self._start(child)
            ended = asyncio.create_task(child.process.wait())
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if self._stopping.is_set():
                await _end(child.process)
                await ended
                return
            lived = time.monotonic() - child.started
            child.deaths = 1 if lived > STEADY_SECONDS else child.deaths + 1
            pause = min(LONGEST_PAUSE_SECONDS, 0.0 if child.deaths == 1 else 0.25 * child.deaths)
            log.warning(
                "role.died", role=child.name, code=child.process.returncode, restart_in=pause
            )
            try:
                await asyncio.wait_for(self._stopping.wait(), pause or 0.01)
            except TimeoutError:
                continue

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        child.started = time.monotonic()
        log.info("role.started", role=child.name)
        if self._log_file is None:
            return await asyncio.create_subprocess_exec(*child.arguments)
        with open(self._log_file, "ab") as output:
            return await asyncio.create_subprocess_exec(
                *child.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()

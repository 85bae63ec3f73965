"""Runs the demo: the appliance in its own processes, the world around it in this one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mail.errors import ConfigError
from waypost import roles
from waypost.demo import cast, outcome, stage
from waypost.demo.names import NameServer
from waypost.demo.orders import place_orders
from waypost.demo.post import Ports
from waypost.demo.visitor import approve_in_console
from waypost.demo.world import Person, World
from waypost.own_postgresql import OwnPostgresql
from waypost.supervisor import Supervisor
from waypost.wiring import appliance

CHECK_SPEED = 8_000.0
"""A day of the sequence in 11 seconds: eleven days take two minutes."""
KILLING_SPEED = 7_000.0
"""Slower, because a process that is away for some seconds is away for the better part of a day."""
SHOW_SPEED = 4_000.0
"""A day in 22 seconds: a visitor can watch it happen."""

START_SECONDS = 60
CHECK_SECONDS = 300
"""It takes a quarter of that on a machine that has nothing else to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How the demo is wanted."""

    check: bool
    speed: float | None
    contacts: int
    folder: Path | None
    database: str
    postgresql: bool
    kills: int
    seed: int


async def run(wish: Wish) -> int:
    """Runs the demo until it is stopped, or until everything has come to its end; 0 if all well."""
    async with AsyncExitStack() as things:
        if wish.folder is None:
            folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="waypost-demo-")))
        else:
            folder = wish.folder
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise ConfigError(f"{folder} is not empty. The demo wants a folder of its own.")
        database = wish.database
        if wish.postgresql:
            database = things.enter_context(OwnPostgresql()).url
        play = await _open(wish, folder, database, things)
        if wish.check:
            return await play.to_the_end()
        return await play.show()


async def _open(wish: Wish, folder: Path, database: str, things: AsyncExitStack) -> Play:
    people = cast.recipients(wish.contacts, wish.seed)
    ports = Ports(*stage.free_ports(4))
    names = NameServer({})
    dns_port = await names.start()
    things.callback(names.stop)
    world = World(ports, {})
    world_port = await world.start()
    things.push_async_callback(world.stop)
    config = stage.write_settings(
        folder,
        ports=ports,
        world_port=world_port,
        dns_port=dns_port,
        speed=wish.speed or _speed(wish),
        database=database,
    )
    _say(f"Setting the stage in {folder}: a company, its people, {len(people)} contacts …")
    set_up, zone = await stage.set_up(config, people)
    names.replace(zone)
    world.zone = zone
    everybody = [*people, *cast.friends(people), *cast.reps(set_up.logins), *cast.customers()]
    everybody.append(Person(stage.OWNER, "You", "owner", login=set_up.logins[stage.OWNER]))
    world.people = {person.address: person for person in everybody}
    log_file = folder / "log"
    supervisor = Supervisor(config, roles.role_names(set_up.settings), log_file)
    running = asyncio.create_task(supervisor.run())
    things.push_async_callback(_end, supervisor, running)
    play = Play(wish, set_up, world, supervisor, people)
    await play.wait_until_ready(log_file)
    return play


def _speed(wish: Wish) -> float:
    if not wish.check:
        return SHOW_SPEED
    return KILLING_SPEED if wish.kills else CHECK_SPEED


async def _end(supervisor: Supervisor, running: asyncio.Task[None]) -> None:
    supervisor.stop()
    await running


@dataclass
class Play:
    """The demo while it runs."""

    wish: Wish
    stage: stage.Stage
    world: World
    supervisor: Supervisor
    people: list[Person]
    killed: int = 0

    async def wait_until_ready(self, log_file: Path) -> None:
        """Waits until every door is open. Raises `ConfigError` with the log's end if none opens."""
        deadline = time.monotonic() + START_SECONDS
        ports = self.world.ports
        for port in (ports.mx, ports.submission, ports.public, ports.console):
            while not await _listens(port):
                if time.monotonic() > deadline:
                    tail = log_file.read_text(errors="replace")[-2000:]
                    raise ConfigError("The appliance did not start. Its log ends with:\n" + tail)
                await asyncio.sleep(0.1)

    async def begin(self) -> None:
        """Enrols everybody and places the orders that come by API and by SMTP."""
        enrolled = await stage.enrol_all(self.stage, self.people)
        await place_orders(self.stage, self.world)
        _say(f"{enrolled} people are in the sequence; a week passes every {self._week()}.")

    async def show(self) -> int:
        """Runs until Ctrl-C, with one line that says how it stands."""
        stop = asyncio.Event()
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sign, stop.set)
        _say("\nThe console, signed in as the owner (the link works once):")
        _say(f"  {self.stage.sign_in_url}\n")
        await self.begin()
        _say("Drafts for the questions about the product wait for you. Ctrl-C ends the demo.\n")
        started = time.monotonic()
        async with appliance(self.stage.settings) as parts:
            while not stop.is_set():
                standing = await outcome.standing(parts.sessions, self.stage.company)
                _line(f"{time.monotonic() - started:4.0f} s  {standing}")
                try:
                    await asyncio.wait_for(stop.wait(), 1)
                except TimeoutError:
                    continue
        _say("\nThe demo ends.")
        return 0

    async def to_the_end(self) -> int:
        """Runs until nothing moves any more, compares what happened, prints the table."""
        started = time.monotonic()
        killing = asyncio.create_task(self._kill_now_and_then())
        await self.begin()
        visiting = asyncio.create_task(approve_in_console(self.stage))
        quiet = 0
        async with appliance(self.stage.settings) as parts:
            while time.monotonic() - started < CHECK_SECONDS and quiet < 3:
                standing = await outcome.standing(parts.sessions, self.stage.company)
                _line(f"{time.monotonic() - started:4.0f} s  {standing}")
                at_rest = standing.at_rest and not self.world.busy and killing.done()
                quiet = quiet + 1 if at_rest else 0
                await asyncio.sleep(1)
            visiting.cancel()
            killing.cancel()
            await asyncio.gather(visiting, killing, return_exceptions=True)
            results = await outcome.compare(
                parts.sessions, self.stage, self.world, self.people, kills=self.killed
            )
        _say("")
        return outcome.report(results, seconds=time.monotonic() - started, kills=self.killed)

    async def _kill_now_and_then(self) -> None:
        dice = random.Random(self.wish.seed)
        while self.killed < self.wish.kills:
            await asyncio.sleep(dice.uniform(0.5, 3.0))
            victims = self.supervisor.pids()
            if victims:
                name = dice.choice(sorted(victims))
                os.kill(victims[name], signal.SIGKILL)
                self.killed += 1

    def _week(self) -> str:
        return f"{7 * 86400 / self.stage.settings.engine.speed:.0f} seconds"


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _say(text: str) -> None:
    print(text, flush=True)


def _line(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)
    else:
        print(text, flush=True)

"""What each process does: `mail` takes in and hands over, `engine` thinks, `web` shows.

Heavy packages are imported in the role that needs them.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

import structlog

from bus.stations import Line, Station
from config.settings import Settings
from waypost import housekeeping
from waypost.wiring import Appliance, appliance

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler
    from litestar import Litestar

log = structlog.get_logger()

SWITCH_SECONDS = 0.0005
HOUSEKEEPING_SECONDS = 60
HOURLY_SECONDS = 3600


async def serve_role(settings: Settings, role: str, name: str) -> None:
    """Runs one role until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    run = {"mail": _mail, "engine": _engine, "web": _web}[role]
    async with appliance(settings) as parts:
        _settle_memory()
        log.info("role.ready", role=name)
        async with _measured(parts, name):
            await run(parts, name, stop)
    log.info("role.stopped", role=name)


@asynccontextmanager
async def _measured(parts: Appliance, name: str) -> AsyncIterator[None]:
    """Writes what this process measures, for as long as it runs."""
    if not parts.settings.metrics.on:
        yield
        return
    from mta import exposition, metrics

    metrics.watch_store(parts.sessions.engine.sync_engine)
    folder = exposition.folder_of(parts.settings.host.data)
    writing = asyncio.create_task(exposition.keep_writing(folder, name, metrics.INSTRUMENTS))
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def _settle_memory() -> None:
    """Spares the garbage collector what stays for good, the loaded packages above all.

    By default it walks through all of them again and again under load, for a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # Threads that sign, sync and write hand over often; by default each waits 5 ms for its turn.
    sys.setswitchinterval(SWITCH_SECONDS)


def role_names(settings: Settings) -> list[str]:
    """The processes that one machine runs."""
    mails = [f"mail-{number}" for number in range(1, settings.engine.mail_processes + 1)]
    return [*mails, "engine", "web"]


async def _mail(parts: Appliance, name: str, stop: asyncio.Event) -> None:
    from mta import metrics
    from mta.service import MailService

    service = MailService(
        sessions=parts.sessions,
        settings=parts.settings,
        keys=parts.keys,
        seal=parts.seal,
        spool=parts.spool,
        resolver=parts.resolver,
        clock=parts.clock,
        role=name,
    )
    metrics.watch_ready(service.deliverer.ready, lambda: service.deliverer.in_hand)
    await service.start()
    try:
        await _until(stop, service.run())
    finally:
        await service.stop()


def engine_stations(parts: Appliance) -> list[Station]:
    """All stations, in the order of the journey."""
    import inbound.service
    import leads.service
    import mta.forwarding_station
    import mta.notices_station
    import responder.service
    import sequencer.service
    import tracker.service
    from responder.reading.reader import Reader

    reader = cache(lambda: Reader.load(parts.settings.responder.model))
    return [
        mta.notices_station.station(
            sessions=parts.sessions,
            settings=parts.settings,
            spool=parts.spool,
            clock=parts.clock,
        ),
        *inbound.service.stations(
            sessions=parts.sessions,
            settings=parts.settings,
            keys=parts.keys,
            spool=parts.spool,
            resolver=parts.resolver,
            clock=parts.clock,
        ),
        *mta.forwarding_station.stations(
            sessions=parts.sessions,
            settings=parts.settings,
            keys=parts.keys,
            seal=parts.seal,
            spool=parts.spool,
            resolver=parts.resolver,
            clock=parts.clock,
        ),
        *responder.service.stations(
            reader=reader, keys=parts.keys, clock=parts.clock, settings=parts.settings
        ),
        *sequencer.service.stations(clock=parts.clock, settings=parts.settings),
        *leads.service.stations(clock=parts.clock),
        *tracker.service.stations(clock=parts.clock),
    ]


async def _engine(parts: Appliance, name: str, stop: asyncio.Event) -> None:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    from inbound.mailbox import MailboxFetcher
    from monitor.webhooks.sender import WebhookSender
    from sequencer.service import Ticker

    settings = parts.settings
    tick = settings.engine.tick.total_seconds()
    line = Line(parts.sessions, engine_stations(parts), tick=tick)
    ticker = Ticker(parts.sessions, settings=settings, clock=parts.clock)
    mailboxes = MailboxFetcher(
        sessions=parts.sessions,
        seal=parts.seal,
        keys=parts.keys,
        spool=parts.spool,
        clock=parts.clock,
        poll=settings.engine.mailbox_poll.total_seconds(),
        max_message_bytes=settings.smtp.max_message,
    )
    webhooks = WebhookSender(
        parts.sessions,
        parts.seal,
        settings.webhooks,
        resolver=parts.resolver,
        clock=parts.clock,
        tick=tick,
    )
    scheduler = AsyncIOScheduler(timezone="UTC")
    _housekeeping(scheduler, parts)
    scheduler.start()
    try:
        await _until(stop, line.run(), ticker.run(), mailboxes.run(), webhooks.run())
    finally:
        line.stop()
        scheduler.shutdown(wait=False)


def _housekeeping(scheduler: AsyncIOScheduler, parts: Appliance) -> None:
    every = {"seconds": HOUSEKEEPING_SECONDS, "coalesce": True, "max_instances": 1}
    scheduler.add_job(housekeeping.forget_sessions, "interval", args=[parts], **every)
    scheduler.add_job(housekeeping.sample_queue, "interval", args=[parts], **every)
    night = {"hour": 3, "minute": 10, "jitter": 3000, "coalesce": True, "misfire_grace_time": 7200}
    scheduler.add_job(housekeeping.check_domains, "cron", args=[parts], max_instances=1, **night)
    hourly = {**every, "seconds": HOURLY_SECONDS}
    scheduler.add_job(housekeeping.forget_sent, "interval", args=[parts], **hourly)
    scheduler.add_job(housekeeping.collect_spool, "interval", args=[parts], **hourly)
    scheduler.add_job(housekeeping.forget_batches, "interval", args=[parts], **hourly)
    scheduler.add_job(housekeeping.forget_traces, "interval", args=[parts], **hourly)


async def _web(parts: Appliance, name: str, stop: asyncio.Event) -> None:
    import console.app
    import inbound.hits
    from waypost.web_server import WebServer

    settings = parts.settings
    apps: list[tuple[Litestar, str, int]] = []
    if settings.public.port:
        app = inbound.hits.make_app(
            sessions=parts.sessions, settings=settings, keys=parts.keys, clock=parts.clock
        )
        apps.append((app, settings.public.listen, settings.public.port))
    if settings.console.port:
        app = console.app.make_app(
            sessions=parts.sessions,
            settings=settings,
            keys=parts.keys,
            seal=parts.seal,
            clock=parts.clock,
            resolver=parts.resolver,
        )
        apps.append((app, settings.console.listen, settings.console.port))
    servers = [WebServer(app, listen, port) for app, listen, port in apps]
    serving = [server.serve() for server in servers]
    try:
        await _until(stop, *serving)
    finally:
        for server in servers:
            server.should_exit = True


async def _until(stop: asyncio.Event, *work: Awaitable[None]) -> None:
    """Runs the work until `stop`; if any of it ends with an error, so does this."""
    tasks = [asyncio.ensure_future(part) for part in work]
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in {waiting, *tasks} - done:
        task.cancel()
    await asyncio.gather(waiting, *tasks, return_exceptions=True)
    for task in done - {waiting}:
        task.result()

"""The mail role of one process: doors and deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_network
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from config.settings import Settings
from mail.tokens import TokenKeys
from mta import claims, metrics
from mta.accounts import all_have_verifiers
from mta.allowance import Allowance
from mta.carrier import Carrier
from mta.certificate import server_context
from mta.compose import Composer
from mta.delivery import GRACE_SECONDS, Deliverer
from mta.intake import Directory, Intake
from mta.limiter import GuessLimiter
from mta.listener import MX, SUBMISSION, SUBMISSIONS, Listener
from mta.manner import Manner
from mta.press import Press
from mta.resolver import Resolver
from mta.retry import RetrySchedule
from mta.routes import DirectToMx, Host, Routes, SmartHost
from mta.session import House, Limits
from mta.shaping.files import shaping
from mta.shaping.known import KnownSites
from mta.shaping.shaper import Shaper
from mta.shaping.site import Providers
from mta.shaping.store import SiteStore
from mta.sitemap import MxSites, OneSite
from mta.spool import Spool
from storage.aside import Aside
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions

log = structlog.get_logger()

BACKLOG_SECONDS = 15.0
"""How often companies' backlogs are counted."""


class MailService:
    """Takes mail in and hands it over."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        keys: TokenKeys,
        seal: Seal,
        spool: Spool,
        resolver: Resolver,
        clock: Callable[[], datetime],
        *,
        role: str = "mail-1",
        manner: Manner | None = None,
    ) -> None:
        """`role` names this process the same way each time it is started."""
        self._sessions = sessions
        self._settings = settings
        self._spool = spool
        relay, smtp = settings.relay, settings.smtp
        chosen = manner or Manner(
            settings.host.name,
            tls=relay.tls,
            loopback=relay.loopback,
            concurrency=relay.concurrency,
            window=relay.window,
            per_site=relay.connections_per_site,
        )
        routes = make_routes(settings, resolver)
        measured = (metrics.watch_store,) if settings.metrics.on else ()
        self._aside = Aside(sessions, *measured)
        self.shaper = Shaper(
            shaping(settings.shaping.rules), processes=settings.engine.mail_processes
        )
        known = KnownSites(self.shaper.site_of)
        self._site_store = SiteStore(sessions, role, clock)
        self._ended = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.carrier = Carrier(routes, resolver, chosen, clock, learn=known.learn)
        self.deliverer = Deliverer(
            sessions,
            Press(sessions, seal, spool, Composer(keys, settings.public.url)),
            self.carrier,
            chosen,
            RetrySchedule(relay.first_retry, relay.longest_retry, relay.give_up_after),
            clock,
            sitemap=OneSite(routes.site) if relay.smart_host else MxSites(routes, known),
            shaper=self.shaper,
            aside=self._aside,
            role=role,
            provider_of=Providers(shaping(settings.shaping.rules)).of,
            tick=settings.engine.tick.total_seconds(),
        )
        intake = Intake(
            sessions,
            spool,
            Directory(sessions, keys),
            clock,
            relay=self.deliverer,
            aside=self._aside,
        )
        self._sorter = intake.sorter
        self._gauge = intake.gauge
        self._sorting: asyncio.Task[None] | None = None
        self._house = House(
            host_name=settings.host.name,
            sessions=sessions,
            intake=intake,
            limiter=GuessLimiter(),
            limits=Limits(
                message_bytes=smtp.max_message,
                recipients=smtp.max_recipients,
                idle=smtp.idle.total_seconds(),
                session=smtp.session.total_seconds(),
                greeting=smtp.greeting.total_seconds(),
                connections=smtp.connections,
                per_address=smtp.connections_per_address,
            ),
            tls=server_context(
                settings.host.data / "tls",
                settings.host.name,
                smtp.certificate,
                smtp.private_key,
            ),
            clock=clock,
            allowance=Allowance(hourly=smtp.hourly, daily=smtp.daily),
            proxies=tuple(ip_network(network) for network in smtp.proxies),
            trusted=tuple(
                (ip_network(network), login.strip())
                for network, _, login in (line.partition(" ") for line in smtp.trusted)
            ),
        )
        self.listener = Listener(
            self._house,
            listen=smtp.listen,
            share_ports=settings.engine.mail_processes > 1,
        )

    async def start(self) -> None:
        """Opens the doors that have a port. Raises `ConfigError` if one can't be opened."""
        self._sorting = asyncio.create_task(self._sorter.run())
        self._watching = asyncio.create_task(self._watch_backlogs())
        self._following = asyncio.create_task(
            self._site_store.run(self.shaper, self._ended), name="shaping"
        )
        self._house.offers.scram = await all_have_verifiers(self._sessions)
        smtp = self._settings.smtp
        doors = {
            MX: smtp.mx_port,
            SUBMISSION: smtp.submission_port,
            SUBMISSIONS: smtp.submissions_port,
        }
        await self.listener.start({door: port for door, port in doors.items() if port})

    async def _watch_backlogs(self) -> None:
        """Tells the doors which companies have too much waiting already."""
        most = self._settings.smtp.backlog

        async def count(sessions: Sessions) -> dict[UUID, int]:
            async with sessions.read(EVERY_COMPANY) as session:
                return await claims.backlogs(session, over=most)

        while True:
            try:
                self._gauge.set_backlogs(await self._aside.run(count))
            except (OSError, DBAPIError) as error:
                log.warning("backlogs.not_counted", cause=str(error)[:200])
            await asyncio.sleep(BACKLOG_SECONDS)

    async def run(self) -> None:
        """Delivers until `stop`; ends with an error if what comes can't be sorted any more."""
        assert self._sorting is not None
        await asyncio.gather(asyncio.shield(self._sorting), self.deliverer.run())

    async def stop(self) -> None:
        """Closes the doors, ends the deliveries in hand and writes what is to be written."""
        await self.listener.stop()
        await asyncio.to_thread(self._spool.close)
        self._sorter.stop()
        if self._sorting is not None:
            await asyncio.wait({self._sorting}, timeout=GRACE_SECONDS)
        await self.deliverer.close()
        self._ended.set()
        if self._watching is not None:
            self._watching.cancel()
        if self._following is not None:
            await asyncio.wait({self._following}, timeout=GRACE_SECONDS)
        await self._aside.close()

    def wake(self) -> None:
        """There may be mail to deliver."""
        self.deliverer.wake()


def make_routes(settings: Settings, resolver: Resolver) -> Routes:
    """As the owner chose: one server for everything, or each domain's own."""
    relay = settings.relay
    if relay.smart_host:
        name, _, port = relay.smart_host.rpartition(":")
        return SmartHost(Host(name, int(port)))
    return DirectToMx(resolver, port=relay.port)

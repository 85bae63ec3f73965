"""The mail role of one process: doors and deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from config.settings import Settings
from mail.tokens import TokenKeys
from mta.certificate import server_context
from mta.compose import Composer
from mta.delivery import Deliverer, Manner, Press
from mta.intake import Directory, Intake
from mta.ledger import Ledger
from mta.limiter import GuessLimiter
from mta.listener import MX, SUBMISSION, SUBMISSIONS, Listener
from mta.resolver import Resolver
from mta.retry import RetrySchedule
from mta.routes import DirectToMx, Host, Routes, SmartHost
from mta.session import House, Limits
from mta.spool import Spool
from storage.sealing import Seal
from storage.sessions import Sessions


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
        self._ledger = Ledger(sessions)
        relay, smtp = settings.relay, settings.smtp
        self.deliverer = Deliverer(
            sessions,
            self._ledger,
            Press(sessions, seal, spool),
            Composer(keys, settings.public.url),
            make_routes(settings, resolver),
            resolver,
            manner
            or Manner(
                settings.host.name,
                tls=relay.tls,
                loopback=relay.loopback,
                concurrency=relay.concurrency,
                per_site=relay.connections_per_site,
            ),
            RetrySchedule(relay.first_retry, relay.longest_retry, relay.give_up_after),
            clock,
            role=role,
            tick=settings.engine.tick.total_seconds(),
        )
        intake = Intake(
            sessions,
            self._ledger,
            spool,
            Directory(sessions, keys),
            clock,
            wake=self.deliverer.wake,
        )
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
            ),
            tls=server_context(
                settings.host.data / "tls",
                settings.host.name,
                smtp.certificate,
                smtp.private_key,
            ),
            clock=clock,
        )
        self.listener = Listener(
            self._house,
            listen=smtp.listen,
            share_ports=settings.engine.mail_processes > 1,
        )

    async def start(self) -> None:
        """Opens the doors that have a port. Raises `ConfigError` if one can't be opened."""
        smtp = self._settings.smtp
        doors = {
            MX: smtp.mx_port,
            SUBMISSION: smtp.submission_port,
            SUBMISSIONS: smtp.submissions_port,
        }
        await self.listener.start({door: port for door, port in doors.items() if port})

    async def run(self) -> None:
        """Delivers until `stop`."""
        await self.deliverer.run()

    async def stop(self) -> None:
        """Closes the doors, ends the deliveries in hand and writes what is to be written."""
        await self.listener.stop()
        await self.deliverer.close()
        await self._ledger.close()
        await asyncio.to_thread(self._spool.close)

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

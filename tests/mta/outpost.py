"""A running mail service on the loopback whose every destination is one stranger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.settings import Settings
from mail.tokens import TokenKeys
from mta.resolver import Resolver
from mta.service import MailService
from mta.spool import Spool
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.mta.strangers import Sink, free_port
from tests.peers.dns_server import DnsServer


def now() -> datetime:
    """The clock of these tests."""
    return datetime.now(UTC)


class Outpost:
    """The service, its stranger, its spool and the names it asks."""

    def __init__(
        self,
        service: MailService,
        sink: Sink,
        spool: Spool,
        settings: Settings,
        resolver: Resolver,
        dns: DnsServer,
    ) -> None:
        self.service, self.sink, self.spool, self.settings = service, sink, spool, settings
        self.resolver, self.dns = resolver, dns
        self.ports = service.listener.ports


@asynccontextmanager
async def outpost(
    store: Sessions,
    keys: TokenKeys,
    seal: Seal,
    folder: Path,
    *domains: str,
    sink: Sink | None = None,
    **relay: Any,
) -> AsyncIterator[Outpost]:
    """Runs a service; mail for each of `domains` goes to `sink`."""
    sink = sink or Sink()
    zone: dict[str, dict[str, list[str]]] = {}
    for domain in domains:
        zone[domain] = {"MX": [f"10 mx.{domain}"]}
        zone[f"mx.{domain}"] = {"A": ["127.0.0.1"]}
    async with sink, DnsServer(zone) as dns:
        settings = Settings.model_validate(
            {
                "host": {"name": "mail.acme.test", "data": folder},
                "smtp": {
                    "listen": "127.0.0.1",
                    "mx_port": free_port(),
                    "submission_port": free_port(),
                    "submissions_port": free_port(),
                },
                "relay": {"port": sink.port, "loopback": True, "first_retry": "1s", **relay},
                "public": {"url": "https://links.acme.test"},
                "engine": {"tick": "1s"},
            }
        )
        spool = Spool(folder / "spool")
        resolver = Resolver([dns.address], timeout_seconds=2)
        service = MailService(store, settings, keys, seal, spool, resolver, now)
        await service.start()
        running = asyncio.create_task(service.run())
        try:
            yield Outpost(service, sink, spool, settings, resolver, dns)
        finally:
            await service.stop()
            await running


async def until(condition: Callable[[], Any], seconds: float = 8.0) -> None:
    """Waits for something to come true, which has to happen in time."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)

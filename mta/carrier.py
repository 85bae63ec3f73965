"""Takes one message to one site: over a kept connection, or a new one to a host that answers.

What came of it is an `Outcome`; only a mistake of ours raises.
"""

from __future__ import annotations

import itertools
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from mail.errors import TemporaryError
from mta import metrics
from mta.client import Connection, Extensions, LostError, TlsFailedError, Transcript
from mta.manner import Manner
from mta.outcome import Outcome, Trial
from mta.overrides import Overrides
from mta.press import Made
from mta.resolver import Resolver
from mta.routes import Host, Refused, Routes, is_public
from mta.sites import Site

log = structlog.get_logger()

PER_CONNECTION = 100
"""Messages on one connection; some servers count more as abuse."""

IDLE_SECONDS = 5.0
"""An idle connection is closed after this."""

MAX_ADDRESSES = 8
"""Addresses tried in one attempt, over all hosts."""


BROKEN_TLS_SECONDS = 4 * 3600.0
"""So long a host whose TLS does not work is spoken to without (RFC 7435)."""

MAX_BROKEN = 10_000

LOOP = Refused("5.4.6", "the domain's mail servers are this host, which has no such domain")


class Carrier:
    """Talks to other servers; keeps connections that may be used again with their sites."""

    def __init__(
        self,
        routes: Routes,
        resolver: Resolver,
        manner: Manner,
        clock: Callable[[], datetime],
        *,
        learn: Callable[[str, Sequence[str]], object] = lambda domain, hosts: None,
    ) -> None:
        """`learn` is told the mail servers of each domain that mail goes to."""
        self._learn = learn
        self.overrides = Overrides(clock)
        self._routes = routes
        self._resolver = resolver
        self._manner = manner
        self._clock = clock
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False  # RFC 7435: encrypted to anybody beats in the clear.
        self._tls.verify_mode = ssl.CERT_NONE
        self._verified = ssl.create_default_context()
        self._broken_tls: OrderedDict[str, float] = OrderedDict()
        self.closing = False

    def trust(self, authorities: str) -> None:
        """Takes certificates signed by these too (PEM), where they have to be proven."""
        self._verified.load_verify_locations(cadata=authorities)

    async def carry(
        self, made: Made, site: Site, trial: Trial, transcript: Transcript | None = None
    ) -> Outcome:
        """Hands the message over, or says why not.

        `transcript` is told what is said, over a connection that serves this message only.
        """
        claim = made.claim
        strict = bool((claim.message.parsed.get("envelope") or {}).get("require_tls"))
        instead = self.overrides.of(claim.destination, claim.company_id)
        hosts = [instead] if instead else await self._routes.to(claim.destination)
        if isinstance(hosts, Refused):
            return trial.after_refusal(hosts)
        names = [host.name for host in hosts]
        if instead is None:
            self._learn(claim.destination, names)
            if self._manner.host_name in names:
                return trial.after_refusal(LOOP)
        alone = strict or transcript is not None
        kept = None if alone else self._take_idle(site, instead, names)
        if kept is not None:
            try:
                return await self._say(kept, made, site, trial)
            except LostError as error:  # It had hung up while nobody spoke: nothing was said.
                if error.after_data:
                    return self._lost(kept, trial, error)
        cause = "no mail server has an address"
        for host, address in await self._addresses(hosts):
            if not (self._manner.loopback or instead or is_public(address)):
                cause = f"{host.name} points to {address}, which is not on the Internet"
                continue
            try:
                connection = await self._connect(host, address, transcript, strict=strict)
            except LostError as error:
                cause = f"{host.name}: {error}"
                _tell(transcript, f"no connection: {error}")
                continue
            connection.instead = instead
            try:
                return await self._say(connection, made, None if alone else site, trial, strict)
            except LostError as error:
                _tell(transcript, f"the connection broke off: {error}")
                if error.after_data:
                    return self._lost(connection, trial, error)
                cause = f"{host.name}: {error}"
        return trial.after_loss(cause, after_data=False, now=self._clock())

    async def tidy(self, site: Site) -> None:
        """Closes connections that nobody needed for a while; all of them when we close."""
        now = time.monotonic()
        over = [e for e in site.idle if self.closing or now - e[0] >= IDLE_SECONDS]
        for entry in over:
            site.idle.remove(entry)
        for _, connection in over:
            await connection.close()

    def _take_idle(
        self, site: Site, instead: Host | None, hosts: Sequence[str]
    ) -> Connection | None:
        """One to these hosts: a site may be a provider with others for other domains.

        Where people sent a domain's mail elsewhere (`instead`), its connections are kept apart.
        """
        for place in range(len(site.idle) - 1, -1, -1):
            since, connection = site.idle[place]
            if connection.instead != instead or connection.host not in hosts:
                continue
            del site.idle[place]
            if time.monotonic() - since < IDLE_SECONDS and connection.usable:
                return connection
            connection.abort()
        return None

    async def _say(
        self,
        connection: Connection,
        made: Made,
        site: Site | None,
        trial: Trial,
        strict: bool = False,
    ) -> Outcome:
        """Without a `site` the connection is not kept. `strict`: its TLS was proven."""
        needs = Extensions(not made.content.isascii(), strict, strict)
        try:
            handover = await connection.send(
                made.return_path, _ascii_domain(made.claim.recipient), made.content, needs
            )
        except BaseException:
            await connection.close()
            raise
        full = connection.broken or connection.sent >= PER_CONNECTION
        if site is None or full or self.closing:
            await connection.close()
        else:
            site.idle.append((time.monotonic(), connection))
        outcome = trial.after(handover, now=self._clock())
        return replace(outcome, host=connection.host, tls=connection.tls)

    def _lost(self, connection: Connection, trial: Trial, error: LostError) -> Outcome:
        lost = trial.after_loss(str(error), after_data=True, now=self._clock())
        return replace(lost, host=connection.host, tls=connection.tls)

    async def _addresses(self, hosts: Sequence[Host]) -> list[tuple[Host, str]]:
        """One address of each host before the second of any, so that none hides the others."""
        by_host: list[list[tuple[Host, str]]] = []
        failed: TemporaryError | None = None
        for host in hosts:
            try:
                by_host.append([(host, a) for a in await self._resolver.addresses(host.name)])
            except TemporaryError as error:
                failed = error
        rounds = itertools.zip_longest(*by_host)
        found = [one for turn in rounds for one in turn if one is not None]
        if not found and failed is not None:
            raise failed
        return found[:MAX_ADDRESSES]

    async def _connect(
        self,
        host: Host,
        address: str,
        transcript: Transcript | None = None,
        *,
        strict: bool = False,
    ) -> Connection:
        """A connection that has said EHLO, with TLS as far as it goes.

        `strict`: with TLS and a certificate that proves the host's name, or none at all.
        """
        tls = "required" if strict else self._manner.tls
        if tls == "opportunistic" and self._broken_tls.get(host.name, 0.0) > time.monotonic():
            tls = "never"  # It was broken a while ago; that costs a connection each time.
        for attempt_tls in (True, False) if tls == "opportunistic" else (tls == "required",):
            _tell(transcript, f"connecting to {host.name} [{address}], port {host.port}")
            connection = await Connection.open(
                address,
                host.port,
                host=host.name,
                patience=self._manner.patience,
                transcript=transcript,
            )
            try:
                refusal = await connection.greet(self._manner.host_name)
                if refusal is not None:
                    raise LostError(str(refusal))
                if attempt_tls and "STARTTLS" in connection.offers:
                    context = self._verified if strict else self._tls
                    await connection.start_tls(context, self._manner.host_name)
                elif tls == "required":
                    whose = "the message (REQUIRETLS)" if strict else "the settings"
                    raise LostError(f"offers no TLS, which {whose} asks for")
            except TlsFailedError as error:
                await connection.close()
                if tls == "required":
                    raise LostError(f"TLS: {error}") from None
                log.info("delivery.tls_failed", host=host.name, cause=str(error))
                self._remember_broken(host.name)
                _tell(transcript, f"TLS failed: {error}")
                continue
            except BaseException:
                await connection.close()
                raise
            metrics.tls("out", connection.tls).inc()
            _tell(transcript, connection.tls or "no TLS")
            return connection
        raise LostError("no connection")

    def _remember_broken(self, host: str) -> None:
        self._broken_tls[host] = time.monotonic() + BROKEN_TLS_SECONDS
        if len(self._broken_tls) > MAX_BROKEN:
            self._broken_tls.popitem(last=False)


def _tell(transcript: Transcript | None, note: str) -> None:
    if transcript is not None:
        transcript("note", note)


def _ascii_domain(address: str) -> str:
    if address.isascii():
        return address
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain if domain.isascii() else domain.encode('idna').decode('ascii')}"

"""Hands mail over: claims what is due, composes and signs it, talks to the other server, records.

No transaction is open while we talk to strangers. An error that nobody expected sets one delivery
aside with its cause; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7
from mail.tokens import Token, TokenKind
from mta import queue
from mta.client import Connection, LostError, Patience, TlsFailedError
from mta.compose import Composer, GenericMessage, Letter
from mta.ledger import Ledger
from mta.mime import take_apart
from mta.outcome import Outcome, Trial
from mta.queue import LEASE, Claim
from mta.ready_made import ReadyMade, ready_made
from mta.resolver import Resolver
from mta.retry import RetrySchedule, State
from mta.routes import Host, Refused, Routes, is_public
from mta.signing import DkimSigner, Signer, load_key
from mta.spool import Spool
from mta.template import CompiledTemplate, TemplateKind
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Domain, Message, Template

log = structlog.get_logger()

PER_CONNECTION = 100
"""Messages on one connection; some servers count more as abuse."""

IDLE_SECONDS = 5.0
"""An idle connection is closed after this."""

MAX_ADDRESSES = 8
"""Addresses tried in one attempt, over all hosts."""

ATTEMPT_SECONDS = 900.0
"""The longest that one attempt may take, whatever the other server does."""


GRACE_SECONDS = 20.0
"""What deliveries in progress get when the process is asked to end."""

SENDER_SECONDS = 5.0
"""How long a company's address, domains and keys are remembered."""


class LeaseLostError(Exception):
    """The lease ran out before the message went out; somebody else may have it."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How we present ourselves and what we insist on."""

    host_name: str
    tls: Literal["opportunistic", "required", "never"] = "opportunistic"
    loopback: bool = False
    concurrency: int = 50
    per_site: int = 4
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Sending:
    """A claim with all it takes to compose its message, or to send it as it is."""

    claim: Claim
    generic: GenericMessage | None
    letter: Letter
    signer: Signer
    ready: ReadyMade | None = None
    raw: bytes = b""


class Press:
    """Loads what messages are made of; keeps compiled templates and decoded keys."""

    def __init__(self, sessions: Sessions, seal: Seal, spool: Spool) -> None:
        self._sessions = sessions
        self._seal = seal
        self._spool = spool
        self._generic: OrderedDict[UUID, GenericMessage] = OrderedDict()
        self._senders: dict[UUID, tuple[float, Company | None, Sequence[Domain]]] = {}
        self._signers: dict[tuple[str, str, str], Signer] = {}

    async def load(self, claim: Claim) -> Sending:
        """Everything for one claim. Raises `PermanentError` if something of it is missing."""
        message = claim.message
        company, domains = await self._sender(claim.company_id)
        template = None
        ready = ready_made(message.parsed)
        if ready is None and message.template_id not in self._generic:
            async with self._sessions.read(claim.company_id) as session:
                found = select(Template).where(Template.id == message.template_id)
                template = (await session.scalars(found)).one_or_none()
        host = message.sender.rpartition("@")[2].lower()
        fitting = [d for d in domains if host == d.name or host.endswith(f".{d.name}")]
        domain = max(fitting, key=lambda one: len(one.name), default=None)
        if domain is None or company is None:
            raise PermanentError(f"{host} is no domain of this company any more.")
        generic = await self._compiled(message, template) if ready is None else None
        letter = Letter(
            id=message.id,
            company=company.number,
            kind=message.kind,
            sender=message.sender,
            sender_name=message.sender_name,
            recipient=message.recipient,
            recipient_name=message.recipient_name,
            values=message.values,
            rfc_message_id=message.rfc_message_id,
            references=message.references,
            reply_domain=domain.reply_domain,
            postal_address=company.postal_address,
            created_at=message.created_at,
            reply_token=_kept_token(message),
        )
        raw = b""
        if ready is not None:
            raw = await asyncio.to_thread(self._spool.read, message.spool or {})
        return Sending(claim, generic, letter, self._signer(domain), ready, raw)

    async def _sender(self, company_id: UUID) -> tuple[Company | None, Sequence[Domain]]:
        """The company and its domains, as they were some seconds ago at the most."""
        until, company, domains = self._senders.get(company_id, (0.0, None, ()))
        if until < time.monotonic():
            async with self._sessions.read(company_id) as session:
                company = await session.get(Company, company_id)
                domains = (await session.scalars(select(Domain))).all()
            until = time.monotonic() + SENDER_SECONDS
            self._senders[company_id] = (until, company, domains)
        return company, domains

    async def _compiled(self, message: Message, template: Template | None) -> GenericMessage:
        assert message.template_id is not None
        kept = self._generic.get(message.template_id)
        if kept is not None:
            self._generic.move_to_end(message.template_id)
            return kept
        if template is None:
            raise PermanentError("The template of this message is gone.")
        compiled = CompiledTemplate(
            TemplateKind.of(template.headers), template.subject, template.text, template.html
        )
        skeleton = None
        if template.spool is not None:
            raw = await asyncio.to_thread(self._spool.read, template.spool)
            skeleton = take_apart(raw)
        made = GenericMessage(template.id.hex, compiled, skeleton)
        self._generic[template.id] = made
        if len(self._generic) > 64:
            self._generic.popitem(last=False)
        return made

    def _signer(self, domain: Domain) -> Signer:
        key = (domain.name, domain.rsa_selector, domain.ed25519_selector)
        if key not in self._signers:
            rsa = load_key(domain.rsa_selector, self._seal.open(domain.rsa_key))
            ed25519 = load_key(domain.ed25519_selector, self._seal.open(domain.ed25519_key))
            self._signers[key] = DkimSigner(domain.name, (rsa, ed25519))
        return self._signers[key]


class Deliverer:
    """Runs deliveries side by side, few to one site, until it is told to stop."""

    def __init__(
        self,
        sessions: Sessions,
        ledger: Ledger,
        press: Press,
        composer: Composer,
        routes: Routes,
        resolver: Resolver,
        manner: Manner,
        schedule: RetrySchedule,
        clock: Callable[[], datetime],
        *,
        role: str,
        tick: float = 1.0,
    ) -> None:
        """`role` is stable over restarts: its own old claims are taken back at once."""
        self._sessions = sessions
        self._ledger = ledger
        self._press = press
        self._composer = composer
        self._routes = routes
        self._resolver = resolver
        self._manner = manner
        self._schedule = schedule
        self._clock = clock
        self._role = role
        self._run = str(uuid7())
        self._round = 0
        self._tick = tick
        self._wake = asyncio.Event()
        self._stopping = False
        self._active: Counter[str] = Counter()
        self._leases: dict[UUID, tuple[str, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: dict[str, list[tuple[float, Connection]]] = {}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="sign")
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False  # RFC 7435: encrypted to anybody beats in the clear.
        self._tls.verify_mode = ssl.CERT_NONE

    def wake(self) -> None:
        """Looks for due mail now."""
        self._wake.set()

    def stop(self) -> None:
        """Claims nothing more; `run` ends after the deliveries in hand."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Takes back the claims of an earlier run, then delivers until stopped."""
        async with self._sessions.begin(EVERY_COMPANY) as session:
            back = await queue.take_back(session, self._role, now=self._clock())
        if back:
            log.warning("queue.taken_back", role=self._role, deliveries=back)
        keeper = asyncio.create_task(self._keep_leases())
        try:
            while not self._stopping:
                self._wake.clear()
                started = 0
                try:
                    started = await self.start_due()
                except (OSError, OperationalError) as error:
                    log.error("queue.store_lost", cause=str(error)[:200])
                except Exception:  # Whatever it is, mail goes on when it is over.
                    log.exception("queue.failed")
                if not started and not self._stopping:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), self._tick)
            await self.settle()
        finally:
            keeper.cancel()

    async def close(self, *, grace: float = GRACE_SECONDS) -> None:
        """Ends what is in progress, after `grace` seconds by force, and hangs up.

        What is cut off stays claimed, and the next run of this role takes it back.
        """
        self.stop()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=grace)
            for task in late:
                task.cancel()
            if late:
                log.warning("delivery.cut_off", deliveries=len(late))
                await asyncio.wait(late)
        for connections in self._idle.values():
            for _, connection in connections:
                await connection.close()
        self._idle.clear()
        self._pool.shutdown(wait=False)

    async def settle(self) -> None:
        """Waits until nothing is in progress."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def start_due(self) -> int:
        """Claims as much as there is room for and starts on it; says how much that was."""
        free = self._manner.concurrency - len(self._tasks)
        if free <= 0:
            return 0
        self._round += 1
        full = [site for site, count in self._active.items() if count >= self._manner.per_site]

        def room(site: str) -> int:
            return self._manner.per_site - self._active[site]

        async with self._sessions.begin(EVERY_COMPANY) as session:
            claims = await queue.claim_due(
                session,
                now=self._clock(),
                owner=f"{self._role}/{self._run}/{self._round}",
                schedule=self._schedule,
                limit=free,
                site=self._routes.site,
                room=room,
                full=full,
            )
        lease_end = time.monotonic() + LEASE.total_seconds()
        for claim in claims:
            site = self._routes.site(claim.destination)
            self._active[site] += 1
            self._leases[claim.id] = (claim.fence, lease_end)
            task = asyncio.create_task(self._deliver(claim, site))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(claims)

    async def _deliver(self, claim: Claim, site: str) -> None:
        started = time.monotonic()
        try:
            outcome = await self._outcome(claim, site)
            outcome = replace(outcome, seconds=round(time.monotonic() - started, 3))
            await self._record(claim, outcome)
        except LeaseLostError:
            log.warning("delivery.lease_lost", delivery_id=str(claim.id))
        except (OSError, OperationalError) as error:  # The lease ends, and it is tried again.
            log.error("delivery.store_lost", delivery_id=str(claim.id), cause=repr(error))
        except Exception:
            log.exception("delivery.failed", delivery_id=str(claim.id))
        finally:
            self._active[site] -= 1
            if not self._active[site]:
                del self._active[site]
            self._leases.pop(claim.id, None)
            self._wake.set()

    async def _record(self, claim: Claim, outcome: Outcome) -> None:
        """Writes the result, again and again while the store is away: a lost one is a copy."""
        for wait in (0.1, 0.5, 2.0, 10.0, 30.0, None):
            try:
                kept = await self._ledger.enter(
                    lambda session: queue.record(session, claim, outcome, now=self._clock())
                )
            except (OSError, OperationalError) as error:
                log.error(
                    "delivery.not_recorded", delivery_id=str(claim.id), cause=str(error)[:200]
                )
                if wait is None:
                    return
                await asyncio.sleep(wait)
            else:
                log.info(
                    f"delivery.{outcome.state}",
                    delivery_id=str(claim.id),
                    code=outcome.code,
                    host=outcome.host,
                    attempt=claim.attempts,
                    next_attempt=outcome.due_at and outcome.due_at.isoformat(),
                    recorded=kept,
                )
                return

    async def _outcome(self, claim: Claim, site: str) -> Outcome:
        trial = Trial(claim.attempts, claim.expires_at, self._schedule)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                sending = await self._press.load(claim)
                content = await asyncio.get_running_loop().run_in_executor(
                    self._pool, self._signed, sending
                )
                return await self._hand_over(claim, site, trial, *content)
        except TimeoutError:
            cause = "the attempt took too long"
            return trial.after_loss(cause, after_data=True, now=self._clock())
        except TemporaryError as error:
            return trial.after_loss(error.public, after_data=False, now=self._clock())
        except PermanentError as error:
            return Outcome(State.HELD, text=error.public, reason="can't be composed")
        except (LeaseLostError, OperationalError):
            raise
        except Exception as error:
            log.exception("delivery.failed", delivery_id=str(claim.id))
            return Outcome(State.HELD, text=repr(error)[:300], reason="unexpected error")

    def _signed(self, sending: Sending) -> tuple[str, bytes]:
        if sending.generic is None:
            return self._as_it_is(sending)
        made = self._composer.compose(sending.generic, sending.letter)
        signatures = sending.signer.sign(made.content, sending.letter.created_at)
        return made.return_path, signatures + made.content

    def _as_it_is(self, sending: Sending) -> tuple[str, bytes]:
        ready, at = sending.ready or ReadyMade(), sending.letter.created_at
        signatures = sending.signer.sign(sending.raw, at) if ready.signed else b""
        path = ready.return_path
        if path is None:
            path = self._composer.return_path(sending.letter)
        return path, signatures + sending.raw

    async def _hand_over(
        self, claim: Claim, site: str, trial: Trial, return_path: str, content: bytes
    ) -> Outcome:
        kept = self._take_idle(site)
        if kept is not None:
            try:
                return await self._say(kept, claim, site, trial, return_path, content)
            except LostError as error:  # It had hung up while nobody spoke: nothing was said.
                if error.after_data:
                    return self._lost(kept, trial, error)
        hosts = await self._routes.to(claim.destination)
        if isinstance(hosts, Refused):
            return trial.after_refusal(hosts)
        cause = "no mail server has an address"
        for host, address in await self._addresses(hosts):
            if not self._manner.loopback and not is_public(address):
                cause = f"{host.name} points to {address}, which is not on the Internet"
                continue
            try:
                connection = await self._connect(host, address)
                return await self._say(connection, claim, site, trial, return_path, content)
            except LostError as error:
                if error.after_data:
                    return replace(
                        trial.after_loss(str(error), after_data=True, now=self._clock()),
                        host=host.name,
                    )
                cause = f"{host.name}: {error}"
        return trial.after_loss(cause, after_data=False, now=self._clock())

    def _lost(self, connection: Connection, trial: Trial, error: LostError) -> Outcome:
        lost = trial.after_loss(str(error), after_data=True, now=self._clock())
        return replace(lost, host=connection.host, tls=connection.tls)

    async def _addresses(self, hosts: Sequence[Host]) -> list[tuple[Host, str]]:
        found: list[tuple[Host, str]] = []
        failed: TemporaryError | None = None
        for host in hosts:
            try:
                found += [(host, a) for a in await self._resolver.addresses(host.name)]
            except TemporaryError as error:
                failed = error
        if not found and failed is not None:
            raise failed
        return found[:MAX_ADDRESSES]

    async def _connect(self, host: Host, address: str) -> Connection:
        """A connection that has said EHLO, with TLS as far as it goes."""
        tls = self._manner.tls
        for attempt_tls in (True, False) if tls == "opportunistic" else (tls == "required",):
            connection = await Connection.open(
                address, host.port, host=host.name, patience=self._manner.patience
            )
            try:
                refusal = await connection.greet(self._manner.host_name)
                if refusal is not None:
                    raise LostError(str(refusal))
                if attempt_tls and "STARTTLS" in connection.offers:
                    await connection.start_tls(self._tls, self._manner.host_name)
                elif tls == "required":
                    raise LostError("offers no TLS, which the settings require")
            except TlsFailedError as error:
                await connection.close()
                if tls == "required":
                    raise LostError(f"TLS: {error}") from None
                log.info("delivery.tls_failed", host=host.name, cause=str(error))
                continue
            except BaseException:
                await connection.close()
                raise
            return connection
        raise LostError("no connection")

    async def _say(
        self,
        connection: Connection,
        claim: Claim,
        site: str,
        trial: Trial,
        return_path: str,
        content: bytes,
    ) -> Outcome:
        if time.monotonic() >= self._leases.get(claim.id, ("", 0.0))[1]:
            await connection.close()
            raise LeaseLostError
        try:
            handover = await connection.send(return_path, _ascii_domain(claim.recipient), content)
        except BaseException:
            await connection.close()
            raise
        if connection.broken or connection.sent >= PER_CONNECTION or self._stopping:
            await connection.close()
        else:
            self._idle.setdefault(site, []).append((time.monotonic(), connection))
        outcome = trial.after(handover, now=self._clock())
        return replace(outcome, host=connection.host, tls=connection.tls)

    def _take_idle(self, site: str) -> Connection | None:
        kept = self._idle.get(site, [])
        while kept:
            since, connection = kept.pop()
            if time.monotonic() - since < IDLE_SECONDS and not connection.reader.at_eof():
                return connection
            connection.writer.close()
        self._idle.pop(site, None)
        return None

    async def _keep_leases(self) -> None:
        """Renews the leases of what is in progress; closes connections that nobody needs."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for site in list(self._idle):
                kept = self._idle.get(site, [])
                for entry in [e for e in kept if now - e[0] >= IDLE_SECONDS]:
                    kept.remove(entry)
                    await entry[1].close()
                if not kept:
                    self._idle.pop(site, None)
            if now - last < LEASE.total_seconds() / 3 or not self._leases:
                continue
            last = now
            held = {key: fence for key, (fence, _) in self._leases.items()}
            until = self._clock() + LEASE
            try:
                async with self._sessions.begin(EVERY_COMPANY) as session:
                    await queue.renew(session, held, until=until)
            except (OSError, OperationalError) as error:
                log.error("queue.leases_not_renewed", cause=str(error)[:200])
                continue
            for key, fence in held.items():
                if key in self._leases:
                    self._leases[key] = (fence, now + LEASE.total_seconds())


def _kept_token(message: Message) -> Token | None:
    kept: Any = (message.parsed or {}).get("reply_token")
    if kept is None:
        return None
    kind, company, subject, slot = kept
    return Token(TokenKind(kind), company, UUID(subject), slot)


def _ascii_domain(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain if domain.isascii() else domain.encode('idna').decode('ascii')}"

"""Makes what goes over the wire: loads what a message is made of, composes it and signs it.

Composing and signing run in threads, several messages a time: RSA gives up the interpreter's lock,
and a hand-over between threads costs as much as composing one message.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select

from mail.errors import PermanentError, TemporaryError
from mail.tokens import Token, TokenKind
from mta.accounts import signing_keys
from mta.claims import Claim
from mta.compose import Composer, GenericMessage, Letter
from mta.enclosures import NOTHING, Enclosures, encode
from mta.mime import take_apart
from mta.outbound import Outbound
from mta.ready_made import ReadyMade, ready_made
from mta.signing import DkimSigner, Signer
from mta.spool import Spool
from mta.submission import best_domain
from mta.template import CompiledTemplate, TemplateKind
from storage.sealing import Seal
from storage.sessions import Sessions
from storage.tables import Company, Domain, Template

log = structlog.get_logger()

SENDER_SECONDS = 5.0
"""How long a company's address, domains and keys are remembered."""

TEMPLATES = 64
"""Compiled templates that are remembered."""

TOGETHER = 8
"""Messages that one thread composes and signs in one go."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claim, and its bytes if they are in memory still."""

    claim: Claim
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A message as it goes over the wire; or, without content, why it can't be sent."""

    claim: Claim
    return_path: str = ""
    content: bytes = b""
    problem: PermanentError | TemporaryError | None = None


@dataclass(frozen=True, slots=True)
class _Sending:
    job: Job
    letter: Letter
    signer: Signer
    generic: GenericMessage | None
    ready: ReadyMade | None


_Asked = asyncio.Future[tuple[Company | None, Sequence[Domain]]]


def _in_vain(asked: _Asked) -> bool:
    return asked.done() and (asked.cancelled() or asked.exception() is not None)


class Press:
    """Keeps compiled templates and decoded keys."""

    def __init__(
        self, sessions: Sessions, seal: Seal, spool: Spool, composer: Composer, *, threads: int = 2
    ) -> None:
        self._sessions = sessions
        self._seal = seal
        self._spool = spool
        self._composer = composer
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="press")
        self._generic: OrderedDict[UUID, GenericMessage] = OrderedDict()
        self._senders: dict[UUID, tuple[float, _Asked]] = {}
        self._signers: dict[tuple[str, str, str], Signer] = {}

    def close(self) -> None:
        """Lets the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def make(self, jobs: Sequence[Job]) -> list[Made]:
        """The messages of these jobs, in any order; never raises for one of them.

        Raises `OperationalError` if the store is away.
        """
        made: list[Made] = []
        ready: list[_Sending] = []
        for job in jobs:
            try:
                ready.append(await self._load(job))
            except (PermanentError, TemporaryError) as error:
                made.append(Made(job.claim, problem=error))
        loop = asyncio.get_running_loop()
        made += await loop.run_in_executor(self._pool, self._make, ready)
        return made

    def _make(self, sendings: Sequence[_Sending]) -> list[Made]:
        """Composes each one, then signs what has the same keys together."""
        made: list[Made] = []
        unsigned: dict[Signer, list[tuple[_Sending, Made]]] = {}
        for sending in sendings:
            one = self._composed(sending)
            if one.problem is not None or (sending.ready is not None and not sending.ready.signed):
                made.append(one)
            else:
                unsigned.setdefault(sending.signer, []).append((sending, one))
        for signer, pairs in unsigned.items():
            made += _signed(signer, pairs)
        return made

    def _composed(self, sending: _Sending) -> Made:
        claim = sending.job.claim
        try:
            path, content = self._content(sending)
        except (PermanentError, TemporaryError) as error:
            return Made(claim, problem=error)
        except Exception as error:
            return _failed(claim, error)
        return Made(claim, path, content)

    def _content(self, sending: _Sending) -> tuple[str, bytes]:
        letter, ready = sending.letter, sending.ready
        if ready is not None:
            path = ready.return_path
            own = self._composer.return_path(letter) if path is None else path
            return own, self._raw(sending.job)
        if sending.generic is None:
            made = self._composer.pass_on(self._raw(sending.job), letter)
        else:
            made = self._composer.compose(sending.generic, letter)
        return made.return_path, made.content

    def _raw(self, job: Job) -> bytes:
        return job.raw if job.raw is not None else self._spool.read(job.claim.message.spool or {})

    async def _load(self, job: Job) -> _Sending:
        message = job.claim.message
        company, domains = await self._sender(message.company_id)
        host = message.sender.rpartition("@")[2]
        domain = best_domain(domains, host)
        if domain is None or company is None:
            raise PermanentError(f"{host} is no domain of this company any more.")
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
            subject=message.subject,
            reply_token=_kept_token(message),
        )
        ready = ready_made(message.parsed)
        generic = None if message.template_id is None else await self._compiled(message)
        return _Sending(job, letter, self._signer(domain), generic, ready)

    async def _sender(self, company_id: UUID) -> tuple[Company | None, Sequence[Domain]]:
        """The company and its domains, as they were some seconds ago at the most."""
        until, asked = self._senders.get(company_id, (0.0, None))
        if asked is None or until < time.monotonic() or _in_vain(asked):
            asked = asyncio.ensure_future(self._ask_for_sender(company_id))
            self._senders[company_id] = (time.monotonic() + SENDER_SECONDS, asked)
        return await asyncio.shield(asked)  # All who want to know wait for one question.

    async def _ask_for_sender(self, company_id: UUID) -> tuple[Company | None, Sequence[Domain]]:
        async with self._sessions.read(company_id) as session:
            company = await session.get(Company, company_id)
            return company, (await session.scalars(select(Domain))).all()

    async def _compiled(self, message: Outbound) -> GenericMessage:
        assert message.template_id is not None
        kept = self._generic.get(message.template_id)
        if kept is not None:
            self._generic.move_to_end(message.template_id)
            return kept
        async with self._sessions.read(message.company_id) as session:
            found = select(Template).where(Template.id == message.template_id)
            template = (await session.scalars(found)).one_or_none()
            if template is None:
                raise PermanentError("The template of this message is gone.")
            enclosures = Enclosures.of(template.headers)
            encoded = await encode(session, enclosures)
        compiled = CompiledTemplate(
            TemplateKind.of(template.headers),
            template.subject,
            template.text,
            template.html,
            enclosures if enclosures.kept() else NOTHING,
        )
        skeleton = None
        if template.spool is not None:
            skeleton = take_apart(await asyncio.to_thread(self._spool.read, template.spool))
        made = GenericMessage(template.id.hex, compiled, skeleton, encoded)
        self._generic[template.id] = made
        if len(self._generic) > TEMPLATES:
            self._generic.popitem(last=False)
        return made

    def _signer(self, domain: Domain) -> Signer:
        key = (domain.name, domain.rsa_selector, domain.ed25519_selector)
        if key not in self._signers:
            self._signers[key] = DkimSigner(domain.name, signing_keys(domain, self._seal))
        return self._signers[key]


def _signed(signer: Signer, pairs: Sequence[tuple[_Sending, Made]]) -> list[Made]:
    try:
        fields = signer.sign_all([(one.content, sent.letter.created_at) for sent, one in pairs])
    except Exception as error:
        if len(pairs) == 1:
            return [_failed(pairs[0][1].claim, error)]
        return [made for pair in pairs for made in _signed(signer, [pair])]
    return [
        replace(one, content=field + one.content)
        for (_, one), field in zip(pairs, fields, strict=True)
    ]


def _failed(claim: Claim, error: Exception) -> Made:
    """Whatever it is, it is this one's alone."""
    log.error("press.failed", delivery_id=str(claim.id), exc_info=error)
    return Made(claim, problem=PermanentError(repr(error)[:300]))


def _kept_token(message: Outbound) -> Token | None:
    kept: Any = message.parsed.get("reply_token")
    if kept is None:
        return None
    kind, company, subject, slot = kept
    return Token(TokenKind(kind), company, UUID(subject), slot)

"""Passes people's answers on to the reps they are for, and takes back what bounces of that.

A rep who wants so, or whose sending domain is set so, gets every answer of a person as mail in
their own mailbox too: unchanged, with a rewritten return path (`mta.srs`) and an ARC set. Machines'
mail is never passed on. What comes back to a rewritten return path goes to the first one.

A message is made before the transaction and ordered within it, under a key that names the answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind
from bus.stations import Station
from config.settings import Settings
from mail.address import parse_address
from mail.errors import PermanentError, TemporaryError
from mail.tokens import TokenKeys
from mta.accounts import domain_of
from mta.arc import ArcSealer, read_chain, results_line, validate
from mta.forwarding import Answer, refusal, to_pass_on, with_crlf
from mta.notice_limit import Leave, NoticeLimit
from mta.ready_made import ReadyMade
from mta.recipients import is_suppressed
from mta.signing import load_key
from mta.srs import Rewriter, SrsProblem, is_rewritten
from mta.submission import Order, find_order, submit
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Arrival, Company, Domain, Event, Message, User

log = structlog.get_logger()

MAX_KEPT = 100
"""Orders between their making and their transaction."""

MAX_KEY_NAMES = 20
"""Names that are asked for the keys of one chain; honest chains have few servers."""

CHAIN_SECONDS = 20.0
MAX_RETURNS = 20
"""Bounces that go back to one author within an hour; whoever knows a return path has no more."""


class Spool(Protocol):
    """Where message bytes are kept."""

    def read(self, place: Mapping[str, Any]) -> bytes: ...

    async def append(self, data: bytes) -> dict[str, Any]: ...


class Names(Protocol):
    """Answers about domain names; raises `TemporaryError` if nobody could tell."""

    async def txt(self, name: str) -> list[str]: ...


def stations(
    *,
    sessions: Sessions,
    settings: Settings,
    keys: TokenKeys,
    seal: Seal,
    spool: Spool,
    resolver: Names,
    clock: Callable[[], datetime],
) -> list[Station]:
    """The station that passes answers on, and the one that sends bounces of them back."""
    rewriter = Rewriter(keys.derived("srs"))
    out = Forwarding(sessions, settings.host.name, rewriter, seal, spool, resolver, clock)
    back = Returns(rewriter, clock)
    return [
        Station("forwarding", frozenset({Kind.REPLY_RECEIVED}), out.handle, out.prepare),
        Station("returns", frozenset({Kind.MAIL_ARRIVED}), back.handle, sift=back.sift),
    ]


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer that is to be passed on, and all that this takes."""

    message: Message
    arrival: Arrival | None
    target: str
    user_id: UUID | None
    sender: str
    domain: Domain
    company: int


class Forwarding:
    """Passes answers on."""

    def __init__(
        self,
        sessions: Sessions,
        host: str,
        rewriter: Rewriter,
        seal: Seal,
        spool: Spool,
        resolver: Names,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._host = host
        self._rewriter = rewriter
        self._seal = seal
        self._spool = spool
        self._resolver = resolver
        self._clock = clock
        self._made: OrderedDict[int, Order] = OrderedDict()

    async def prepare(self, event: Event) -> None:
        """Makes the message, if somebody wants it, and keeps its bytes."""
        async with self._sessions.read(event.company_id) as session:
            found = await self._found(session, event)
        if found is None or found.message.spool is None:
            return
        if await self._is_ours(found.target):
            return self._leave(found, "it leads to ourselves")
        try:
            raw = await asyncio.to_thread(self._spool.read, found.message.spool)
        except PermanentError as error:
            return self._leave(found, error.public)
        arrival = found.arrival
        answer = Answer(
            author=found.message.sender,
            mail_from=arrival.mail_from if arrival is not None else "",
            by_smtp=arrival is not None and arrival.source == "mx",
            raw=with_crlf(raw),
        )
        if why := refusal(answer, found.target):
            return self._leave(found, why)
        now = self._clock()
        made = to_pass_on(
            answer, host=self._host, mark=str(found.message.id), target=found.target, at=now
        )
        made = await self._set(found, answer.raw, made, now) + made
        place = await self._spool.append(made)
        return_path = self._rewriter.forward(
            answer.mail_from.strip("<> ") or answer.author,
            found.domain.reply_domain,
            found.company,
            now,
        )
        self._made[event.seq] = Order(
            key=f"forward:{found.message.id}",
            kind="system",
            sender=found.sender,
            sender_name="",
            recipient=found.target,
            recipient_name="",
            subject=found.message.subject,
            text="",
            user_id=found.user_id,
            lane=1,
            spool=place,
            as_is=True,
            # What can't be rewritten comes back to our own bounce address.
            parsed=ReadyMade(return_path or None).kept(),
        )
        if len(self._made) > MAX_KEPT:
            self._made.popitem(last=False)

    async def handle(self, session: AsyncSession, event: Event) -> None:
        """Orders what was made; the same key again orders nothing."""
        order = self._made.pop(event.seq, None)
        if order is None:
            return
        await submit(session, order, now=self._clock())
        log.info("answer.forwarded", message_id=str(event.message_id), user_id=str(order.user_id))

    async def _found(self, session: AsyncSession, event: Event) -> _Found | None:
        message = await session.scalar(select(Message).where(Message.id == event.message_id))
        if message is None or message.direction != "in" or message.answers_id is None:
            return None
        answered = await session.scalar(select(Message).where(Message.id == message.answers_id))
        domain = await domain_of(session, answered.sender) if answered is not None else None
        if answered is None or domain is None:
            return None
        user = await _rep(session, answered)
        if user is not None and user.disabled_at is not None:
            return None
        if user is not None and not (user.forward_replies or domain.forward_replies):
            return None
        if user is None and not domain.forward_replies:
            return None
        target = user.email if user is not None else answered.sender
        if await find_order(session, f"forward:{message.id}") is not None:
            return None
        if parse_address(target) is None or await is_suppressed(session, target):
            log.info("answer.not_forwarded", message_id=str(message.id), cause="suppressed")
            return None
        arrival = await session.scalar(
            select(Arrival).where(Arrival.message_id == message.id).limit(1)
        )
        number = await session.scalar(select(Company.number).where(Company.id == event.company_id))
        assert number is not None
        user_id = user.id if user is not None else None
        return _Found(message, arrival, target, user_id, answered.sender, domain, number)

    async def _is_ours(self, target: str) -> bool:
        """Whether mail to this address comes back to this machine: any company's reply domain."""
        address = parse_address(target)
        async with self._sessions.read(EVERY_COMPANY) as session:
            name = address.domain if address is not None else ""
            found = await session.scalar(select(Domain.id).where(Domain.reply_domain == name))
        return found is not None

    async def _set(self, found: _Found, raw: bytes, made: bytes, now: datetime) -> bytes:
        """An ARC set for the message; none if nobody can tell now whether its chain holds."""
        chain = read_chain(raw)
        names = chain.key_names
        keys: dict[str, str | None] = {}
        try:
            async with asyncio.timeout(CHAIN_SECONDS):
                for name in names[:MAX_KEY_NAMES]:
                    keys[name] = next(
                        (text for text in await self._resolver.txt(name) if "p=" in text), None
                    )
        except (TemporaryError, TimeoutError):
            return b""
        cv, _ = await asyncio.to_thread(validate, raw, chain, keys)
        line = results_line(
            self._host,
            found.message.parsed.get("authentication") or {},
            sender=found.message.sender.rpartition("@")[2],
            cv=cv,
        )
        domain = found.domain
        key = load_key(domain.rsa_selector, self._seal.open(domain.rsa_key))
        return await asyncio.to_thread(ArcSealer(domain.name, key, line, cv, chain).sign, made, now)

    def _leave(self, found: _Found, why: str) -> None:
        log.info("answer.not_forwarded", message_id=str(found.message.id), cause=why)


async def _rep(session: AsyncSession, answered: Message) -> User | None:
    """Whose answer it is: the user the mail was sent for, or the one it says it is from."""
    if answered.user_id is not None:
        return await session.scalar(select(User).where(User.id == answered.user_id))
    sender = parse_address(answered.sender)
    if sender is None:
        return None
    return await session.scalar(select(User).where(User.email == sender.canonical))


class Returns:
    """Sends bounces of passed on mail to the return path that it had before."""

    def __init__(self, rewriter: Rewriter, clock: Callable[[], datetime]) -> None:
        self._rewriter = rewriter
        self._clock = clock
        self._limit = NoticeLimit(MAX_RETURNS)

    async def sift(self, session: AsyncSession, seqs: Sequence[int]) -> Collection[int]:
        """The arrivals at rewritten addresses."""
        events = (
            await session.execute(select(Event.seq, Event.payload).where(Event.seq.in_(seqs)))
        ).all()
        of = {UUID(str(payload["arrival"])): seq for seq, payload in events}
        rows = await session.execute(
            select(Arrival.id, Arrival.recipients).where(Arrival.id.in_(list(of)))
        )
        return [
            of[key] for key, recipients in rows if any(is_rewritten(str(one)) for one in recipients)
        ]

    async def handle(self, session: AsyncSession, event: Event) -> None:
        """Orders one message for each address that is good; others stay for a person to see."""
        key = UUID(str(event.payload["arrival"]))
        arrival = await session.scalar(select(Arrival).where(Arrival.id == key))
        if arrival is None or arrival.mail_from.strip("<> ") or arrival.source != "mx":
            return  # Whoever writes to a return path as a person gets no relay out of it.
        number = await session.scalar(select(Company.number).where(Company.id == event.company_id))
        assert number is not None
        for place, recipient in enumerate(arrival.recipients):
            local, _, host = str(recipient).rpartition("@")
            first = self._rewriter.reverse(local, number, self._clock())
            domain = await session.scalar(select(Domain).where(Domain.reply_domain == host.lower()))
            if isinstance(first, SrsProblem) or domain is None:
                continue
            if await is_suppressed(session, first):
                continue
            if self._limit.ask(f"{event.company_id}/{first.lower()}", self._clock()) is Leave.NO:
                log.warning("bounce.withheld", arrival_id=str(arrival.id))
                continue
            order = Order(
                key=f"returned:{arrival.id}:{place}",
                kind="system",
                sender=f"mailer-daemon@{domain.name}",
                sender_name="Mail Delivery System",
                recipient=first,
                recipient_name="",
                subject="Returned mail",
                text="",
                lane=1,
                spool=arrival.spool,
                as_is=True,
                parsed=ReadyMade("").kept(),
            )
            await submit(session, order, now=self._clock())
            log.info("bounce.returned", arrival_id=str(arrival.id))

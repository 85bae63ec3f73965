"""Sends delivery reports to those who handed us mail by SMTP: reads events, writes send orders.

Mail from the API or a sequence gets none: whoever sent it hears of it by events. A report is made
before the transaction (its bytes go to the spool) and ordered within it, under a key that names the
delivery and what happened: there is one report for each, however often an event comes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind
from bus.stations import Station
from config.settings import Settings
from mail.address import parse_address
from mail.errors import PermanentError
from mail.ids import uuid7
from mta.accounts import domain_of
from mta.notice_limit import Leave, NoticeLimit
from mta.notice_words import NOT_SENT
from mta.notices import Action, Report, auto_submitted, is_owed, make_dsn, origin_of
from mta.ready_made import ReadyMade
from mta.submission import Order, find_order, submit
from storage.sessions import Sessions
from storage.tables import Attempt, Delivery, Domain, Event, Message

log = structlog.get_logger()

MAX_KEPT = 1000
"""Orders between their making and their transaction."""

_ACTIONS: Mapping[str, Action] = {
    Kind.DELIVERY_BOUNCED: Action.FAILED,
    Kind.DELIVERY_SKIPPED: Action.FAILED,
    Kind.BOUNCE_RECEIVED: Action.FAILED,
    Kind.DELIVERY_DEFERRED: Action.DELAYED,
    Kind.DELIVERY_DELIVERED: Action.RELAYED,
}


class Spool(Protocol):
    """Where message bytes are kept."""

    def read(self, place: Mapping[str, Any]) -> bytes: ...

    async def append(self, data: bytes) -> dict[str, Any]: ...


def station(
    *, sessions: Sessions, settings: Settings, spool: Spool, clock: Callable[[], datetime]
) -> Station:
    """The station that tells senders."""
    notices = Notices(sessions, settings, spool, clock)
    kinds = frozenset(Kind(kind) for kind in _ACTIONS)
    return Station("notices", kinds, notices.handle, notices.prepare, notices.sift)


class Notices:
    """Makes reports and orders them."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        spool: Spool,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._host = settings.host.name
        self._settings = settings.notices
        self._spool = spool
        self._clock = clock
        self._limit = NoticeLimit(settings.notices.per_hour)
        self._made: OrderedDict[int, Order] = OrderedDict()

    async def sift(self, session: AsyncSession, seqs: Sequence[int]) -> Collection[int]:
        """The events about which somebody may have to be told: few, of all deliveries."""
        rows = await session.execute(
            select(Event.seq, Event.kind, Event.occurred_at, Message.parsed, Message.created_at)
            .join(Message, Message.id == Event.message_id)
            .where(
                Event.seq.in_(seqs),
                Message.company_id == Event.company_id,
                Message.direction == "out",
            )
        )
        chosen = []
        for seq, kind, at, parsed, created_at in rows:
            origin = origin_of(parsed)
            if origin is None or not origin.sender:
                continue
            action = _ACTIONS[kind]
            if action is Action.DELAYED and not self._is_late(at - created_at):
                continue
            if action is Action.RELAYED and "SUCCESS" not in origin.notify:
                continue
            chosen.append(seq)
        return chosen

    async def prepare(self, event: Event) -> None:
        """Makes the report, if one is owed, and keeps its bytes."""
        if event.message_id is None:
            return
        action, now = _ACTIONS[event.kind], self._clock()
        async with self._sessions.read(event.company_id) as session:
            found = await self._found(session, event, action)
        if found is None:
            return
        message, report, key, domain = found
        reader = f"{event.company_id}/{report.origin.sender.lower()}"
        if self._limit.is_used_up(reader, now):  # In a flood the messages are not even read.
            log.warning("notice.withheld", message_id=str(message.id), action=action.value)
            return
        original = await self._original(message)
        automatic = auto_submitted(original) if original is not None else ""
        if not is_owed(report.origin, action, auto_submitted=automatic):
            return
        leave = self._limit.ask(reader, now)
        report = replace(report, original=original, last_for_now=leave is Leave.LAST)
        raw = make_dsn(
            report,
            at=now,
            host=self._host,
            domain=domain,
            message_id=f"<{uuid7()}@{domain}>",
            max_returned=self._settings.max_returned,
        )
        place = await self._spool.append(raw)
        self._made[event.seq] = Order(
            key=key,
            kind="system",
            sender=f"mailer-daemon@{domain}",
            sender_name="Mail Delivery System",
            recipient=report.origin.sender,
            recipient_name="",
            subject=f"{action.value}: {message.subject}",
            text="",
            lane=1,
            spool=place,
            as_is=True,
            parsed=ReadyMade("", signed=True).kept(),
        )
        if len(self._made) > MAX_KEPT:
            self._made.popitem(last=False)

    async def handle(self, session: AsyncSession, event: Event) -> None:
        """Orders what was made; the same key again orders nothing."""
        order = self._made.pop(event.seq, None)
        if order is None:
            return
        sent = await submit(session, order, now=self._clock())
        log.info("notice.ordered", key=order.key, message_id=str(sent.id))

    async def _found(
        self, session: AsyncSession, event: Event, action: Action
    ) -> tuple[Message, Report, str, str] | None:
        """The message, the report without its original, its key, and the domain it is from."""
        message = await session.scalar(select(Message).where(Message.id == event.message_id))
        origin = origin_of(message.parsed) if message is not None else None
        if message is None or origin is None or not is_owed(origin, action):
            return None
        delivery = await session.scalar(select(Delivery).where(Delivery.message_id == message.id))
        if delivery is None or (
            action is Action.DELAYED
            and (delivery.finished_at is not None or not self._is_late_at(event, message))
        ):
            return None
        key = f"dsn:{delivery.id}:{action.value}"
        if await find_order(session, key) is not None:
            return None
        domain = await domain_of(session, message.sender)
        reader = parse_address(origin.sender)
        if domain is None or reader is None:
            return None
        ours = await session.scalar(select(Domain.id).where(Domain.reply_domain == reader.domain))
        if ours is not None:
            return None  # Reply domains are read by ourselves, who know it already.
        attempt = await session.scalar(
            select(Attempt)
            .where(Attempt.delivery_id == delivery.id)
            .order_by(Attempt.at.desc(), Attempt.id.desc())
            .limit(1)
        )
        report = Report(
            action=action,
            recipient=message.recipient,
            origin=origin,
            submitted_at=message.created_at,
            attempted_at=attempt.at if attempt is not None else None,
            retry_until=delivery.expires_at,
            subject=message.subject,
        )
        if event.kind == Kind.BOUNCE_RECEIVED:
            return message, await _from_afar(session, event, report), key, domain.name
        code, said = event.payload.get("code"), str(event.payload.get("text") or "")
        report = replace(
            report,
            code=code if isinstance(code, int) else None,
            said=said,
            reason=_reason(event),
            remote=attempt.host if attempt is not None and code is not None else "",
        )
        return message, report, key, domain.name

    async def _original(self, message: Message) -> bytes | None:
        if message.spool is None:
            return None
        try:
            return await asyncio.to_thread(self._spool.read, message.spool)
        except PermanentError as error:
            log.warning("notice.original_lost", message_id=str(message.id), cause=str(error))
            return None

    def _is_late_at(self, event: Event, message: Message) -> bool:
        return self._is_late(event.occurred_at - message.created_at)

    def _is_late(self, age: timedelta) -> bool:
        wanted = self._settings.delayed_after
        return bool(wanted) and age >= wanted


def _reason(event: Event) -> str:
    """Why the delivery ended; of mail that was never tried, in words that say so."""
    reason = str(event.payload.get("reason") or "")
    known = ("suppressed", "consent", "expired")
    return (
        reason
        if event.kind != Kind.DELIVERY_SKIPPED or reason.startswith(known)
        else (f"{NOT_SENT}{reason}")
    )


async def _from_afar(session: AsyncSession, event: Event, report: Report) -> Report:
    """What another server reported to our return path after it had taken the message."""
    said, code, remote = str(event.payload.get("status") or ""), None, ""
    key = event.payload.get("report")
    told = None
    if isinstance(key, str):
        told = await session.scalar(select(Message).where(Message.id == UUID(key)))
    if told is not None:
        remote = told.sender.rpartition("@")[2]
        listed = told.parsed.get("bounces") or []
        for bounce in listed:
            if bounce.get("recipient", "").lower() == report.recipient.lower() or len(listed) == 1:
                code = bounce.get("code")
    return replace(
        report,
        code=code if isinstance(code, int) else None,
        said=said,
        remote=remote,
        reason=str(event.payload.get("class") or "").replace("_", " "),
    )

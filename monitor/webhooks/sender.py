"""Tells webhooks of events: each in order, a batch at a time, again until it says 2xx.

A batch keeps its name and its events however often it is tried, so that a receiver knows a repeat
by `webhook-id`. A claim keeps two processes from telling one webhook at once; no transaction is
open while we talk to it.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.exc import OperationalError

from bus.stream import Place, events_after, newest
from config.sections.api import WebhookSettings
from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7
from monitor.webhooks import registry
from monitor.webhooks.pauses import pause, why_switched_off
from monitor.webhooks.signature import signed
from monitor.webhooks.story import tell
from monitor.webhooks.target import Names, Target, addresses, target_of
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Webhook, WebhookAttempt

log = structlog.get_logger()

AT_ONCE = 20
"""Webhooks that are talked to at the same time."""

IN_A_ROW = 20
"""Batches that one webhook is told before the others have their turn."""

MAX_ANSWER_BYTES = 64 << 10
"""Of an answer, whose words nobody needs; more is cut off."""

STRIDE = 1000
"""How far a place may fall behind the stream when nothing in it is for this webhook."""

GRACE = timedelta(seconds=30)
"""How much longer than the longest try a claim lasts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try. `status` is None if no answer came, and `error` says why."""

    status: int | None
    error: str = ""
    retry_after: float | None = None

    @property
    def good(self) -> bool:
        """Whether the batch is taken."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class _Batch:
    name: str
    end: Place
    events: list[dict[str, Any]]
    first_seq: int


class WebhookSender:
    """Looks at the stream and tells whom it concerns."""

    def __init__(
        self,
        sessions: Sessions,
        seal: Seal,
        settings: WebhookSettings,
        *,
        resolver: Names,
        clock: Callable[[], datetime],
        tick: float = 1.0,
        trust: ssl.SSLContext | None = None,
        luck: Callable[[], float] = random.random,
    ) -> None:
        """`tick` is in seconds; `trust` says whose certificates are good (the system's)."""
        self._sessions, self._seal, self._settings = sessions, seal, settings
        self._resolver, self._clock, self._tick, self._luck = resolver, clock, tick, luck
        self._trust = trust or ssl.create_default_context()
        self._looked: dict[UUID, tuple[Any, ...]] = {}

    async def run(self) -> None:
        """Tells until it is cancelled."""
        while True:
            try:
                await self.round()
            except (OSError, OperationalError) as error:  # The store is away; it comes back.
                log.warning("webhooks.store_lost", cause=str(error)[:200])
            await asyncio.sleep(self._tick)

    async def round(self) -> int:
        """Tells every webhook that is due what there is; says how many batches were taken."""
        now = self._clock()
        async with self._sessions.read(EVERY_COMPANY) as session:
            here = await newest(session)
            free = or_(Webhook.claimed_until.is_(None), Webhook.claimed_until <= now)
            query = select(Webhook).where(Webhook.state == "active", Webhook.next_at <= now, free)
            due = [
                webhook
                for webhook in await session.scalars(query)
                if self._looked.get(webhook.id) != _look(webhook, here)
            ]
        some = asyncio.Semaphore(AT_ONCE)

        async def serve(webhook: Webhook) -> int:
            async with some:
                try:
                    return await self._serve(webhook, here)
                except Exception as error:
                    if isinstance(error, (OSError, OperationalError)):
                        raise
                    log.error("webhook.broken", webhook=str(webhook.id), cause=repr(error)[:500])
                    await self._failed_here(webhook, repr(error))
                    return 0

        return sum(await asyncio.gather(*(serve(webhook) for webhook in due)))

    async def _serve(self, webhook: Webhook, here: Place) -> int:
        taken = 0
        while taken < IN_A_ROW:
            claimed = await self._claim(webhook, here)
            if claimed is None:
                return taken
            webhook, batch = claimed
            body = self._written(batch)
            began = time.monotonic()
            answer = await self._post(webhook, batch.name, body)
            await self._record(webhook, batch, answer, time.monotonic() - began)
            if not answer.good:
                return taken
            taken += 1
        return taken

    async def _claim(self, old: Webhook, here: Place) -> tuple[Webhook, _Batch] | None:
        """The webhook, which is ours for a while, and what to tell it; None if there is nothing."""
        now, company = self._clock(), old.company_id
        async with self._sessions.read(company) as session:
            webhook = await registry.find(session, old.id)
            if webhook is None or webhook.state != "active" or webhook.next_at > now:
                return None
            place = Place(webhook.tx, webhook.seq)
            end = None
            if webhook.end_tx is not None and webhook.end_seq is not None:
                end = Place(webhook.end_tx, webhook.end_seq)
            limit = 1000 if end else self._settings.batch  # The setting may have changed.
            events = await events_after(session, place, kinds=webhook.kinds, until=end, limit=limit)
            story = await tell(session, events)
        if not events:
            self._looked[webhook.id] = _look(webhook, here)
            if here.seq - place.seq > STRIDE and end is None:
                async with self._sessions.begin(company) as session:
                    await registry.move(session, webhook, here)
            return None
        end = Place(events[-1].tx, events[-1].seq)
        name = webhook.batch or f"msg_{uuid7().hex}"
        lease = now + self._settings.timeout + GRACE
        free = or_(Webhook.claimed_until.is_(None), Webhook.claimed_until <= now)
        async with self._sessions.begin(company) as session:
            done = await session.execute(
                update(Webhook)
                .where(
                    Webhook.id == webhook.id,
                    Webhook.tx == place.tx,
                    Webhook.seq == place.seq,
                    Webhook.batch == webhook.batch,
                    Webhook.state == "active",
                    free,
                )
                .values(batch=name, end_tx=end.tx, end_seq=end.seq, claimed_until=lease)
                .execution_options(synchronize_session=False)
            )
        if not getattr(done, "rowcount", 0):
            return None
        return webhook, _Batch(name, end, story, events[0].seq)

    def _written(self, batch: _Batch) -> bytes:
        body = {
            "type": "events",
            "timestamp": self._clock().isoformat(),
            "data": {"events": batch.events, "cursor": str(batch.end)},
        }
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    async def _post(self, webhook: Webhook, name: str, body: bytes) -> Answer:
        settings = self._settings
        now = self._clock()
        headers = {
            "content-type": "application/json",
            "user-agent": "Waypost-Webhooks/1",
            **signed(name, now, body, registry.keys_of(webhook, self._seal, now=now)),
        }
        try:
            target = target_of(
                webhook.url, allow_http=settings.allow_http, allow_private=settings.allow_private
            )
            found = await addresses(self._resolver, target, allow_private=settings.allow_private)
        except (PermanentError, TemporaryError) as error:
            return Answer(None, error.public[:300])
        headers["host"] = target.named
        seconds = settings.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                for address in found[:-1]:
                    try:
                        return await self._ask(target, address, headers, body)
                    except (httpx.ConnectError, httpx.ConnectTimeout):
                        continue
                return await self._ask(target, found[-1], headers, body)
        except TimeoutError:
            return Answer(None, f"no answer within {seconds:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer(None, f"{type(error).__name__}: {error}"[:300])

    async def _ask(
        self, target: Target, address: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        seconds = self._settings.timeout.total_seconds()
        async with (
            httpx.AsyncClient(  # One for each try: a connection never serves another name.
                verify=self._trust,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(seconds, connect=min(seconds, 5.0)),
            ) as client,
            client.stream(
                "POST",
                target.at(address),
                content=body,
                headers=headers,
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            read = 0
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read > MAX_ANSWER_BYTES:
                    break
            return _judged(response)

    async def _record(
        self, webhook: Webhook, batch: _Batch, answer: Answer, seconds: float
    ) -> None:
        now = self._clock()
        since = webhook.failing_since or now
        values: dict[str, Any] = {"claimed_until": None}
        if answer.good:
            values |= {
                "tx": batch.end.tx,
                "seq": batch.end.seq,
                "batch": "",
                "end_tx": None,
                "end_seq": None,
                "failures": 0,
                "failing_since": None,
                "reason": "",
                "told_at": now,
            }
        else:
            failures = webhook.failures + 1
            wait = pause(failures, luck=self._luck(), asked=answer.retry_after)
            said = answer.error or f"the server answered {answer.status}"
            values |= {
                "failures": failures,
                "failing_since": since,
                "next_at": now + wait,
                "reason": said,
            }
            off = why_switched_off(
                answer.status,
                failing_since=since,
                now=now,
                give_up_after=self._settings.give_up_after,
            )
            if off:
                values |= {"state": "disabled", "reason": f"{off}; {said}"[:500]}
                log.warning("webhook.switched_off", webhook=str(webhook.id), reason=off)
        async with self._sessions.begin(webhook.company_id) as session:
            await session.execute(
                update(Webhook)
                .where(Webhook.id == webhook.id, Webhook.batch == batch.name)
                .values(**values)
                .execution_options(synchronize_session=False)
            )
            if await registry.find(session, webhook.id) is None:
                return  # It was removed meanwhile.
            session.add(
                WebhookAttempt(
                    webhook_id=webhook.id,
                    at=now,
                    batch=batch.name,
                    events=len(batch.events),
                    first_seq=batch.first_seq,
                    last_seq=batch.end.seq,
                    status=answer.status,
                    error=answer.error,
                    seconds=round(seconds, 3),
                )
            )
            await session.flush()
            await registry.forget_attempts(session, webhook.id, keep=self._settings.keep_attempts)
        log.info(
            "webhook.told" if answer.good else "webhook.failed",
            webhook=str(webhook.id),
            events=len(batch.events),
            status=answer.status,
            error=answer.error or None,
        )

    async def _failed_here(self, webhook: Webhook, cause: str) -> None:
        """What we can't make sense of ourselves is tried again later, with its cause."""
        wait = pause(webhook.failures + 1, luck=self._luck())
        async with self._sessions.begin(webhook.company_id) as session:
            await session.execute(
                update(Webhook)
                .where(Webhook.id == webhook.id)
                .values(
                    failures=webhook.failures + 1,
                    reason=f"on our side: {cause}"[:500],
                    next_at=self._clock() + wait,
                    claimed_until=None,
                )
                .execution_options(synchronize_session=False)
            )


def _look(webhook: Webhook, here: Place) -> tuple[Any, ...]:
    """What has to change before there may be something new for a webhook."""
    return here, webhook.tx, webhook.seq, tuple(webhook.kinds)


def _judged(response: httpx.Response) -> Answer:
    asked = response.headers.get("retry-after", "")
    seconds = float(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 8 else None
    error = ""
    if response.is_redirect:
        error = f"{response.status_code}: redirects are not followed. Give the URL it leads to."
    return Answer(response.status_code, error, seconds)

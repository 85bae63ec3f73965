"""The webhooks of a company: set up, changed, set back, removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind
from bus.stream import Place, newest
from config.sections.api import WebhookSettings
from mail.errors import PermanentError
from mail.ids import uuid7
from monitor.webhooks.signature import new_secret
from monitor.webhooks.target import target_of
from storage.sealing import Seal
from storage.tables import Webhook, WebhookAttempt

MOST = 20
"""Webhooks of one company."""

MAX_DESCRIPTION = 200
OLD_SECRET = timedelta(hours=24)
"""How long the secret before still signs beside the new one."""


async def add(
    session: AsyncSession,
    seal: Seal,
    settings: WebhookSettings,
    *,
    url: str,
    kinds: Sequence[str] = (),
    description: str = "",
    now: datetime,
) -> tuple[Webhook, str]:
    """A new webhook, which is told of what happens from now on, and its secret, shown this once.

    Raises `PermanentError` naming the field that is wrong.
    """
    checked_url, checked_kinds = _url(settings, url), _kinds(kinds)
    count = await session.scalar(select(func.count(Webhook.id)))
    if (count or 0) >= MOST:
        raise PermanentError(f"url: {MOST} webhooks are enough. Remove one first.")
    secret, here = new_secret(), await newest(session)
    webhook = Webhook(
        id=uuid7(),
        url=checked_url,
        description=_line(description),
        kinds=checked_kinds,
        secrets=[seal.seal(secret)],
        second_until=None,
        state="active",
        reason="",
        tx=here.tx,
        seq=here.seq,
        batch="",
        end_tx=None,
        end_seq=None,
        failures=0,
        failing_since=None,
        next_at=now,
        claimed_until=None,
        told_at=None,
        created_at=now,
    )
    session.add(webhook)
    await session.flush()
    return webhook, secret


async def all_of(session: AsyncSession) -> list[Webhook]:
    """The company's webhooks, the oldest first."""
    return list(await session.scalars(select(Webhook).order_by(Webhook.id)))


async def find(session: AsyncSession, webhook_id: UUID) -> Webhook | None:
    """A webhook of the company."""
    query = select(Webhook).where(Webhook.id == webhook_id)
    return (await session.scalars(query)).one_or_none()


async def attempts_of(
    session: AsyncSession, webhook: Webhook, *, limit: int = 20
) -> list[WebhookAttempt]:
    """The last tries, the newest first."""
    query = select(WebhookAttempt).where(WebhookAttempt.webhook_id == webhook.id)
    return list(await session.scalars(query.order_by(WebhookAttempt.id.desc()).limit(limit)))


async def change(
    session: AsyncSession,
    webhook: Webhook,
    settings: WebhookSettings,
    *,
    url: str | None = None,
    kinds: Sequence[str] | None = None,
    description: str | None = None,
) -> None:
    """Changes what is given. A batch that is under way is made up anew."""
    if url is not None:
        webhook.url = _url(settings, url)
    if kinds is not None:
        webhook.kinds = _kinds(kinds)
        _drop_batch(webhook)
    if description is not None:
        webhook.description = _line(description)
    await session.flush()


async def rotate(
    session: AsyncSession,
    seal: Seal,
    webhook: Webhook,
    *,
    keep: timedelta = OLD_SECRET,
    now: datetime,
) -> str:
    """A new secret, shown this once; the one before signs too for a while."""
    secret = new_secret()
    webhook.secrets = [seal.seal(secret), *webhook.secrets[:1]]
    webhook.second_until = now + keep
    await session.flush()
    return secret


async def replay(session: AsyncSession, webhook: Webhook, place: Place, *, now: datetime) -> None:
    """Tells it again of everything after a place."""
    webhook.tx, webhook.seq = place.tx, place.seq
    _drop_batch(webhook)
    webhook.next_at = now
    await session.flush()


async def switch_on(session: AsyncSession, webhook: Webhook, *, now: datetime) -> None:
    """Tries it again now, from where it was left."""
    webhook.state, webhook.reason = "active", ""
    webhook.failures, webhook.failing_since, webhook.next_at = 0, None, now
    await session.flush()


async def switch_off(session: AsyncSession, webhook: Webhook, *, reason: str) -> None:
    """Tells it nothing until it is switched on again; what happens meanwhile waits."""
    webhook.state, webhook.reason = "disabled", reason[:500]
    await session.flush()


async def remove(session: AsyncSession, webhook: Webhook) -> None:
    """Forgets a webhook and its tries."""
    await session.execute(delete(WebhookAttempt).where(WebhookAttempt.webhook_id == webhook.id))
    await session.execute(delete(Webhook).where(Webhook.id == webhook.id))


def keys_of(webhook: Webhook, seal: Seal, *, now: datetime) -> list[str]:
    """The secrets that sign now."""
    second = webhook.second_until is not None and now < webhook.second_until
    return [seal.open(str(one)) for one in webhook.secrets[: 2 if second else 1]]


def _drop_batch(webhook: Webhook) -> None:
    webhook.batch, webhook.end_tx, webhook.end_seq = "", None, None
    webhook.claimed_until = None


def _url(settings: WebhookSettings, url: str) -> str:
    target_of(url, allow_http=settings.allow_http, allow_private=settings.allow_private)
    return url


def _kinds(kinds: Sequence[Any]) -> list[str]:
    known = {str(kind) for kind in Kind}
    for kind in kinds:
        if kind not in known:
            raise PermanentError(
                f'kinds: "{str(kind)[:60]}" is none of {", ".join(sorted(known))}.'
            )
    return sorted(set(kinds))


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_DESCRIPTION]


async def forget_attempts(session: AsyncSession, webhook_id: UUID, *, keep: int) -> None:
    """Keeps only the newest tries of a webhook."""
    newest_ids = (
        select(WebhookAttempt.id)
        .where(WebhookAttempt.webhook_id == webhook_id)
        .order_by(WebhookAttempt.id.desc())
        .offset(keep)
        .limit(1)
    )
    oldest_to_go = await session.scalar(newest_ids)
    if oldest_to_go is not None:
        await session.execute(
            delete(WebhookAttempt).where(
                WebhookAttempt.webhook_id == webhook_id, WebhookAttempt.id <= oldest_to_go
            )
        )


async def move(session: AsyncSession, webhook: Webhook, place: Place) -> None:
    """Passes by what this webhook isn't told of; nothing if it was moved meanwhile."""
    await session.execute(
        update(Webhook)
        .where(
            Webhook.id == webhook.id,
            Webhook.tx == webhook.tx,
            Webhook.seq == webhook.seq,
            Webhook.end_seq.is_(None),
        )
        .values(tx=place.tx, seq=place.seq)
        .execution_options(synchronize_session=False)
    )

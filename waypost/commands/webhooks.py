"""`waypost webhook`: where companies' own servers are told of events."""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.stream import place_before
from mail.errors import PermanentError
from monitor.webhooks import registry
from storage.sessions import EVERY_COMPANY, narrow
from storage.tables import Company, Webhook
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance


def add(chosen: Namespace) -> int:
    """Adds a webhook and shows its secret, once."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            webhook, secret = await registry.add(
                session,
                parts.seal,
                parts.settings.webhooks,
                url=chosen.url,
                kinds=chosen.kind or (),
                description=chosen.description,
                now=parts.clock(),
            )
        print(f"id      {webhook.id}")
        print(f"secret  {secret}")
        print("The secret is shown this once: give it to the server that is told.")
        return 0

    return run(chosen, work)


def show(chosen: Namespace) -> int:
    """Lists webhooks with what went wrong last."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        query = select(Webhook, Company.name).join(Company, Company.id == Webhook.company_id)
        if chosen.company:
            company = await company_named(parts.sessions, chosen.company)
            query = query.where(Webhook.company_id == company)
        async with parts.sessions.read(EVERY_COMPANY) as session:
            found = (await session.execute(query.order_by(Webhook.id))).all()
        rows = [(w.id, name, w.url, w.state, w.told_at, w.reason) for w, name in found]
        heads = ("id", "company", "url", "state", "told (UTC)", "trouble")
        table(heads, rows, "No webhook yet: waypost webhook add URL --company NAME")
        return 0

    return run(chosen, work)


def act(chosen: Namespace) -> int:
    """Removes, switches or tells again, or makes a new secret."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now = parts.clock()
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            webhook = await _find(session, chosen.id)
            if chosen.action == "remove":
                await registry.remove(session, webhook)
            elif chosen.action == "rotate":
                secret = await registry.rotate(session, parts.seal, webhook, now=now)
                print(f"secret  {secret}")
                print("For a day the one before signs too.")
            elif chosen.action == "replay":
                since = now - timedelta(hours=chosen.hours)
                place = await place_before(session, since)
                await registry.replay(session, webhook, place, now=now)
            elif chosen.action == "enable":
                await registry.switch_on(session, webhook, now=now)
            else:
                await registry.switch_off(session, webhook, reason="switched off on the host")
        print("Done.")
        return 0

    return run(chosen, work)


async def _find(session: AsyncSession, text: str) -> Webhook:
    """The webhook, in a session that is narrowed to its company."""
    try:
        key = UUID(text)
    except ValueError:
        raise PermanentError(
            f"{text[:60]} is not an id. `waypost webhook list` has them."
        ) from None
    company = await session.scalar(select(Webhook.company_id).where(Webhook.id == key))
    if company is not None:
        narrow(session, company)
        webhook = await registry.find(session, key)
        if webhook is not None:
            return webhook
    raise PermanentError(f"No webhook has the id {text}.")

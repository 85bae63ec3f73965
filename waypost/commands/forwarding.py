"""`waypost user set` and `waypost domain set`: whose answers go to a mailbox as well."""

from __future__ import annotations

from argparse import Namespace

from sqlalchemy import select

from console import access
from mail.errors import PermanentError
from mta import accounts
from storage.sessions import EVERY_COMPANY
from storage.tables import Domain, User
from waypost.commands.running import run
from waypost.wiring import Appliance


def set_user(chosen: Namespace) -> int:
    """Says whether a user gets answers in their own mailbox, too."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        on = chosen.forward_replies == "yes"
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            query = select(User).where(User.email == chosen.email.strip().lower())
            user = await session.scalar(query)
            if user is None:
                raise PermanentError(f"No user has the address {chosen.email}.")
            await access.forward_replies(session, user, on=on)
        print(f"{user.email} {'gets' if on else 'does not get'} people's answers as mail.")
        return 0

    return run(chosen, work)


def set_domain(chosen: Namespace) -> int:
    """Says whether answers to a domain's mail go to whoever it was from, too."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        on = chosen.forward_replies == "yes"
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            query = select(Domain).where(Domain.name == chosen.name.strip().rstrip(".").lower())
            domain = await session.scalar(query)
            if domain is None:
                raise PermanentError(f"There is no domain {chosen.name}: waypost domain list")
            await accounts.forward_replies(session, domain, on=on)
        print(f"Answers to mail of {domain.name} {'go' if on else 'do not go'} on as mail.")
        return 0

    return run(chosen, work)

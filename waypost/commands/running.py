"""Runs a command's work on the appliance that its options name."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy import select

from mail.errors import PermanentError
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company
from waypost.wiring import Appliance, appliance, read_settings


def run(chosen: Namespace, work: Callable[[Appliance, Namespace], Awaitable[int]]) -> int:
    """Builds the appliance, does the work, takes it down again; gives the exit code."""

    async def whole() -> int:
        async with appliance(read_settings(chosen.config)) as parts:
            return await work(parts, chosen)

    return asyncio.run(whole())


async def company_named(sessions: Sessions, name: str) -> UUID:
    """The id of a company. Raises `PermanentError` naming those there are."""
    async with sessions.read(EVERY_COMPANY) as session:
        companies = (await session.scalars(select(Company).order_by(Company.name))).all()
    for company in companies:
        if company.name.casefold() == name.casefold():
            return company.id
    known = ", ".join(f'"{company.name}"' for company in companies) or "none yet"
    raise PermanentError(f'No company is called "{name}". There are: {known}.')

"""CONTENT, DOMAINS and PEOPLE: what the company has, and who may do what."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from litestar import Response
from sqlalchemy import select

from console.access import Visit
from console.desk import Call, Desk, PageError
from content import library
from mta import accounts
from storage.tables import Domain, User


async def content(desk: Desk, call: Call) -> Response[Any]:
    """The library, searched by words."""
    who = await desk.signed_in(call)
    words = call.query_params.get("q", "")[:200]
    async with desk.sessions.read(who.company.id) as session:
        items = await library.search(session, words, limit=200)
    return desk.page("content.html", who, items=items, words=words)


async def domains(desk: Desk, call: Call) -> Response[Any]:
    """Sending domains with the records they need."""
    who = await _manager(desk, call)
    settings = desk.settings
    public = urlsplit(settings.public.url).hostname or settings.host.name
    async with desk.sessions.read(who.company.id) as session:
        found = (await session.scalars(select(Domain).order_by(Domain.name))).all()
    rows = [
        (
            domain,
            accounts.dns_records(domain, desk.seal, host=settings.host.name, public_host=public),
        )
        for domain in found
    ]
    return desk.page("domains.html", who, rows=rows)


async def people(desk: Desk, call: Call) -> Response[Any]:
    """The company's users."""
    who = await _manager(desk, call)
    async with desk.sessions.read(who.company.id) as session:
        users = (await session.scalars(select(User).order_by(User.email))).all()
    return desk.page("people.html", who, users=users)


async def _manager(desk: Desk, call: Call) -> Visit:
    who = await desk.signed_in(call)
    if not who.may_manage:
        raise PageError(403, "For owners and managers", "Ask one of them to look for you.")
    return who

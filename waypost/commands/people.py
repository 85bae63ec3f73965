"""`waypost company` and `waypost user`."""

from __future__ import annotations

import getpass
from argparse import Namespace
from datetime import timedelta

from sqlalchemy import func, select

from console import access
from mail.errors import PermanentError
from storage.sessions import EVERY_COMPANY
from storage.tables import Company, Contact, User
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance

INVITATION = timedelta(days=2)
"""How long a link printed by the command line works; it is passed on by hand."""


def add_company(chosen: Namespace) -> int:
    """Adds a company."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            company = await access.add_company(
                session, chosen.name, postal_address=chosen.postal_address, now=parts.clock()
            )
        print(f"{company.name} is company {company.number}.")
        print(f'Next: waypost user add EMAIL --company "{company.name}" --role owner')
        return 0

    return run(chosen, work)


def list_companies(chosen: Namespace) -> int:
    """Lists companies with how many users and contacts each has."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        rows = []
        async with parts.sessions.read(EVERY_COMPANY) as session:
            for company in await session.scalars(select(Company).order_by(Company.number)):
                users = select(func.count(User.id)).where(User.company_id == company.id)
                people = select(func.count(Contact.id)).where(Contact.company_id == company.id)
                counts = (await session.scalar(users), await session.scalar(people))
                rows.append((company.number, company.name, *counts, company.created_at))
        table(("no", "company", "users", "contacts", "since (UTC)"), rows, "No company yet.")
        return 0

    return run(chosen, work)


def add_user(chosen: Namespace) -> int:
    """Adds a user and prints the link that signs the person in the first time."""
    password = getpass.getpass("Password: ") if chosen.password else None

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        now = parts.clock()
        async with parts.sessions.begin(company) as session:
            user = await access.add_user(
                session,
                email=chosen.email,
                name=chosen.name,
                role=chosen.role,
                password=password,
                zone=chosen.zone,
                now=now,
            )
            secret = await access.make_sign_in_link(session, user, now=now, lifetime=INVITATION)
        print(f"{user.email} is {user.role}. Sign in within two days, once, at")
        print(f"  {sign_in_url(parts, secret)}")
        return 0

    return run(chosen, work)


def list_users(chosen: Namespace) -> int:
    """Lists users."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        query = select(User, Company.name).join(Company, Company.id == User.company_id)
        if chosen.company:
            query = query.where(
                User.company_id == await company_named(parts.sessions, chosen.company)
            )
        async with parts.sessions.read(EVERY_COMPANY) as session:
            found = (await session.execute(query.order_by(Company.number, User.email))).all()
        rows = [
            (
                user.email,
                user.name,
                user.role,
                company,
                "no" if user.disabled_at else "yes",
                "yes" if user.forward_replies else "no",
            )
            for user, company in found
        ]
        heads = ("email", "name", "role", "company", "may sign in", "answers as mail")
        table(heads, rows, "No user yet.")
        return 0

    return run(chosen, work)


def sign_in_link(chosen: Namespace) -> int:
    """Prints a one-time sign-in link for somebody who can't get mail."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now = parts.clock()
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            found = await session.scalars(select(User).where(User.email == chosen.email.lower()))
            user = found.one_or_none()
            if user is None:
                raise PermanentError(f"No user has the address {chosen.email}.")
            lifetime = parts.settings.console.sign_in_link
            secret = await access.make_sign_in_link(session, user, now=now, lifetime=lifetime)
        print(sign_in_url(parts, secret))
        return 0

    return run(chosen, work)


def sign_in_url(parts: Appliance, secret: str) -> str:
    """Where a sign-in link leads."""
    return f"{parts.settings.console.url.rstrip('/')}/sign-in/{secret}"

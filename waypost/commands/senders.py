"""`waypost credential` and `waypost mailbox`."""

from __future__ import annotations

import getpass
from argparse import Namespace

from sqlalchemy import select, update

from inbound import mailbox
from mail.errors import PermanentError
from mta import accounts
from storage.sessions import EVERY_COMPANY
from storage.tables import Company, Credential, Mailbox
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance


def add_credential(chosen: Namespace) -> int:
    """Makes a credential and shows its secret, once."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            credential, secret = await accounts.add_credential(
                session,
                chosen.kind,
                login=chosen.login,
                address=chosen.address,
                scopes=chosen.scope,
                domains=chosen.domain,
                now=parts.clock(),
            )
        print(f"login   {credential.login}")
        print(f"secret  {secret}")
        print("The secret is kept as a hash only: write it down now.")
        return 0

    return run(chosen, work)


def list_credentials(chosen: Namespace) -> int:
    """Lists credentials, without secrets."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        query = select(Credential, Company.name).join(Company, Company.id == Credential.company_id)
        if chosen.company:
            company = await company_named(parts.sessions, chosen.company)
            query = query.where(Credential.company_id == company)
        async with parts.sessions.read(EVERY_COMPANY) as session:
            found = (await session.execute(query.order_by(Credential.created_at))).all()
        rows = [
            (c.login, c.kind, c.address or c.domains, c.scopes, name, c.created_at, c.revoked_at)
            for c, name in found
        ]
        heads = (
            "login",
            "kind",
            "sends only as",
            "scopes",
            "company",
            "made (UTC)",
            "revoked (UTC)",
        )
        table(heads, rows, "No credential yet: waypost credential add --company NAME")
        return 0

    return run(chosen, work)


def revoke_credential(chosen: Namespace) -> int:
    """Ends a credential at once."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            ended = await session.execute(
                update(Credential)
                .where(Credential.login == chosen.login, Credential.revoked_at.is_(None))
                .values(revoked_at=parts.clock())
            )
        if not getattr(ended, "rowcount", 0):
            raise PermanentError(f"No live credential has the login {chosen.login}.")
        print(f"{chosen.login} no longer works.")
        return 0

    return run(chosen, work)


def add_mailbox(chosen: Namespace) -> int:
    """Adds a mailbox that is fetched by IMAP."""
    password = getpass.getpass(f"Password of {chosen.login} at {chosen.host}: ")

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            added = await mailbox.add_mailbox(
                session,
                parts.seal,
                host=chosen.host,
                port=chosen.port,
                tls=not chosen.no_tls,
                login=chosen.login,
                password=password,
                folder=chosen.folder,
                now=parts.clock(),
            )
        print(f"{added.login} at {added.host}:{added.port} is fetched from now on.")
        return 0

    return run(chosen, work)


def list_mailboxes(chosen: Namespace) -> int:
    """Lists mailboxes with what went wrong last."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        query = select(Mailbox).order_by(Mailbox.created_at)
        if chosen.company:
            company = await company_named(parts.sessions, chosen.company)
            query = query.where(Mailbox.company_id == company)
        async with parts.sessions.read(EVERY_COMPANY) as session:
            found = (await session.scalars(query)).all()
        rows = [(m.login, f"{m.host}:{m.port}", m.folder, m.checked_at, m.error) for m in found]
        heads = ("login", "server", "folder", "looked at (UTC)", "trouble")
        table(heads, rows, "No mailbox yet: waypost mailbox add LOGIN --host HOST --company NAME")
        return 0

    return run(chosen, work)

"""`waypost init`, `check`, `serve` and `upgrade`."""

from __future__ import annotations

import asyncio
import signal
from argparse import Namespace
from pathlib import Path

from config.load import load
from mail.address import parse_address
from mail.errors import ConfigError
from storage.sessions import EVERY_COMPANY
from waypost import logs
from waypost.commands.domains import print_records
from waypost.commands.people import INVITATION, sign_in_url
from waypost.wiring import appliance, config_path, read_settings

FILE = """\
# Waypost on {host}. Every setting with its default: `waypost config reference`.

[host]
name = "{host}"
data = "data"

[public]
url = "https://{host}"

[console]
url = "http://localhost:8026"
"""


def init(chosen: Namespace) -> int:
    """Makes a folder with settings, keys, store and the first company."""
    folder = Path(chosen.folder)
    path = folder / "waypost.toml"
    if path.exists():
        raise ConfigError(f"{path} is there already. Choose another folder, or remove it first.")
    if parse_address(chosen.admin) is None:
        raise ConfigError(f'--admin "{chosen.admin}" is not an e-mail address.')
    if parse_address(f"postmaster@{chosen.domain}") is None:
        raise ConfigError(f'--domain "{chosen.domain}" is not a domain name.')
    host = chosen.host or f"waypost.{chosen.domain.lower()}"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(FILE.format(host=host), encoding="utf-8")
    return asyncio.run(_init(chosen, path))


async def _init(chosen: Namespace, path: Path) -> int:
    from console import access
    from mta import accounts

    async with appliance(load(path), migrated=False) as parts:
        now = parts.clock()
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            company = await access.add_company(
                session, chosen.company, postal_address=chosen.postal_address, now=now
            )
        async with parts.sessions.begin(company.id) as session:
            user = await access.add_user(
                session, email=chosen.admin, name="", role="owner", zone="UTC", now=now
            )
            secret = await access.make_sign_in_link(session, user, now=now, lifetime=INVITATION)
            domain = await accounts.add_domain(session, parts.seal, chosen.domain, now=now)
        print(f"Made {path}, the keys, the store, and {company.name} with {user.email}.\n")
        await print_records(parts, domain)
        print(f"Then: waypost serve --config {path}")
        print(f"and sign in within two days, once, at\n  {sign_in_url(parts, secret)}")
    return 0


def check(chosen: Namespace) -> int:
    """Says what is right, what is wrong and how to mend it; 1 if something is wrong."""
    from monitor.checks import all_checks

    async def work() -> int:
        settings = read_settings(chosen.config)
        async with appliance(settings) as parts:
            findings = await all_checks(
                settings=settings,
                sessions=parts.sessions,
                seal=parts.seal,
                resolver=None if chosen.offline else parts.resolver,
                clock=parts.clock,
            )
        for finding in findings:
            print(f"{'right' if finding.right else 'WRONG'}  {finding.what}")
            if not finding.right:
                print(f"       {finding.remedy}")
        wrong = sum(not finding.right for finding in findings)
        print(f"\n{len(findings) - wrong} right, {wrong} wrong.")
        return 1 if wrong else 0

    return asyncio.run(work())


def serve(chosen: Namespace) -> int:
    """Runs one role, or keeps all of them running."""
    from waypost import roles
    from waypost.supervisor import Supervisor, die_with_parent

    if chosen.supervised:
        die_with_parent()
    settings = read_settings(chosen.config)
    logs.set_up(settings.log)
    if chosen.role:
        runner = asyncio.Runner(loop_factory=_fast_loop)
        with runner:
            runner.run(roles.serve_role(settings, chosen.role, chosen.name or chosen.role))
        return 0

    async def all_roles() -> None:
        async with appliance(settings):  # Says at once what is wrong with the store.
            pass
        supervisor = Supervisor(config_path(chosen.config).resolve(), roles.role_names(settings))
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, supervisor.stop)
        await supervisor.run()

    asyncio.run(all_roles())
    return 0


def _fast_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def upgrade(chosen: Namespace) -> int:
    """Brings the database to the tables of this version."""

    async def work() -> int:
        async with appliance(read_settings(chosen.config), migrated=False):
            print("The database has the tables of this version.")
        return 0

    return asyncio.run(work())

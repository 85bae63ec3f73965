"""Reads the settings once and builds what the parts need; the only place that knows all of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.load import load
from config.settings import Settings
from mail.errors import ConfigError
from mail.tokens import TokenKeys
from mta.resolver import Resolver
from mta.spool import Spool
from storage import migrate
from storage.engine import database_url, make_engine
from storage.sealing import Seal, secret_file
from storage.sessions import Sessions

SYSTEM_CONFIG = Path("/etc/waypost/waypost.toml")


@dataclass(frozen=True, slots=True)
class Appliance:
    """What the parts are built from."""

    settings: Settings
    sessions: Sessions
    keys: TokenKeys
    seal: Seal
    spool: Spool
    resolver: Resolver
    clock: Callable[[], datetime]


def config_path(named: str | None) -> Path:
    """The file that was named, else $WAYPOST_CONFIG, else ./waypost.toml, else the system's."""
    if chosen := named or os.environ.get("WAYPOST_CONFIG"):
        return Path(chosen)
    here = Path("waypost.toml")
    return here if here.exists() else SYSTEM_CONFIG


def now() -> datetime:
    """The clock of a running appliance."""
    return datetime.now(UTC)


def keys_folder(settings: Settings) -> Path:
    """Where the secret keys lie."""
    return settings.host.data / "keys"


def token_keys(settings: Settings) -> TokenKeys:
    """The keys `token-0`, `token-1` … of the keys folder; the newest one signs."""
    folder = keys_folder(settings)
    secret_file(folder / "token-0")
    names = [path.name.removeprefix("token-") for path in folder.glob("token-*")]
    numbers = sorted(int(name) for name in names if name.isdigit())
    keys = {number % 16: secret_file(folder / f"token-{number}") for number in numbers}
    return TokenKeys(keys, current=numbers[-1] % 16)


@asynccontextmanager
async def appliance(settings: Settings, *, migrated: bool = True) -> AsyncIterator[Appliance]:
    """An appliance for the length of a command or a process.

    Raises `ConfigError` if the database is not at this version's tables, unless `migrated` is
    false: then it is brought there.
    """
    settings.host.data.mkdir(parents=True, exist_ok=True, mode=0o750)
    url = database_url(settings.store.url, settings.host.data)
    engine = make_engine(url, pool=settings.store.pool)
    try:
        if not migrated:
            await migrate.upgrade(engine)
        elif not await migrate.is_current(engine):
            raise ConfigError(
                "The database is not at this version's tables. `waypost upgrade` brings it there."
            )
        spool = Spool(settings.host.data / "spool")
        try:
            yield Appliance(
                settings=settings,
                sessions=Sessions(engine),
                keys=token_keys(settings),
                seal=Seal(secret_file(keys_folder(settings) / "seal")),
                spool=spool,
                resolver=Resolver(
                    settings.dns.servers, timeout_seconds=settings.dns.timeout_seconds
                ),
                clock=now,
            )
        finally:
            spool.close()
    finally:
        await engine.dispose()


def read_settings(named: str | None) -> Settings:
    """The settings of the file that `config_path` finds."""
    return load(config_path(named))

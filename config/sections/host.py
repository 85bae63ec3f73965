"""Who the appliance is, and where it keeps things."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from config.values import Duration, Section


class HostSettings(Section):
    """[host] Who the appliance is among mail servers."""

    name: str = "localhost.localdomain"
    """Its full host name, said in HELO and part of every Message-ID; its address resolves to it."""

    data: Path = Path("data")
    """Folder for the store, the spool and the keys; relative to the folder of this file."""

    @field_validator("name")
    @classmethod
    def _has_a_dot(cls, value: str) -> str:
        if "." not in value.strip(".") or " " in value:
            raise ValueError(
                f'"{value}" is not a full host name. Write for example "mail.example.com"'
            )
        return value.lower()


class StoreSettings(Section):
    """[store] The database."""

    url: str = ""
    """Empty for SQLite in the data folder, or "postgresql://user:password@host/name"."""

    pool: int = Field(default=8, ge=1, le=100)
    """Connections that one process keeps open to PostgreSQL."""

    keep_sent: Duration = timedelta(days=30)
    """How long the bytes of mail that was submitted by SMTP are kept after it went out."""

    @field_validator("url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(("postgresql://", "sqlite:///")):
            raise ValueError(
                f'"{value.split(":")[0]}" is not a database we know. '
                'Leave it empty for SQLite or write "postgresql://user:password@host/name"'
            )
        return value


class DnsSettings(Section):
    """[dns] Whom to ask for names."""

    servers: tuple[str, ...] = ()
    """Name servers as "address" or "address:port"; empty for those of the system."""

    timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    """How long one question may take, over all servers."""


class LogSettings(Section):
    """[log] One line per decision, on standard error."""

    format: Literal["json", "console"] = "json"
    """"json" for machines, "console" for people."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""

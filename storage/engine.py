"""Makes the database engine: SQLite in one file, or PostgreSQL, behind the same code.

SQLite through SQLAlchemy with default settings loses updates silently: the driver begins its
transactions late, so two that read and then write both succeed. Here it never begins by itself
(`isolation_level=None`) and a writing transaction takes the write lock at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from storage.types import to_json

READ_ONLY = "waypost_read_only"
"""Execution option of a connection whose transactions only read."""

BUSY_SECONDS = 30


def database_url(url: str, data: Path) -> str:
    """The URL with its driver; an empty one means SQLite in the data folder."""
    if not url:
        return f"sqlite+aiosqlite:///{data / 'waypost.db'}"
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace(
        "sqlite://", "sqlite+aiosqlite://", 1
    )


def make_engine(url: str, *, pool: int = 8) -> AsyncEngine:
    """An engine for a URL made by `database_url`."""
    if not url.startswith("sqlite"):
        return create_async_engine(
            url, pool_size=pool, max_overflow=pool, pool_pre_ping=True, json_serializer=to_json
        )
    engine = create_async_engine(
        url,
        pool_size=pool,
        max_overflow=2 * pool,
        json_serializer=to_json,
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS},
    )
    event.listen(engine.sync_engine, "connect", _on_connect)
    event.listen(engine.sync_engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    # FULL: a commit is on disk before we say so; WAL: readers do not wait for the writer.
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_SECONDS * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY)
    connection.exec_driver_sql("BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE")

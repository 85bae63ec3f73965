"""Many rows in one statement, straight to the driver.

The mail path writes thousands of rows a second. SQLAlchemy's own way costs 50 to 80 µs of CPU a
row, most of it for binding values one by one; this costs 8 to 15. The types mean what they mean
everywhere else (see `storage.types`).

Rows go in by the dozen in one statement instead of one by one with `executemany`: Python's SQLite
driver gives the interpreter's lock away at each step, and gets it back when others let it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Column, DateTime, Dialect, Executable, Row, Table, Uuid
from sqlalchemy.ext.asyncio import AsyncSession

from storage.sessions import check_rows
from storage.tables.events import current_transaction
from storage.types import Text, UtcDateTime, keepable, to_json

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How rows of one class go in: the statement, and for each value how it is bound."""

    before: str
    row: str
    after: str
    values: tuple[tuple[str, Convert | None, Callable[[], Any]], ...]

    def statement(self, rows: int) -> str:
        """For so many rows."""
        return self.before + ", ".join([self.row] * rows) + self.after


async def insert_many(
    session: AsyncSession,
    kind: type[Any],
    rows: Sequence[dict[str, Any]],
    *,
    unless: Sequence[str] = (),
) -> None:
    """Adds the rows; those whose `unless` columns are taken already are left out.

    Column defaults apply and `company_id` comes from the session's scope, as with `insert_new`.
    Nothing is kept in the session: these rows are read again where they are needed.
    """
    if not rows:
        return
    await session.flush()  # What was added before may be what these rows point to.
    check_rows(session, kind, rows)
    plan = _plan(kind.__table__, session.get_bind().dialect.name, tuple(unless))
    bound = [
        tuple(
            [
                (convert(row[name]) if convert else row[name]) if name in row else default()
                for name, convert, default in plan.values
            ]
        )
        for row in rows
    ]
    connection = await session.connection()
    for start, size in _chunks(len(bound)):
        values = tuple(itertools.chain.from_iterable(bound[start : start + size]))
        await connection.exec_driver_sql(plan.statement(size), values)


async def read_rows(session: AsyncSession, query: Executable) -> Sequence[Row[Any]]:
    """Plain rows of a query that names its company itself, without the weight of the ORM.

    For the few queries that run for every message; the scope is not looked at.
    """
    await session.flush()
    connection = await session.connection()
    return (await connection.execute(query)).all()


async def change_many(
    session: AsyncSession,
    kind: type[Any],
    *,
    set_: Sequence[str],
    where: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> list[Any]:
    """Sets columns of many rows, each found by its own values; returns those that were changed.

    A row of `rows` has the values of `set_`, then those of `where`, whose first is the key: that is
    what is returned. For every company's work only: the scope is not looked at.
    """
    if not rows:
        return []
    await session.flush()
    change = _change(kind.__table__, session.get_bind().dialect, tuple(set_), tuple(where))
    bound = [
        [c(value) if c else value for c, value in zip(change.converts, row, strict=True)]
        for row in rows
    ]
    connection = await session.connection()
    changed: list[Any] = []
    for start, size in _chunks(len(bound)):
        values = tuple(itertools.chain.from_iterable(bound[start : start + size]))
        done = await connection.exec_driver_sql(change.statement(size), values)
        changed += [change.read(row[0]) for row in done.all()]
    return changed


CHUNKS = (128, 32, 8, 2, 1)
"""Rows of one statement: few sizes, so that the driver knows the statements again."""


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    """Cuts so many rows into starts and sizes."""
    start = 0
    for size in CHUNKS:
        while rows - start >= size:
            yield start, size
            start += size


@cache
def _plan(table: Table, dialect: str, unless: tuple[str, ...]) -> _Plan:
    names, marks, values = [], [], []
    for column in table.columns:
        if column.autoincrement is True:
            continue
        names.append(f'"{column.name}"')
        if _is_transaction(column):
            marks.append("0" if dialect == "sqlite" else _POSTGRESQL_TX)
            continue
        marks.append(_mark(column, dialect))
        convert = _converter(column, dialect)
        values.append((column.name, convert, _default(column, convert)))
    before = f'INSERT INTO "{table.name}" ({", ".join(names)}) VALUES '
    taken = ", ".join(f'"{name}"' for name in unless)
    after = f" ON CONFLICT ({taken}) DO NOTHING" if unless else ""
    return _Plan(before, f"({', '.join(marks)})", after, tuple(values))


@dataclass(frozen=True, slots=True)
class _Change:
    before: str
    row: str
    after: str
    converts: tuple[Convert | None, ...]
    read: Convert

    def statement(self, rows: int) -> str:
        """For so many rows."""
        return self.before + ", ".join([self.row] * rows) + self.after


@cache
def _change(
    table: Table, dialect: Dialect, set_: tuple[str, ...], where: tuple[str, ...]
) -> _Change:
    """Both databases know UPDATE … FROM; PostgreSQL has to be told the types of the values."""
    names = [f"v{place}" for place in range(len(set_) + len(where))]
    columns = [table.c[name] for name in (*set_, *where)]
    sqlite = dialect.name == "sqlite"
    marks = ["?" if sqlite else f"CAST(%s AS {column.type.compile(dialect)})" for column in columns]
    sets = ", ".join(f'"{name}" = w.{v}' for name, v in zip(set_, names, strict=False))
    tests = " AND ".join(
        f'"{table.name}"."{name}" = w.{v}'
        for name, v in zip(where, names[len(set_) :], strict=True)
    )
    key = table.c[where[0]]
    return _Change(
        f"WITH w({', '.join(names)}) AS (VALUES ",
        f"({', '.join(marks)})",
        f') UPDATE "{table.name}" SET {sets} FROM w WHERE {tests} '
        f'RETURNING "{table.name}"."{key.name}"',
        tuple(_converter(column, dialect.name) for column in columns),
        UUID if sqlite and isinstance(key.type, Uuid) else _as_it_is,
    )


def _as_it_is(value: Any) -> Any:
    return value


_POSTGRESQL_TX = "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"


def _is_transaction(column: Column[Any]) -> bool:
    default: Any = column.default
    return default is not None and isinstance(default.arg, current_transaction)


def _mark(column: Column[Any], dialect: str) -> str:
    if dialect == "sqlite":
        return "?"
    return "%s::jsonb" if isinstance(column.type, JSON) else "%s"


def _converter(column: Column[Any], dialect: str) -> Convert | None:
    kind = column.type
    if isinstance(kind, Text):
        return _text
    if isinstance(kind, JSON):
        return _json
    if dialect != "sqlite":
        return None
    if isinstance(kind, Uuid):
        return _hex
    return _instant if isinstance(kind, UtcDateTime | DateTime) else None


def _default(column: Column[Any], convert: Convert | None) -> Callable[[], Any]:
    default: Any = column.default
    if default is None:
        return lambda: None
    make = default.arg
    if not callable(make):
        fixed = convert(make) if convert else make
        return lambda: fixed
    return lambda: convert(make(None)) if convert else make(None)


def _text(value: str | None) -> str | None:
    if value is None:
        return None
    return keepable(value if type(value) is str else str(value))


def _json(value: Any) -> str | None:
    return None if value is None else to_json(value)


def _hex(value: UUID | None) -> str | None:
    return None if value is None else value.hex


def _instant(value: datetime | None) -> str | None:
    """As SQLAlchemy keeps it on SQLite: UTC, without a zone, always with microseconds."""
    if value is None:
        return None
    if value.tzinfo is not UTC:
        if value.tzinfo is None:
            raise ValueError(f"{value} has no zone: instants are aware")
        value = value.astimezone(UTC)
    return value.replace(tzinfo=None).isoformat(" ", "microseconds")

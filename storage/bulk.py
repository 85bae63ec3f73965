"""Many rows in one statement, straight to the driver.

The mail path writes thousands of rows a second. SQLAlchemy's own way costs 50 to 80 µs of CPU a
row, most of it for binding values one by one; this costs 8 to 15. The types mean what they mean
everywhere else (see `storage.types`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Column, DateTime, Executable, Row, Table, Uuid
from sqlalchemy.ext.asyncio import AsyncSession

from storage.sessions import check_rows
from storage.tables.events import current_transaction
from storage.types import Text, UtcDateTime, keepable, to_json

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How rows of one class go in: the statement, and for each value how it is bound."""

    statement: str
    values: tuple[tuple[str, Convert | None, Callable[[], Any]], ...]


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
    await connection.exec_driver_sql(plan.statement, bound)


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
) -> int:
    """Sets columns of many rows, each found by its own values; says how many were changed.

    A row of `rows` has the values of `set_`, then those of `where`. For every company's work only:
    the scope is not looked at, so `where` has to name a key.
    """
    if not rows:
        return 0
    dialect = session.get_bind().dialect.name
    statement, converts = _change(kind.__table__, dialect, tuple(set_), tuple(where))
    bound = [
        tuple([c(value) if c else value for c, value in zip(converts, row, strict=True)])
        for row in rows
    ]
    await session.flush()
    connection = await session.connection()
    done = await connection.exec_driver_sql(statement, bound)
    return int(done.rowcount)


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
    statement = f'INSERT INTO "{table.name}" ({", ".join(names)}) VALUES ({", ".join(marks)})'
    if unless:
        taken = ", ".join(f'"{name}"' for name in unless)
        statement += f" ON CONFLICT ({taken}) DO NOTHING"
    return _Plan(statement, tuple(values))


@cache
def _change(
    table: Table, dialect: str, set_: tuple[str, ...], where: tuple[str, ...]
) -> tuple[str, tuple[Convert | None, ...]]:
    sets = ", ".join(f'"{name}" = {_mark(table.c[name], dialect)}' for name in set_)
    tests = " AND ".join(f'"{name}" = {_mark(table.c[name], dialect)}' for name in where)
    converts = tuple(_converter(table.c[name], dialect) for name in (*set_, *where))
    return f'UPDATE "{table.name}" SET {sets} WHERE {tests}', converts


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

"""Sessions that see one company only.

Every query on a table of companies' rows gets `company_id = <scope>` added, wherever in it the
table stands; rows are added and changed within the scope only. A session without a scope raises
at the first such query, and so does SQL that can't be limited (text, bare tables). Work for all
companies says so: `sessions.begin(EVERY_COMPANY)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Insert, Join, Select, Table, TextClause, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql import visitors

from storage.engine import READ_ONLY
from storage.tables.base import CompanyScoped
from storage.turns import Turns


class _Every(Enum):
    EVERY_COMPANY = "every company"


EVERY_COMPANY: Final = _Every.EVERY_COMPANY
"""The scope of work that serves all companies, such as the queue. Use it on purpose."""

Scope = UUID | _Every

_SCOPE = "scope"
_CHECKED = "waypost_scope_checked"


class ScopeError(RuntimeError):
    """A query would have seen other companies' rows. A mistake of ours, never of a user."""


class ScopedSession(Session):
    """The synchronous side of every session; events below guard it."""


def scope_of(session: AsyncSession) -> Scope:
    """The scope that this session works in."""
    scope = session.info.get(_SCOPE)
    if scope is None:
        raise ScopeError("this session has no scope")
    return scope  # type: ignore[no-any-return]


def company_of(session: AsyncSession) -> UUID:
    """The one company of this session."""
    scope = scope_of(session)
    if not isinstance(scope, UUID):
        raise ScopeError("this session is for every company; this work is for one")
    return scope


def narrow(session: AsyncSession, company_id: UUID) -> None:
    """From now on this session sees one company: for a station that has read an event."""
    session.info[_SCOPE] = company_id
    session.expunge_all()


class Sessions:
    """Opens sessions on one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        sqlite = engine.dialect.name == "sqlite"
        self._turns = Turns(engine.url.database if sqlite else None)
        self._writing = async_sessionmaker(
            engine, expire_on_commit=False, sync_session_class=ScopedSession
        )
        self._reading = async_sessionmaker(
            engine.execution_options(**{READ_ONLY: True}),
            expire_on_commit=False,
            sync_session_class=ScopedSession,
        )

    @property
    def dialect(self) -> str:
        """sqlite or postgresql."""
        return self.engine.dialect.name

    @asynccontextmanager
    async def begin(self, scope: Scope) -> AsyncIterator[AsyncSession]:
        """A transaction that writes. Commits at the end, rolls back on an exception."""
        async with (
            self._turns.turn(),
            self._writing(info={_SCOPE: scope}) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def read(self, scope: Scope) -> AsyncIterator[AsyncSession]:
        """A transaction that only reads, and does not wait for writers."""
        async with self._reading(info={_SCOPE: scope, READ_ONLY: True}) as session:
            yield session

    async def close(self) -> None:
        """Gives all connections back."""
        await self.engine.dispose()
        self._turns.close()


async def insert_new(
    session: AsyncSession,
    kind: type[Any],
    rows: Sequence[dict[str, Any]],
    *,
    unless: Sequence[str],
) -> int:
    """Adds the rows whose `unless` columns are not taken yet; says how many were added.

    Column defaults apply; `company_id` comes from the scope.
    """
    if not rows:
        return 0
    filled = [_within_scope(session, kind, row) for row in rows]
    dialect = session.get_bind().dialect.name
    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    added = 0
    for row in filled:  # One statement a row, so that each says whether it was added.
        insert = make(kind).values(**row).on_conflict_do_nothing(index_elements=list(unless))
        statement = insert.returning(*inspect(kind).primary_key)
        result = await session.execute(statement, execution_options={_CHECKED: True})
        added += len(result.all())
    return added


def check_rows(session: AsyncSession, kind: type[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Fills in the scope's company; raises `ScopeError` for a row of another one."""
    for row in rows:
        _within_scope(session, kind, row)


def _within_scope(session: AsyncSession, kind: type[Any], row: dict[str, Any]) -> dict[str, Any]:
    scope = scope_of(session)
    if not issubclass(kind, CompanyScoped):
        return row
    if not isinstance(scope, UUID):
        if "company_id" not in row:
            raise ScopeError("a row for every company has to name its company")
        return row
    if row.setdefault("company_id", scope) != scope:
        raise ScopeError("this row belongs to another company")
    return row


@event.listens_for(ScopedSession, "do_orm_execute")
def _limit_to_scope(state: ORMExecuteState) -> None:
    scope = state.session.info.get(_SCOPE)
    if scope is EVERY_COMPANY or state.execution_options.get(_CHECKED):
        return
    statement = state.statement
    if isinstance(statement, TextClause):
        raise ScopeError("SQL text can't be limited to one company")
    scoped = [part for part in _parts(statement) if _is_scoped(part)]
    if not scoped:
        return
    if scope is None:
        raise ScopeError(f"no company is set for a query on {scoped[0]}")
    if isinstance(statement, Insert):
        raise ScopeError("rows are added with session.add or insert_new")
    bare = [] if state.is_update or state.is_delete else list(_bare_tables(statement))
    if bare or not state.is_orm_statement:
        raise ScopeError(f"query the class, not the table, of {(bare or scoped)[0]}")
    state.statement = statement.options(
        with_loader_criteria(
            CompanyScoped, lambda kind: kind.company_id == scope, include_aliases=True
        )
    )


def _parts(statement: Any) -> Iterator[Any]:
    return visitors.iterate(statement)


def _is_scoped(part: Any) -> bool:
    return isinstance(part, Table) and "company_id" in part.c


def _bare_tables(statement: Any) -> Iterator[Table]:
    """Scoped tables that do not stand for a class, which the criteria would therefore miss.

    What stands for a class carries the mark `parententity`. A column without it (as in the
    look-up by key of `session.get`) is fine where its table also stands for a class.
    """
    classes: set[str] = set()
    columns: list[Table] = []
    for part in _parts(statement):
        if isinstance(part, Select):
            for source in _sources(part):
                if _is_bare(source):
                    yield source
                else:
                    classes.add(source.name)
        elif isinstance(part, Column) and _is_bare(part) and _is_scoped(part.table):
            columns.append(part.table)
    yield from (table for table in columns if table.name not in classes)


def _sources(select: Select[Any]) -> Iterator[Any]:
    waiting: list[Any] = [*select._raw_columns, *select._from_obj]
    waiting += [joined[0] for joined in select._setup_joins]
    while waiting:
        source = waiting.pop()
        if isinstance(source, Join):
            waiting += [source.left, source.right]
        elif _is_scoped(source):
            yield source
        elif isinstance(source, Column) and _is_bare(source) and _is_scoped(source.table):
            yield source.table


def _is_bare(part: Any) -> bool:
    return "parententity" not in part._annotations


@event.listens_for(ScopedSession, "before_flush")
def _keep_within_scope(session: Session, context: UOWTransaction, instances: object) -> None:
    scope = session.info.get(_SCOPE)
    if session.info.get(READ_ONLY):
        raise ScopeError("this session only reads")
    for row in (*session.new, *session.dirty, *session.deleted):
        if not isinstance(row, CompanyScoped):
            continue
        if isinstance(scope, UUID) and row.company_id is None and row in session.new:
            row.company_id = scope
        if scope is not EVERY_COMPANY and row.company_id != scope:
            raise ScopeError(f"this {type(row).__name__} belongs to another company")

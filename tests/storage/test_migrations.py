"""From an empty database to the tables of this version, on both kinds of database."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from storage.migrate import is_current, upgrade
from storage.sessions import Sessions
from storage.tables import Base


async def test_migrations_lead_to_the_tables_as_they_are(any_store: Sessions) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    async with any_store.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_twice_changes_nothing(any_store: Sessions) -> None:
    assert await is_current(any_store.engine)
    await upgrade(any_store.engine)
    assert await is_current(any_store.engine)


async def test_every_table_of_companies_rows_can_be_limited() -> None:
    """A table without a company is named here, with its reason."""
    apart = {
        "company": "the companies themselves",
        "cursor": "how far a station is, over all companies",
        "spool_mark": "how far a file is sorted that has mail of all companies",
        "queue_suspension": "what people stopped; the operator, for all companies",
        "route_override": "where the operator sends mail instead, for all companies",
        "site_state": "how this appliance stands with a provider, for mail of all companies",
    }
    for table in Base.metadata.sorted_tables:
        assert ("company_id" in table.c) != (table.name in apart), table.name

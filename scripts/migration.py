"""Writes a migration from the tables as migrated so far to the tables as they are now.

python scripts/migration.py "Add a column for …"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from storage.migrate import MIGRATIONS, alembic_config


def main() -> None:
    """Migrates an empty database as far as there are migrations, then compares."""
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'empty.db'}")
        with engine.begin() as connection:
            config = alembic_config(connection)
            command.upgrade(config, "head")
        with engine.begin() as connection:
            config = alembic_config(connection)
            number = len(list((MIGRATIONS / "versions").glob("*.py"))) + 1
            command.revision(config, message=sys.argv[1], autogenerate=True, rev_id=f"{number:04d}")


if __name__ == "__main__":
    main()

"""A mail process for the crash test: started with a folder and ports, killed without warning."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from config.settings import Settings
from mail.tokens import TokenKeys
from mta.resolver import Resolver
from mta.service import MailService
from mta.spool import Spool
from storage.engine import database_url, make_engine
from storage.sealing import Seal
from storage.sessions import Sessions


async def main(folder: Path, submissions: int, sink: int) -> None:
    """Runs until it is killed."""
    settings = Settings.model_validate(
        {
            "host": {"name": "mail.acme.test", "data": folder},
            "smtp": {
                "listen": "127.0.0.1",
                "mx_port": 0,
                "submission_port": 0,
                "submissions_port": submissions,
            },
            "relay": {
                "smart_host": f"127.0.0.1:{sink}",
                "loopback": True,
                "first_retry": "1s",
                "connections_per_site": 8,
            },
            "engine": {"tick": "1s"},
        }
    )
    service = MailService(
        Sessions(make_engine(database_url("", folder))),
        settings,
        TokenKeys({0: b"k" * 32}, current=0),
        Seal(b"s" * 32),
        Spool(folder / "spool"),
        Resolver(["127.0.0.1:9"]),
        lambda: datetime.now(UTC),
    )
    await service.start()
    await service.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))

"""`waypost demo`."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path

from config.sections.host import LogSettings
from waypost import logs
from waypost.demo.run import Wish, run


def demo(chosen: Namespace) -> int:
    """Shows everything at work, or checks that it does."""
    wish = Wish(
        check=chosen.check,
        speed=chosen.speed,
        contacts=chosen.contacts,
        folder=Path(chosen.folder) if chosen.folder else None,
        database=chosen.database or "",
        postgresql=chosen.postgresql,
        kills=chosen.kills,
        seed=chosen.seed,
    )
    logs.set_up(LogSettings(format="console", level="error"))  # The roles write to a file.
    return asyncio.run(run(wish))

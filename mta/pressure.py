"""Whether there is room for more mail: on the disk, and in a company's backlog."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

MIN_FREE_BYTES = 512 << 20
"""Less than this free on the spool's disk, and nothing more is taken."""

LOOK_SECONDS = 2.0


class Gauge:
    """Looks at the disk now and then; is told the backlogs."""

    def __init__(self, folder: Path, *, min_free: int = MIN_FREE_BYTES) -> None:
        self._folder = folder
        self._min_free = min_free
        self._looked = 0.0
        self._disk = ""
        self._over: Mapping[UUID, int] = {}

    def set_backlogs(self, over: Mapping[UUID, int]) -> None:
        """Companies whose waiting mail is over their limit, with how much waits."""
        self._over = over

    def problem(self, company_id: UUID | None) -> str:
        """Empty, or what there is too little of."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self._disk = self._look()
        if self._disk:
            return self._disk
        waiting = self._over.get(company_id) if company_id is not None else None
        if waiting is not None:
            return f"{waiting} messages of this company wait already; try again later"
        return ""

    def _look(self) -> str:
        try:
            free = shutil.disk_usage(self._folder).free
        except FileNotFoundError:
            return ""  # Made with the first message.
        except OSError as error:
            return f"the disk can't be read: {error.strerror}"
        return "the disk is nearly full" if free < self._min_free else ""

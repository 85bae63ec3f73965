"""What became of one delivery, as far as shaping has to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["connect", "tls", "mail", "rcpt", "data", "done"]
PHASES: tuple[Phase, ...] = ("connect", "tls", "mail", "rcpt", "data", "done")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last reply, or that there was none (`code` None: no connection, or it broke).

    `phase` is the command it answered; `after_data` that the message was handed over whole.
    """

    code: int | None
    text: str = ""
    enhanced: str = ""
    phase: Phase = "done"
    after_data: bool = False

    @property
    def accepted(self) -> bool:
        return self.code is not None and 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        return self.code is not None and 400 <= self.code < 500

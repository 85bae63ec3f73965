"""What an exception means here: a promise was broken.

Expected outcomes (a bounce, a refusal, nothing to do) are return values. Each error carries a text
that may be shown to anybody and, apart from it, a private cause for the log.
"""

from __future__ import annotations


class WaypostError(Exception):
    """Something went wrong; `public` may be shown to the person at the other end."""

    def __init__(self, public: str, cause: str = "") -> None:
        super().__init__(public)
        self.public = public
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.public} ({self.cause})" if self.cause else self.public


class TemporaryError(WaypostError):
    """The same call may succeed later."""


class PermanentError(WaypostError):
    """The same call will fail again; something has to change first."""


class ConfigError(WaypostError):
    """The owner has to change a setting; the text says where and how."""

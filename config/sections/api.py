"""How companies' programs are served."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from config.values import Duration, Section


class ApiSettings(Section):
    """[api] What programs hand in by HTTP; `[console]` says where it listens."""

    keep_requests: Duration = timedelta(days=30)
    """How long an Idempotency-Key and what became of its request are remembered."""


class WebhookSettings(Section):
    """[webhooks] Telling companies' own servers of events."""

    allow_private: bool = False
    """Whether they may stand at private and loopback addresses; people who may set webhooks up
    can then reach whatever this machine reaches."""

    allow_http: bool = False
    """Whether they may do without TLS."""

    timeout: Duration = timedelta(seconds=15)
    """How long one may take to answer."""

    give_up_after: Duration = timedelta(days=5)
    """One that has failed for so long is switched off."""

    batch: int = Field(default=100, ge=1, le=1000)
    """How many events it is told of in one request."""

    keep_attempts: int = Field(default=100, ge=1, le=10_000)
    """How many tries are kept for each webhook, for people to look at."""

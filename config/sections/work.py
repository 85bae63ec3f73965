"""How the stations work."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from config.values import Duration, Section


class PublicSettings(Section):
    """[public] The web host that recipients see: links, pictures, forms. A port of 0 shuts it."""

    listen: str = "0.0.0.0"
    """Address to listen on."""

    port: int = Field(default=8025, ge=0, le=65535)
    """Port to listen on; put a web server with a certificate in front of it."""

    url: str = "http://localhost:8025"
    """How recipients reach it; every link in every mail begins with this."""


class ConsoleSettings(Section):
    """[console] The web host for reps and admins, and the API. A port of 0 shuts it."""

    listen: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8026, ge=0, le=65535)
    """Port to listen on; put a web server with a certificate in front of it."""

    url: str = "http://localhost:8026"
    """How people reach it; sign-in links begin with this."""

    session: Duration = timedelta(hours=12)
    """A person who does nothing for so long has to sign in again."""

    sign_in_link: Duration = timedelta(minutes=15)
    """How long a mailed sign-in link works."""

    operators: tuple[str, ...] = ()
    """E-mail addresses of users who run this host: they see the queue of every company and may
    stop it; all others see their own company's."""


class ResponderSettings(Section):
    """[responder] Reading replies and drafting answers."""

    model: Path | None = None
    """Folder with another language model (model.onnx and tokenizer.json) than the one shipped."""

    act_from: float = Field(default=0.5, ge=0.0, le=1.0)
    """Least certainty of a reading that rules may act on; below it a person is asked."""


class EngineSettings(Section):
    """[engine] The stations and the follow-up clock."""

    tick: Duration = timedelta(seconds=1)
    """How often due steps and new events are looked for."""

    mailbox_poll: Duration = timedelta(minutes=1)
    """How often mailboxes are asked for new mail when the server doesn't tell by itself (IDLE)."""

    speed: float = Field(default=1.0, ge=1.0, le=1_000_000)
    """How many times faster than real waits of sequences pass; more than 1 is for rehearsals."""

    mail_processes: int = Field(default=1, ge=1, le=64)
    """Processes that take mail in and hand it over."""

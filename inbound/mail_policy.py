"""The policy by which other servers send us replies with TLS only (MTA-STS, RFC 8461).

Each reply domain has a host `mta-sts.<reply domain>`, where senders read the policy by https. All
of them lead to the public web host, which knows by the Host header whose policy is asked for.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.exceptions import NotFoundException
from sqlalchemy import select

from config.settings import Settings
from mta.domains.records import policy_text
from mta.domains.service import machine_named
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Domain

PATH = "/.well-known/mta-sts.txt"

_PREFIX = "mta-sts."


class MailPolicy:
    """Answers for every reply domain of the appliance, and for no other name."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions = sessions
        self._machine = machine_named(settings)

    async def show(self, call: Request[Any, Any, Any]) -> Response[Any]:
        """The policy text. Raises `NotFoundException` for a name that is none of ours."""
        host = call.headers.get("host", "").partition(":")[0].rstrip(".").lower()
        reply = host.removeprefix(_PREFIX)
        if reply == host or len(reply) > 253 or self._machine.policy_mode == "none":
            raise NotFoundException
        async with self._sessions.read(EVERY_COMPANY) as session:
            known = await session.scalar(select(Domain.id).where(Domain.reply_domain == reply))
        if known is None:
            raise NotFoundException
        return Response(
            policy_text(self._machine),
            media_type="text/plain",
            headers={"Cache-Control": "public, max-age=300"},
        )

"""The MTA-STS policy on the public host."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from config.settings import Settings
from inbound.hits import make_app
from mail.tokens import TokenKeys
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.mta.house import make_tenant

PLACE = "/.well-known/mta-sts.txt"


def client_of(store: Sessions, keys: TokenKeys, folder: Path, mode: str) -> httpx.AsyncClient:
    settings = Settings.model_validate(
        {"host": {"name": "mail.acme.test", "data": folder}, "smtp": {"mta_sts": mode}}
    )
    app = make_app(store, settings, keys, lambda: datetime.now(UTC))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="https://go.acme.test")


@pytest.mark.parametrize("mode", ["testing", "enforce"])
async def test_each_reply_domain_has_its_policy(
    store: Sessions, keys: TokenKeys, seal: Seal, tmp_path: Path, mode: str
) -> None:
    await make_tenant(store, seal, "acme", 1)
    async with client_of(store, keys, tmp_path, mode) as client:
        for host in ("mta-sts.reply.acme.test", "MTA-STS.Reply.Acme.Test.:8025"):
            answer = await client.get(PLACE, headers={"Host": host})
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.text == (
                f"version: STSv1\r\nmode: {mode}\r\nmx: mail.acme.test\r\nmax_age: 604800\r\n"
            )
        for stranger in ("go.acme.test", "mta-sts.acme.test", "mta-sts.", "reply.acme.test", ""):
            assert (await client.get(PLACE, headers={"Host": stranger})).status_code == 404


async def test_a_house_without_a_policy_shows_none(
    store: Sessions, keys: TokenKeys, seal: Seal, tmp_path: Path
) -> None:
    await make_tenant(store, seal, "acme", 1)
    async with client_of(store, keys, tmp_path, "none") as client:
        answer = await client.get(PLACE, headers={"Host": "mta-sts.reply.acme.test"})
        assert answer.status_code == 404

"""The pages of webhooks and of the API."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import select

from console.api.calls import CALLS
from storage.sessions import Sessions
from storage.tables import Audit, Webhook
from tests.console.scene import app_of, browser, play, sign_in


async def test_an_owner_sets_webhooks_up(store: Sessions, tmp_path: Path) -> None:
    scene, other = await play(store, "ourfirm"), await play(store, "otherfirm")
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.owner)

        async def act(**fields: str) -> tuple[int, str]:
            answer = await client.post("/webhooks", data={"csrf": csrf, **fields})
            return answer.status_code, answer.text

        status, page = await act(what="add", url="https://10.0.0.1/", kinds="")
        assert (status, "not an address of the public internet" in page) == (422, True)
        status, page = await act(what="add", url="https://new.example.com/in", kinds="click, open")
        assert (status, "whsec_" in page) == (200, True)
        async with store.read(scene.company) as session:
            query = select(Webhook).where(Webhook.url == "https://new.example.com/in")
            key = str((await session.scalars(query)).one().id)
        assert "whsec_" not in (await client.get("/webhooks")).text
        status, page = await act(what="secret", id=key)
        assert (status, "whsec_" in page) == (200, True)
        for what, state in (("off", "disabled"), ("on", "active")):
            assert (await act(what=what, id=key))[0] == 200
            async with store.read(scene.company) as session:
                assert (await session.scalars(query)).one().state == state
        assert (await act(what="replay", id=key, hours="24"))[0] == 200
        assert (await act(what="replay", id=key, hours="1000000"))[0] == 400
        assert (await act(what="explode", id=key))[0] == 400
        for theirs in (str(other.webhook), "nonsense"):
            assert (await act(what="remove", id=theirs))[0] == 404
        assert (await act(what="remove", id=key))[0] == 200
    async with store.read(scene.company) as session:
        assert (await session.scalars(query)).one_or_none() is None
        done = set(await session.scalars(select(Audit.action)))
    assert {"webhook add", "webhook secret", "webhook off", "webhook remove"} <= done


async def test_a_rep_can_not(store: Sessions, tmp_path: Path) -> None:
    scene = await play(store, "ourfirm")
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.rep)
        form = {"csrf": csrf, "what": "remove", "id": str(scene.webhook)}
        assert (await client.post("/webhooks", data=form)).status_code == 403


async def test_the_page_of_the_api_names_every_call(store: Sessions, tmp_path: Path) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        page = (await client.get("/api")).text
    for method, path, _ in CALLS:
        assert f"{method.value} {path.replace(':str', '')}" in page
    places = set(re.findall(r'href="#([^"]+)"', page))
    assert places == places & set(re.findall(r'id="([^"]+)"', page))
    assert "http" not in "".join(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert "<script>" not in page

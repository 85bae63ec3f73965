"""The list of suppressed addresses in the console."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from mta.recipients import is_suppressed, suppress
from storage.sessions import Sessions
from storage.tables import Audit
from tests.console.scene import NOW, Scene, app_of, browser, play, sign_in


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    return await play(store, "ourfirm")


async def test_an_address_goes_on_the_list_and_comes_off_with_a_reason(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    theirs = await play(store, "rival")
    async with store.begin(theirs.company) as session:
        await suppress(session, "secret@rival.test", "asked", now=NOW)
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.owner)
        added = await client.post("/suppressions", data={"csrf": csrf, "address": "Bo@x.test"})
        assert added.headers["location"] == "/suppressions?said=added"
        wrong = await client.post("/suppressions", data={"csrf": csrf, "address": "<b>"})
        assert (wrong.status_code, "&lt;b&gt;" in wrong.text) == (422, True)
        page = await client.get("/suppressions")
        assert "bo@x.test" in page.text
        assert "secret@rival.test" not in page.text
        async with store.begin(scene.company) as session:
            await suppress(session, "cy@x.test", "complained", now=NOW)
        off = {"csrf": csrf, "address": "cy@x.test", "why": "she rang us today"}
        refused = await client.post("/suppressions/remove", data=off)
        assert (refused.status_code, "reported mail as spam" in refused.text) == (422, True)
        await client.post("/suppressions/remove", data={**off, "confirmed": "yes"})
        stranger = {**off, "address": "secret@rival.test"}
        assert (await client.post("/suppressions/remove", data=stranger)).status_code == 422
        silent = {**off, "address": "bo@x.test", "why": ""}
        assert (await client.post("/suppressions/remove", data=silent)).status_code == 422
        assert (await client.get("/suppressions?q=%25&after=x")).status_code == 200
    async with store.read(scene.company) as session:
        assert await is_suppressed(session, "bo@x.test")
        assert not await is_suppressed(session, "cy@x.test")
        trail = list(await session.scalars(select(Audit).where(Audit.action.like("suppression%"))))
    assert [(row.action, row.subject) for row in trail] == [
        ("suppression added", "Bo@x.test"),
        ("suppression removed", "cy@x.test"),
    ]
    assert trail[1].detail["why"] == "she rang us today"
    async with store.read(theirs.company) as session:
        assert await is_suppressed(session, "secret@rival.test")


async def test_a_rep_sees_the_list_and_takes_nobody_off(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with store.begin(scene.company) as session:
        await suppress(session, "bo@x.test", "asked", now=NOW)
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.rep)
        page = await client.get("/suppressions")
        assert "bo@x.test" in page.text
        assert "Take off" not in page.text
        form = {"csrf": csrf, "address": "bo@x.test", "why": "because"}
        assert (await client.post("/suppressions/remove", data=form)).status_code == 403

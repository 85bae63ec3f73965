"""PEOPLE: everybody may have answers mailed to themselves; managers decide for others."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Audit, User
from tests.console.scene import Scene, app_of, browser, play, sign_in


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    """One company."""
    return await play(store, "ourfirm")


async def user(store: Sessions, email: str) -> User:
    async with store.read(EVERY_COMPANY) as session:
        return (await session.scalars(select(User).where(User.email == email))).one()


async def test_a_manager_switches_answers_as_mail(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    rep = await user(store, scene.rep)
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.owner)
        assert "Start sending answers to" in (await client.get("/people")).text
        form = {"csrf": csrf, "user": str(rep.id), "forward": "yes"}
        answer = await client.post("/people", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/people")
        assert (await user(store, scene.rep)).forward_replies
        assert f"Stop sending answers to {scene.rep}" in (await client.get("/people")).text
        await client.post("/people", data={**form, "forward": "no"})
    assert not (await user(store, scene.rep)).forward_replies
    async with store.read(scene.company) as session:
        actions = [entry.action for entry in await session.scalars(select(Audit))]
    assert actions[-2:] == ["answers as mail", "no answers as mail"]


async def test_a_rep_switches_only_their_own(store: Sessions, scene: Scene, tmp_path: Path) -> None:
    rep, owner = await user(store, scene.rep), await user(store, scene.owner)
    async with browser(app_of(store, tmp_path)) as client:
        form = {"csrf": await sign_in(client, scene.rep), "forward": "yes"}
        assert (await client.post("/people", data={**form, "user": str(rep.id)})).status_code == 303
        other = await client.post("/people", data={**form, "user": str(owner.id)})
        assert other.status_code == 403
        assert (await client.post("/people", data={**form, "user": "x"})).status_code == 404
    assert (await user(store, scene.rep)).forward_replies
    assert not (await user(store, scene.owner)).forward_replies


async def test_another_company_s_people_are_out_of_reach(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    theirs = await user(store, (await play(store, "theirfirm")).rep)
    async with browser(app_of(store, tmp_path)) as client:
        form = {"csrf": await sign_in(client, scene.owner), "forward": "yes"}
        answer = await client.post("/people", data={**form, "user": str(theirs.id)})
    assert answer.status_code == 404
    assert not (await user(store, theirs.email)).forward_replies

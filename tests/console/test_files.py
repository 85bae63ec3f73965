"""Files that a company keeps in the console."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from storage.sessions import Sessions
from storage.tables import MediaFile
from tests.console.scene import Scene, app_of, browser, play, sign_in


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    return await play(store, "ourfirm")


async def test_a_file_is_kept_for_its_company_alone(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    theirs = await play(store, "rival")
    app = app_of(store, tmp_path)
    async with browser(app) as client:
        csrf = await sign_in(client, scene.owner)
        form = {"csrf": csrf, "key": "", "title": "<i>Our</i> prices"}
        sent = {"file": ("../Price List.pdf", b"%PDF-1.7", "text/html")}
        added = await client.post("/files", data=form, files=sent)
        assert added.headers["location"] == "/files?said=added"
        page = await client.get("/files")
        assert "&lt;i&gt;Our&lt;/i&gt; prices" in page.text
        for bad in ({"file": ("a.pdf", b"")}, {"file": ("", b"x")}):
            assert (await client.post("/files", data=form, files=bad)).status_code == 422
        forged = {**form, "csrf": "x"}
        assert (await client.post("/files", data=forged, files=sent)).status_code == 403
    async with browser(app) as client:
        csrf = await sign_in(client, theirs.owner)
        assert "prices" not in (await client.get("/files")).text
    async with browser(app) as client:
        csrf = await sign_in(client, scene.rep)
        refused = await client.post("/files", data={"csrf": csrf}, files=sent)
        assert refused.status_code == 403
    async with store.read(scene.company) as session:
        (kept,) = await session.scalars(select(MediaFile).where(MediaFile.ready.is_(True)))
    assert (kept.key, kept.media_type, kept.size_bytes) == ("price-list", "application/pdf", 8)
    assert "/" not in kept.name

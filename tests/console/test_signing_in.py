"""Coming in: by password or a link that works once; sessions are ours alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from console import access
from console.access import Brake
from mail.errors import ConfigError
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Delivery, Message, User, WebSession
from tests.console.scene import PASSWORD, Scene, app_of, browser, csrf_of, play, sign_in


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    """One company."""
    return await play(store, "ourfirm")


async def link_for(store: Sessions, scene: Scene, lifetime: timedelta) -> str:
    async with store.begin(scene.company) as session:
        user = (await session.scalars(select(User).where(User.email == scene.owner))).one()
        return await access.make_sign_in_link(
            session, user, now=datetime.now(UTC), lifetime=lifetime
        )


async def test_a_link_signs_in_once_and_looking_does_not_use_it_up(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    secret = await link_for(store, scene, timedelta(minutes=5))
    async with browser(app_of(store, tmp_path)) as client:
        for _ in range(3):  # Scanners look, too.
            assert "Sign in</button>" in (await client.get(f"/sign-in/{secret}")).text
        answer = await client.post(f"/sign-in/{secret}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "httponly" in answer.headers["set-cookie"].lower()
        assert (await client.get("/")).status_code == 200
        again = await client.post(f"/sign-in/{secret}")
        assert again.status_code == 410
        assert "no longer works" in again.text
        assert (await client.get(f"/sign-in/{secret}")).status_code == 410


async def test_an_old_or_unknown_link_says_how_to_get_a_new_one(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    secret = await link_for(store, scene, timedelta(seconds=-1))
    async with browser(app_of(store, tmp_path)) as client:
        for one in (secret, "made-up"):
            answer = await client.post(f"/sign-in/{one}")
            assert answer.status_code == 410
            assert "Get a new link" in answer.text


async def test_asking_for_a_link_mails_one_and_tells_nothing(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        known = await client.post("/sign-in", data={"email": scene.owner, "password": ""})
        unknown = await client.post("/sign-in", data={"email": "no@body.example", "password": ""})
    assert known.text.replace(scene.owner, "X") == unknown.text.replace("no@body.example", "X")
    async with store.read(scene.company) as session:
        mails = (await session.scalars(select(Message).where(Message.kind == "system"))).all()
        waiting = (await session.scalars(select(Delivery.state))).all()
    assert [mail.recipient for mail in mails] == [scene.owner]
    assert "queued" in waiting


async def test_a_session_is_made_by_us_and_ends(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        client.cookies.set("waypost", "chosen-by-the-client")
        csrf = await sign_in(client, scene.owner)
        first = client.cookies.get("waypost", domain="console.test") or ""
        assert first != "chosen-by-the-client"
        await sign_in(client, scene.owner)  # Rotates.
        assert client.cookies.get("waypost", domain="console.test") != first
        csrf = csrf_of((await client.get("/")).text)
        assert (await client.post("/sign-out", data={"csrf": "wrong"})).status_code == 403
        assert (await client.post("/sign-out", data={"csrf": csrf})).status_code == 303
        assert (await client.get("/")).status_code == 303


async def test_an_idle_session_and_a_disabled_user_are_out(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.owner)
        long_ago = datetime.now(UTC) - timedelta(hours=13)
        async with store.begin(scene.company) as session:
            await session.execute(update(WebSession).values(last_seen_at=long_ago))
        answer = await client.get("/inbox")
        assert answer.headers["location"] == "/sign-in?next=/inbox"
        await sign_in(client, scene.owner)
        async with store.begin(scene.company) as session:
            await session.execute(update(User).values(disabled_at=long_ago))
        assert (await client.get("/")).status_code == 303


async def test_guessing_is_slowed_down(store: Sessions, scene: Scene, tmp_path: Path) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        form = {"email": scene.owner, "password": "not the password"}
        answers = [(await client.post("/sign-in", data=form)).status_code for _ in range(12)]
    assert answers[0] == 401
    assert answers[-1] == 429


def test_the_brake_lets_go_after_a_while() -> None:
    now = [datetime(2026, 11, 23, tzinfo=UTC)]
    brake = Brake(2, timedelta(minutes=1), lambda: now[0])
    assert [brake.allows("a"), brake.allows("a"), brake.allows("a")] == [True, True, False]
    assert brake.allows("b")
    now[0] += timedelta(minutes=2)
    assert brake.allows("a")


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_signing_in_leads_nowhere_else(
    store: Sessions, scene: Scene, tmp_path: Path, back: str
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        form = {"email": scene.owner, "password": PASSWORD, "next": back}
        assert (await client.post("/sign-in", data=form)).headers["location"] == "/"


async def test_by_https_the_cookie_is_bound_to_the_host(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    app = app_of(store, tmp_path, url="https://console.example.test")
    async with browser(app) as client:
        form = {"email": scene.owner, "password": PASSWORD}
        answer = await client.post("/sign-in", data=form)
    assert answer.headers["set-cookie"].startswith("__Host-waypost=")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "strict-transport-security" in answer.headers


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"email": "nonsense"}, "not an e-mail address"),
        ({"role": "king"}, "owner, manager, rep"),
        ({"zone": "Mars/Base"}, "Europe/Vienna"),
        ({"password": "short"}, "12 characters"),
        ({"email": "owner@ourfirm.example"}, "signs in here already"),
    ],
)
async def test_a_wrong_user_is_refused_with_the_remedy(
    store: Sessions, scene: Scene, change: dict[str, str], part: str
) -> None:
    given = {"email": "new@ourfirm.example", "name": "New", "role": "rep", **change}
    with pytest.raises(ConfigError, match=part):
        async with store.begin(scene.company) as session:
            await access.add_user(session, **given, now=datetime.now(UTC))  # type: ignore[arg-type]


async def test_a_company_has_a_name_of_its_own(store: Sessions, scene: Scene) -> None:
    for name, part in ((" ", "1 to 200"), ("ourfirm Ltd", "already")):
        with pytest.raises(ConfigError, match=part):
            async with store.begin(EVERY_COMPANY) as session:
                await access.add_company(session, name, now=datetime.now(UTC))

"""What strangers and careless programs send: refused with the place, never half done."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from console.access import Brake
from console.desk import go
from storage.sessions import Sessions
from storage.tables import Message
from tests.console.scene import NOW, PASSWORD, Scene, app_of, browser, play, sign_in

MESSAGE: dict[str, Any] = {"subject": "Order {{ order }}", "text": "Order {{ order }} is here."}


async def post(
    store: Sessions, folder: Path, scene: Scene, body: dict[str, Any] | bytes, key: str = ""
) -> tuple[int, Any]:
    """A message handed to the API."""
    headers = {"Authorization": f"Bearer {scene.token}", "Idempotency-Key": key}
    content = body if isinstance(body, bytes) else json.dumps({"sender": scene.owner, **body})
    async with browser(app_of(store, folder)) as client:
        answer = await client.post("/api/v1/messages", headers=headers, content=content)
    return answer.status_code, answer.json()


def orders(*wanted: tuple[str, Any]) -> dict[str, Any]:
    """The message for these people with these orders."""
    people = [{"address": address, "values": {"order": order}} for address, order in wanted]
    return {**MESSAGE, "recipients": people}


@pytest.mark.parametrize(
    "path",
    [
        "/\t/evil.example",
        "/\n/evil.example",
        "/a\r\nSet-Cookie: a=b",
        "/\\evil.example",
        "/a\\..\\evil",
        "//evil.example",
        "evil.example",
        "",
        "/\u00fc",
    ],
)
def test_a_browser_is_sent_to_our_pages_only(path: str) -> None:
    assert go(path).headers["Location"] == "/"


async def test_a_new_sign_in_ends_the_session_before(store: Sessions, tmp_path: Path) -> None:
    scene = await play(store, "ourfirm")
    app = app_of(store, tmp_path)
    async with browser(app) as client:
        await sign_in(client, scene.owner)
        before = client.cookies["waypost"]
        await sign_in(client, scene.owner)
    async with browser(app) as client:
        client.cookies.set("waypost", before)
        assert (await client.get("/")).status_code == 303


async def test_another_site_can_not_sign_somebody_in(store: Sessions, tmp_path: Path) -> None:
    scene = await play(store, "ourfirm")
    form = {"email": scene.owner, "password": PASSWORD}
    async with browser(app_of(store, tmp_path)) as client:
        for site, status in (("cross-site", 400), ("same-site", 400), ("same-origin", 303)):
            headers = {"Sec-Fetch-Site": site}
            answer = await client.post("/sign-in", data=form, headers=headers)
            assert answer.status_code == status, site
            assert ("set-cookie" in answer.headers) is (status == 303)


async def test_long_addresses_do_not_fill_the_memory_of_the_brake(
    store: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def refuse(self: Brake, *keys: str) -> bool:
        seen.extend(keys)
        return False

    monkeypatch.setattr(Brake, "allows", refuse)
    async with browser(app_of(store, tmp_path)) as client:
        answer = await client.post("/sign-in", data={"email": "a" * 90_000, "password": "x"})
    assert answer.status_code == 429
    assert max(map(len, seen)) < 400


async def test_nul_is_refused_everywhere(any_store: Sessions, tmp_path: Path) -> None:
    scene = await play(any_store, "ourfirm")
    async with browser(app_of(any_store, tmp_path)) as client:
        csrf = await sign_in(client, scene.owner)
        for path in (
            "/messages?q=%00", "/content?q=a%00", "/follow-up/%00", "/api/v1/messages?q=%00",
            f"/follow-up/{scene.sequence}?step=%00",
        ):  # fmt: skip
            assert (await client.get(path)).status_code == 400, path
        for path, field in (
            ("/tracker", "line"), (f"/drafts/{scene.draft}/reject", "note"),
            ("/queue", "destination"),
        ):  # fmt: skip
            form = {"csrf": csrf, field: "call ann@ourfirm.test ok \0", "what": "hold"}
            assert (await client.post(path, data=form)).status_code == 400, path


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        (r'"text": "a\u0000b"', "/text"),
        (r'"subject": "a\ud800"', "/subject"),
        (r'"sender_name": "\udfff"', "/sender_name"),
        (r'"campaign": "\u0000"', "/campaign"),
        (r'"recipients": [{"address": "a@b.test", "values": {"order": "\u0000"}}]',
         "/recipients/0/values/order"),
        (r'"recipients": [{"address": "a@b.test", "values": {"\ud800": 1}}]',
         "/recipients/0/values"),
        (f'"recipients": [{{"address": "a@b.test", "values": {{"a": {"[" * 40 + "]" * 40}}}}}]',
         "/recipients/0/values/a" + "/0" * 28),
        ('"kind": []', "/kind"),
        (f'"sender_name": "{"x" * 201}"', "/sender_name"),
    ],
)  # fmt: skip
async def test_what_can_not_be_kept_is_refused_with_its_place(
    store: Sessions, tmp_path: Path, part: str, pointer: str
) -> None:
    scene = await play(store, "ourfirm")
    whole = json.dumps({"sender": scene.owner, **orders(("a@b.test", "7"))})
    status, said = await post(store, tmp_path, scene, f"{whole[:-1]}, {part}}}".encode())
    assert (status, said.get("pointer")) == (422, pointer)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 5000])
async def test_what_is_no_number_in_json_is_refused(
    store: Sessions, tmp_path: Path, number: str
) -> None:
    scene = await play(store, "ourfirm")
    status, said = await post(store, tmp_path, scene, f'{{"n": {number}}}'.encode())
    assert (status, said["title"]) == (400, "This is not JSON")


async def test_text_of_the_whole_world_is_kept(any_store: Sessions, tmp_path: Path) -> None:
    scene = await play(any_store, "ourfirm")
    body = json.dumps({"sender": scene.owner, **orders(("a@b.test", "Grüße 👋 漢字"))})
    assert r"\ud83d\udc4b" in body  # A pair of halves is a character.
    status, _ = await post(any_store, tmp_path, scene, body.encode())
    assert status == 202
    async with any_store.read(scene.company) as session:
        found = select(Message.subject).where(Message.recipient == "a@b.test")
        assert await session.scalar(found) == "Order Grüße 👋 漢字"


async def test_a_second_message_to_one_person_is_refused_not_dropped(
    store: Sessions, tmp_path: Path
) -> None:
    scene = await play(store, "ourfirm")
    body = orders(("pat@customers.test", "7"), ("kim@b.test", "1"), ("Pat@Customers.test", "8"))
    status, said = await post(store, tmp_path, scene, body)
    assert (status, [one["address"] for one in said["accepted"]]) == (
        202, ["pat@customers.test", "kim@b.test"],
    )  # fmt: skip
    assert said["refused"] == [
        {
            "index": 2,
            "pointer": "/recipients/2/address",
            "reason": "pat@customers.test is recipient 0 already",
        }
    ]


async def test_a_key_is_good_for_one_message(store: Sessions, tmp_path: Path) -> None:
    scene = await play(store, "ourfirm")
    body = orders(("pat@customers.test", "7"))
    first = await post(store, tmp_path, scene, body, "k")
    assert first == await post(store, tmp_path, scene, body, "k")
    for other in ({**body, "text": "Something else"}, orders(("pat@customers.test", "8"))):
        status, said = await post(store, tmp_path, scene, other, "k")
        assert status == 422
        assert "Idempotency-Key" in said["detail"]
    status, _ = await post(store, tmp_path, scene, body, "k" * 201)
    assert status == 400


async def test_a_message_is_shown_as_its_reader_got_it(store: Sessions, tmp_path: Path) -> None:
    scene = await play(store, "ourfirm")
    body = orders(("pat@customers.test", "<7>"))
    body |= {"kind": "bulk", "text": "Order {{ order }}. Leave: {{ unsubscribe_url }}"}
    _, said = await post(store, tmp_path, scene, body)
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.owner)
        page = (await client.get(f"/messages/{said['accepted'][0]['id']}")).text
    assert "Order &lt;7&gt;. Leave: [unsubscribe url]" in page


def test_the_brake_forgets_who_came_long_ago_first() -> None:
    brake = Brake(1, timedelta(minutes=1), lambda: NOW, size=10)
    assert brake.allows("first")
    for number in range(10):
        assert brake.allows("busy", f"other {number}") is (number == 0)
    assert not brake.allows("busy")

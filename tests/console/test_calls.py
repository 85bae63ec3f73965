"""The API: what apps hand in, and what they are told when it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from console.api.calls import CALLS
from console.api.description import DESCRIPTION
from console.api.sending import MAX_RECIPIENTS
from content.media import add_file
from storage.sessions import Sessions
from storage.tables import Contact, Message, Template
from tests.console.scene import NOW, Scene, app_of, browser, play

MESSAGE: dict[str, Any] = {
    "sender": "owner@ourfirm.example",
    "sender_name": "Owner",
    "subject": "Order {{ order }}",
    "text": "Hello {{ contact.first_name or 'you' }}, order {{ order }} is on its way.",
    "recipients": [
        {"address": "Pat@customers.test", "name": "Pat Doe", "values": {"order": "7"}},
        {"address": "kim@customers.test", "values": {"order": "8"}},
    ],
}


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    """One company."""
    return await play(store, "ourfirm")


async def call(
    store: Sessions, folder: Path, scene: Scene, method: str, path: str, **more: Any
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {scene.token}", **more.pop("headers", {})}
    async with browser(app_of(store, folder)) as client:
        answer = await client.request(method, f"/api/v1{path}", headers=headers, **more)
    assert answer.status_code < 400 or answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()


async def test_one_message_becomes_a_personal_one_for_each(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    key = {"Idempotency-Key": "orders-1"}
    for _ in range(2):  # An app that is not sure asks again.
        status, said = await call(
            store, tmp_path, scene, "POST", "/messages", json=MESSAGE, headers=key
        )
        assert (status, len(said["accepted"]), said["refused"]) == (202, 2, [])
    async with store.read(scene.company) as session:
        found = await session.scalars(select(Message).where(Message.order_key.like("api:%")))
        assert sorted(m.subject for m in found) == ["Order 7", "Order 8"]
        contact = select(Contact).where(Contact.address == "pat@customers.test")
        assert (await session.scalars(contact)).one().name == "Pat Doe"
    status, one = await call(
        store, tmp_path, scene, "GET", f"/messages/{said['accepted'][0]['id']}"
    )
    assert (status, one["to"], one["state"]) == (200, "pat@customers.test", "queued")
    assert one["way"]


async def test_bad_recipients_are_named_and_the_others_served(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    wrong = [{"address": "nonsense"}, "text", {"address": "a@b.test", "values": []}, {}]
    body = {**MESSAGE, "recipients": [*MESSAGE["recipients"], *wrong]}
    status, said = await call(store, tmp_path, scene, "POST", "/messages", json=body)
    assert status == 202
    assert len(said["accepted"]) == 2
    assert [one["index"] for one in said["refused"]] == [2, 3, 4, 5]
    assert all(one["reason"] for one in said["refused"])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"sender": "boss@elsewhere.example"}, "is not a domain of this company"),
        ({"sender": 5}, "/sender"),
        ({"subject": ""}, "/subject"),
        ({"text": "{{ order }"}, "text"),
        ({"kind": "spam"}, "/kind"),
        ({"recipients": []}, "/recipients"),
        ({"recipients": {"address": "a@b.test"}}, "/recipients"),
        ({"recipients": [{"address": "a@b.test"}] * (MAX_RECIPIENTS + 1)}, str(MAX_RECIPIENTS)),
        ({"recipients": [{"address": "nonsense"}]}, "not a mail address"),
    ],
)
async def test_what_is_wrong_is_said_with_its_place(
    store: Sessions, scene: Scene, tmp_path: Path, change: dict[str, Any], part: str
) -> None:
    body = {**MESSAGE, **change}
    status, said = await call(store, tmp_path, scene, "POST", "/messages", json=body)
    assert status == 422
    assert part in str(said)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b"\xff\xfe"])
async def test_what_is_not_json_is_refused(
    store: Sessions, scene: Scene, tmp_path: Path, body: bytes
) -> None:
    status, said = await call(store, tmp_path, scene, "POST", "/messages", content=body)
    assert status == 400
    assert "JSON" in said["title"]


async def test_a_token_is_needed_and_a_revoked_one_is_none(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    for token in ("", "Bearer", "Bearer wp_nonsense", f"Basic {scene.token}"):
        headers = {"Authorization": token}
        status, said = await call(store, tmp_path, scene, "GET", "/drafts", headers=headers)
        assert (status, said["title"]) == (401, "Who are you?")


async def test_contacts_are_added_once_and_paged(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    body = {"address": "new@customers.test", "name": "New", "fields": {"town": "Graz"}}
    ids = set()
    for _ in range(2):
        status, said = await call(store, tmp_path, scene, "POST", "/contacts", json=body)
        assert status == 201
        ids.add(said["id"])
    assert len(ids) == 1
    status, said = await call(store, tmp_path, scene, "GET", "/contacts")
    assert (status, said["cursor"]) == (200, None)
    assert "new@customers.test" in {one["address"] for one in said["contacts"]}
    status, said = await call(store, tmp_path, scene, "GET", "/contacts?after=nonsense")
    assert status == 400
    body["fields"] = []  # type: ignore[assignment]
    status, said = await call(store, tmp_path, scene, "POST", "/contacts", json=body)
    assert (status, said["pointer"]) == (422, "/fields")


async def test_a_draft_is_decided_as_a_user(store: Sessions, scene: Scene, tmp_path: Path) -> None:
    _, said = await call(store, tmp_path, scene, "GET", "/drafts")
    (draft,) = said["drafts"]
    path = f"/drafts/{draft['id']}/approve"
    status, said = await call(
        store, tmp_path, scene, "POST", path, json={"user": "no@body.example"}
    )
    assert (status, said["pointer"]) == (422, "/user")
    body = {"user": scene.owner, "text": "Five euros."}
    status, said = await call(store, tmp_path, scene, "POST", path, json=body)
    assert (status, said["result"]) == (200, "approved")
    status, said = await call(store, tmp_path, scene, "POST", path, json=body)
    assert (status, said["result"]) == (200, "already decided")
    path = f"/drafts/{draft['id']}/reject"
    status, said = await call(store, tmp_path, scene, "POST", path, json={"user": scene.owner})
    assert said["result"] == "already decided"
    status, _ = await call(
        store, tmp_path, scene, "POST", "/drafts/nonsense/approve", json={"user": scene.owner}
    )
    assert status == 404


async def test_the_description_names_every_call(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    status, said = await call(store, tmp_path, scene, "GET", "/openapi.json")
    assert (status, said["openapi"]) == (200, "3.1.0")
    described = {
        (method.upper(), path) for path, calls in DESCRIPTION["paths"].items() for method in calls
    }
    assert described == {(str(method.value), path.replace(":str", "")) for method, path, _ in CALLS}


async def test_files_go_with_mail_that_an_app_hands_in(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    pdf = [b"%PDF-1.7 prices"]
    await add_file(store, scene.company, key="prices", name="prices.pdf", pieces=pdf, now=NOW)
    wanted = {**MESSAGE, "files": ["prices"]}
    status, said = await call(store, tmp_path, scene, "POST", "/messages", json=wanted)
    assert (status, len(said["accepted"])) == (202, 2)
    async with store.read(scene.company) as session:
        kept = [t.headers.get("media") for t in await session.scalars(select(Template))]
    assert [m["parts"][0]["name"] for m in kept if m] == ["prices.pdf"]
    for files in ("prices", [7], ["x"] * 21, [""]):
        wrong = {**MESSAGE, "files": files}
        status, _ = await call(store, tmp_path, scene, "POST", "/messages", json=wrong)
        assert status == 422
    missing = {**MESSAGE, "presentation": "tour", "strict": True}
    status, said = await call(store, tmp_path, scene, "POST", "/messages", json=missing)
    assert status == 422
    assert "waypost presentation set" in str(said)

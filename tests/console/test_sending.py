"""Sending by API: batches that go on where they broke off, and what is taken back."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from console import batches
from console.api import sending
from mta import accounts, metrics
from mta.pressure import Gauge
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Batch, Contact, Delivery, Event, Message
from tests.console.scene import NOW, Scene, app_of, browser, play


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    """One company."""
    return await play(store, "ourfirm")


def request(*addresses: str, **more: Any) -> dict[str, Any]:
    """A message for these people."""
    people = [{"address": a, "values": {"order": str(i)}} for i, a in enumerate(addresses)]
    texts = {"subject": "Order {{ order }}", "text": "Order {{ order }} is on its way."}
    return {"sender": "owner@ourfirm.example", **texts, "recipients": people, **more}


def people(count: int) -> list[str]:
    """Addresses."""
    return [f"p{number}@customers.test" for number in range(count)]


async def call(
    store: Sessions, folder: Path, token: str, method: str, path: str, **more: Any
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
    async with browser(app_of(store, folder)) as client:
        return await client.request(method, f"/api/v1{path}", headers=headers, **more)


async def ordered(store: Sessions, scene: Scene) -> list[str]:
    """Whom the API has ordered mail for."""
    query = select(Message.recipient).where(Message.order_key.like("api:%"))
    async with store.read(scene.company) as session:
        return sorted(await session.scalars(query))


async def test_json_lines_are_taken_like_json(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    whole = request("a@customers.test", "nonsense", "b@customers.test", campaign="lines")
    head = {name: value for name, value in whole.items() if name != "recipients"}
    lines = b"\n".join(json.dumps(one).encode() for one in (head, *whole["recipients"]))
    headers = {"Content-Type": "application/x-ndjson; charset=utf-8", "Idempotency-Key": "k"}
    counted = metrics.at_door("api")
    before = counted.accepted.value, counted.refused.value
    answer = await call(
        store, tmp_path, scene.token, "POST", "/messages", content=lines, headers=headers
    )
    assert answer.status_code == 202
    assert [one["index"] for one in answer.json()["accepted"]] == [0, 2]
    assert answer.json()["refused"][0]["pointer"] == "/recipients/1/address"
    again = await call(
        store,
        tmp_path,
        scene.token,
        "POST",
        "/messages",
        json=whole,
        headers={"Idempotency-Key": "k"},
    )
    assert again.json() == answer.json()  # What is asked for counts, not how it is written.
    assert again.headers["idempotent-replayed"] == "true"
    assert (counted.accepted.value - before[0], counted.refused.value - before[1]) == (2, 1)


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        (b"", 400, "first line"),
        (b"{}\n{", 400, "Line 2"),
        (b"[]\n", 400, "Line 1"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', 413, "Line 1"),
        (b"{}\n" + b"{}\n" * 10_001, 422, "10000"),
        (b'{"recipients": []}\n{}', 422, "lines after the first"),
    ],
)
async def test_bad_lines_are_named(
    store: Sessions, scene: Scene, tmp_path: Path, lines: bytes, status: int, words: str
) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await call(
        store, tmp_path, scene.token, "POST", "/messages", content=lines, headers=headers
    )
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


async def test_a_batch_goes_on_where_it_broke_off(
    any_store: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, scene = any_store, await play(any_store, "ourfirm")
    monkeypatch.setattr(sending, "PART", 10)
    body, parts = request(*people(35)), 0
    real = batches.end_part

    async def dies(*args: Any) -> None:
        nonlocal parts
        parts += 1
        if parts == 3:
            raise OSError("the machine is gone")
        await real(*args)

    monkeypatch.setattr(batches, "end_part", dies)
    headers = {"Idempotency-Key": "big"}
    answer = await call(
        store, tmp_path, scene.token, "POST", "/messages", json=body, headers=headers
    )
    assert answer.status_code == 500
    assert len(await ordered(store, scene)) == 20
    async with store.read(scene.company) as session:
        batch = await session.scalar(select(Batch.id).where(Batch.key == "big"))
    answer = await call(store, tmp_path, scene.token, "GET", f"/batches/{batch}")
    said = answer.json()
    assert (said["state"], said["accepted"], said["recipients"]) == ("incomplete", 20, 35)

    answers = [
        await call(store, tmp_path, scene.token, "POST", "/messages", json=body, headers=headers)
        for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert [one["index"] for one in answers[0].json()["accepted"]] == list(range(35))
    assert await ordered(store, scene) == sorted(people(35))
    answer = await call(store, tmp_path, scene.token, "GET", f"/batches/{batch}")
    assert answer.json()["state"] == "complete"
    assert answer.json()["messages"] == {"queued": 35}


async def test_strict_is_all_or_none(store: Sessions, scene: Scene, tmp_path: Path) -> None:
    body = request("a@customers.test", "nonsense", "", strict=True)
    headers = {"Idempotency-Key": "s"}
    answer = await call(
        store, tmp_path, scene.token, "POST", "/messages", json=body, headers=headers
    )
    assert answer.status_code == 422
    pointers = [one["pointer"] for one in answer.json()["errors"]]
    assert pointers == ["/recipients/1/address", "/recipients/2/address"]
    assert await ordered(store, scene) == []
    async with store.read(scene.company) as session:
        assert (
            await session.scalar(select(Contact).where(Contact.address == "a@customers.test"))
            is None
        )
    mended = request("a@customers.test", strict=True)  # The key was not used up.
    answer = await call(
        store, tmp_path, scene.token, "POST", "/messages", json=mended, headers=headers
    )
    assert answer.status_code == 202
    too_many = request(*people(501), strict=True)
    answer = await call(store, tmp_path, scene.token, "POST", "/messages", json=too_many)
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/strict")


async def test_mail_is_planned_and_taken_back(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    later = NOW + timedelta(days=2)
    body = request(
        "a@customers.test",
        not_before=later.isoformat(),
        expires=(later + timedelta(hours=1)).isoformat(),
    )
    answer = await call(store, tmp_path, scene.token, "POST", "/messages", json=body)
    key = answer.json()["accepted"][0]["id"]
    one = (await call(store, tmp_path, scene.token, "GET", f"/messages/{key}")).json()
    assert (one["state"], one["next_attempt"]) == ("queued", later.isoformat())
    for _ in range(2):
        answer = await call(store, tmp_path, scene.token, "POST", f"/messages/{key}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "skipped")
        assert answer.json()["reason"].startswith("cancelled by API token")
    async with store.read(scene.company) as session:
        told = select(func.count(Event.seq)).where(Event.kind == "delivery.skipped")
        assert await session.scalar(told) == 1


@pytest.mark.parametrize("state", ["sending", "uncertain", "delivered", "bounced"])
async def test_it_may_be_too_late_to_cancel(
    store: Sessions, scene: Scene, tmp_path: Path, state: str
) -> None:
    async with store.begin(scene.company) as session:
        await session.execute(update(Delivery).values(state=state, last_code=250))
    answer = await call(store, tmp_path, scene.token, "POST", f"/messages/{scene.sent}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (409, state)
    assert answer.json()["detail"]
    async with store.read(scene.company) as session:
        assert await session.scalar(select(Delivery.state)) == state


async def test_a_campaign_or_a_batch_is_taken_back_and_found(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    ids = {}
    for campaign in ("spring", "summer"):
        body = request(*people(60), campaign=campaign)
        answer = await call(store, tmp_path, scene.token, "POST", "/messages", json=body)
        ids[campaign] = answer.json()["batch"]
    path = "/messages?campaign=spring&state=queued"
    first = (await call(store, tmp_path, scene.token, "GET", path)).json()
    more = f"{path}&after={first['cursor']}"
    second = (await call(store, tmp_path, scene.token, "GET", more)).json()
    found = [one["to"] for one in (*first["messages"], *second["messages"])]
    assert (sorted(found), second["cursor"]) == (sorted(people(60)), None)
    for asked, count in ({"campaign": "spring"}, 60), ({"batch": ids["summer"]}, 60):
        answer = await call(store, tmp_path, scene.token, "POST", "/messages/cancel", json=asked)
        assert answer.json()["cancelled"] == count
    again = await call(
        store, tmp_path, scene.token, "POST", "/messages/cancel", json={"batch": ids["spring"]}
    )
    assert again.json() == {"cancelled": 0, "too_late": 60}
    for wrong in (
        {},
        {"campaign": "a", "batch": "b"},
        {"batch": "b"},
        {"batch": ids["spring"][1:]},
    ):
        answer = await call(store, tmp_path, scene.token, "POST", "/messages/cancel", json=wrong)
        assert answer.status_code == 422


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"not_before": "tomorrow"}, "/not_before"),
        ({"not_before": "2026-12-24T18:00:00"}, "/not_before"),
        ({"not_before": "2090-12-24T18:00:00Z"}, "/not_before"),
        ({"expires": "2020-12-24T18:00:00Z"}, "/expires"),
        ({"expires": 5}, "/expires"),
        ({"strict": "yes"}, "/strict"),
        ({"user": "nobody@ourfirm.example"}, "/user"),
        ({"atachments": []}, "/atachments"),
        ({"a/b~": 1}, "/a~1b~0"),
        ({"sender": "nobody"}, "/sender"),
    ],
)
async def test_what_is_wrong_has_a_place_and_a_remedy(
    store: Sessions, scene: Scene, tmp_path: Path, more: dict[str, Any], pointer: str
) -> None:
    body = request("a@customers.test", **more)
    answer = await call(store, tmp_path, scene.token, "POST", "/messages", json=body)
    assert (answer.status_code, answer.json()["pointer"]) == (422, pointer)
    assert await ordered(store, scene) == []


async def test_a_token_is_good_for_its_scopes_and_senders(
    store: Sessions, scene: Scene, tmp_path: Path, seal: Any
) -> None:
    async with store.begin(scene.company) as session:
        await accounts.add_domain(session, seal, "shop.test", now=NOW)
        _, sends = await accounts.add_credential(
            session, "api", scopes=["send"], domains=["shop.test"], now=NOW
        )
        _, reads = await accounts.add_credential(session, "api", scopes=["read"], now=NOW)
        _, one = await accounts.add_credential(session, "api", address=scene.owner, now=NOW)
    body = request("a@customers.test")
    for token, status in ((reads, 403), (sends, 403), (one, 202), (scene.token, 202)):
        answer = await call(store, tmp_path, token, "POST", "/messages", json=body)
        assert answer.status_code == status, answer.text
    body["sender"] = "x@mail.shop.test"
    for token, status in ((sends, 202), (one, 403)):
        answer = await call(store, tmp_path, token, "POST", "/messages", json=body)
        assert answer.status_code == status, answer.text
    assert (await call(store, tmp_path, reads, "GET", "/messages")).status_code == 200
    answer = await call(store, tmp_path, sends, "GET", "/messages")
    assert (answer.status_code, "scope read" in answer.json()["title"]) == (403, True)
    path = f"/drafts/{scene.draft}/approve"
    for token in (sends, reads):
        answer = await call(store, tmp_path, token, "POST", path, json={"user": scene.owner})
        assert answer.status_code == 403


async def test_batches_are_forgotten_after_their_time(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    answer = await call(
        store, tmp_path, scene.token, "POST", "/messages", json=request("a@customers.test")
    )
    key = answer.json()["batch"]
    for days, kept in ((29, True), (31, False)):
        async with store.begin(EVERY_COMPANY) as session:
            now = NOW + timedelta(days=days)
            await batches.forget_old(session, now=now, kept=timedelta(days=30))
        answer = await call(store, tmp_path, scene.token, "GET", f"/batches/{key}")
        assert (answer.status_code == 200) is kept


async def test_the_same_request_beside_itself_sends_once(
    any_store: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PART", 10)
    scene = await play(any_store, "ourfirm")
    body, headers = request(*people(45)), {"Idempotency-Key": "twice"}
    answers = await asyncio.gather(
        *(
            call(any_store, tmp_path, scene.token, "POST", "/messages", json=body, headers=headers)
            for _ in range(3)
        )
    )
    assert [one.status_code for one in answers] == [202] * 3
    ids = [sorted(row["id"] for row in one.json()["accepted"]) for one in answers]
    assert ids[0] == ids[1] == ids[2]
    assert await ordered(any_store, scene) == sorted(people(45))


async def test_nothing_is_taken_when_the_disk_is_nearly_full(
    store: Sessions, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gauge, "_look", lambda self: "the disk is nearly full")
    body = request("a@customers.test")
    answer = await call(store, tmp_path, scene.token, "POST", "/messages", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "nearly full" in answer.json()["detail"]
    assert await ordered(store, scene) == []

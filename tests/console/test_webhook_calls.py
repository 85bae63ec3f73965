"""Webhooks and events through the API."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.sections.api import WebhookSettings
from monitor.webhooks.sender import WebhookSender
from monitor.webhooks.signature import is_genuine
from mta.resolver import Resolver
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.console.scene import NOW, Scene, app_of, browser, play
from tests.monitor.receiver import Receiver

OPEN = WebhookSettings(allow_private=True, allow_http=True)


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    """One company."""
    return await play(store, "ourfirm")


async def call(
    store: Sessions, folder: Path, scene: Scene, method: str, path: str, **more: Any
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {scene.token}"}
    app = app_of(store, folder, webhooks=OPEN)
    async with browser(app) as client:
        return await client.request(method, f"/api/v1{path}", headers=headers, **more)


async def test_a_webhook_from_beginning_to_end(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with Receiver() as server:
        body = {"url": server.url, "kinds": ["message.queued"], "description": "The shop"}
        answer = await call(store, tmp_path, scene, "POST", "/webhooks", json=body)
        assert answer.status_code == 201
        key, secret = answer.json()["id"], answer.json()["secret"]
        sent = {
            "sender": scene.owner,
            "subject": "Hello",
            "text": "Hello",
            "campaign": "spring",
            "recipients": [{"address": "pat@customers.test"}],
        }
        await call(store, tmp_path, scene, "POST", "/messages", json=sent)
        sender = WebhookSender(
            store,
            Seal(b"k" * 32),
            OPEN,
            resolver=Resolver(["127.0.0.1:9"]),
            clock=lambda: NOW + timedelta(hours=1),
        )
        assert await sender.round() == 1
        (taken,) = server.taken
        assert is_genuine(taken.headers, taken.body, secret, now=NOW + timedelta(hours=1))
        (event,) = taken.events
        assert (event["type"], event["message"]["campaign"]) == ("message.queued", "spring")
        assert event["message"]["to"] == "pat@customers.test"
    answer = await call(store, tmp_path, scene, "GET", f"/webhooks/{key}")
    said = answer.json()
    assert [one["status"] for one in said["attempts"]] == [204]
    assert "secret" not in said
    assert said["cursor"] == event["cursor"]
    answer = await call(store, tmp_path, scene, "POST", f"/webhooks/{key}/secret")
    assert answer.json()["secret"].startswith("whsec_")
    answer = await call(
        store, tmp_path, scene, "POST", f"/webhooks/{key}/replay", json={"after": "0-0"}
    )
    assert answer.json()["cursor"] == "0-0"
    since = {"since": NOW.isoformat()}
    answer = await call(store, tmp_path, scene, "POST", f"/webhooks/{key}/replay", json=since)
    assert answer.status_code == 200
    change = {"state": "disabled", "kinds": ["click"], "description": "Off"}
    answer = await call(store, tmp_path, scene, "PATCH", f"/webhooks/{key}", json=change)
    said = answer.json()
    assert (said["state"], said["kinds"], said["url"]) == ("disabled", ["click"], server.url)
    change = {"state": "active"}
    answer = await call(store, tmp_path, scene, "PATCH", f"/webhooks/{key}", json=change)
    assert answer.json()["reason"] == ""
    listed = (await call(store, tmp_path, scene, "GET", "/webhooks")).json()["webhooks"]
    assert len(listed) == 2
    answer = await call(store, tmp_path, scene, "DELETE", f"/webhooks/{key}")
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await call(store, tmp_path, scene, "GET", f"/webhooks/{key}")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "nonsense"}, "/url"),
        ({"url": "https://h.example.com/", "kinds": "click"}, "/kinds"),
        ({"url": "https://h.example.com/", "kinds": ["nonsense"]}, "/kinds"),
        ({"url": "https://h.example.com/", "secret": "mine"}, "/secret"),
        ({"url": "https://h.example.com/", "description": "x" * 201}, "/description"),
    ],
)
async def test_what_is_wrong_with_a_webhook_is_said(
    store: Sessions, scene: Scene, tmp_path: Path, body: dict[str, Any], pointer: str
) -> None:
    answer = await call(store, tmp_path, scene, "POST", "/webhooks", json=body)
    assert (answer.status_code, answer.json()["pointer"]) == (422, pointer)


async def test_events_are_fetched_page_by_page(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    whole = (await call(store, tmp_path, scene, "GET", "/events")).json()
    seen, cursor = [], "0-0"
    while True:
        path = f"/events?limit=2&after={cursor}"
        page = (await call(store, tmp_path, scene, "GET", path)).json()
        seen += page["events"]
        cursor = page["cursor"]
        if not page["more"]:
            break
    assert seen == whole["events"]
    assert len(seen) >= 2
    path = f"/events?since={NOW - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}&type=message.queued"
    page = (await call(store, tmp_path, scene, "GET", path)).json()
    assert {one["type"] for one in page["events"]} == {"message.queued"}


@pytest.mark.parametrize(
    "query",
    ["after=x", "after=1", "since=today", "limit=0", "limit=x", "type=x", "after=0-0&since=x"],
)
async def test_bad_questions_about_events_are_refused(
    store: Sessions, scene: Scene, tmp_path: Path, query: str
) -> None:
    assert (await call(store, tmp_path, scene, "GET", f"/events?{query}")).status_code == 400

"""A second company with the same data walks every route and sees nothing of the first.

The walk is made from the route table: a route without a case here fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from storage.sessions import Sessions
from storage.tables import (
    Batch,
    Delivery,
    Domain,
    DomainKeys,
    Draft,
    Message,
    Sequence,
    Task,
    Webhook,
)
from tests.console.scene import Scene, app_of, browser, play, sign_in

# What each path is called with: ids and names of the other company. None: nobody's, no id in it.
CASES = {
    "/": None,
    "/sign-in": None,
    "/sign-in/{secret:str}": "nonsense",
    "/sign-out": None,
    "/inbox": None,
    "/inbox/{id:str}": "reply",
    "/review": None,
    "/drafts/{id:str}/approve": "draft",
    "/drafts/{id:str}/edit": "draft",
    "/drafts/{id:str}/reject": "draft",
    "/messages": None,
    "/messages/{id:str}": "sent",
    "/follow-up": None,
    "/follow-up/{name:str}": "sequence",
    "/follow-up/{name:str}/switch": "sequence",
    "/follow-up/people/{id:str}": "enrolment",
    "/leads": None,
    "/leads/clusters/{id:str}": "cluster",
    "/metrics": None,
    "/queue": None,
    "/queue/messages/{id:str}": "sent",
    "/queue/messages/{id:str}/trace": "sent",
    "/tracker": None,
    "/tracker/tasks/{id:str}/done": "task",
    "/content": None,
    "/domains": None,
    "/domains/{id:str}": "domain",
    "/domains/{id:str}/zone": "domain",
    "/domains/{id:str}/check": "domain",
    "/domains/{id:str}/rotate": "domain",
    "/domains/{id:str}/remove": "domain",
    "/files": None,
    "/suppressions": None,
    "/suppressions/remove": None,
    "/people": None,
    "/webhooks": None,
    "/api": None,
    "/static/{name:str}": "style.css",
    "/api/openapi.json": None,
    "/api/v1/openapi.json": None,
    "/api/v1/messages": None,
    "/api/v1/messages/cancel": None,
    "/api/v1/messages/{id:str}/cancel": "sent",
    "/api/v1/batches/{id:str}": "batch",
    "/api/v1/messages/{id:str}": "sent",
    "/api/v1/events": None,
    "/api/v1/webhooks": None,
    "/api/v1/webhooks/{id:str}": "webhook",
    "/api/v1/webhooks/{id:str}/secret": "webhook",
    "/api/v1/webhooks/{id:str}/replay": "webhook",
    "/api/v1/contacts": None,
    "/api/v1/drafts": None,
    "/api/v1/drafts/{id:str}/approve": "draft",
    "/api/v1/drafts/{id:str}/reject": "draft",
}
OPEN = {
    "/sign-in",
    "/sign-in/{secret:str}",
    "/metrics",
    "/static/{name:str}",
    "/api",
    "/api/openapi.json",
    "/api/v1/openapi.json",
}


def with_value(path: str, other: Scene) -> tuple[str, bool]:
    """The path with the other company's id in it, and whether it then names something of theirs."""
    case = CASES[path]
    if case is None:
        return path, False
    value = str(getattr(other, case, case))
    head, _, tail = path.partition("{")
    return head + value + tail.partition("}")[2], hasattr(other, case)


async def test_nothing_of_another_company_is_seen_or_changed(
    store: Sessions, tmp_path: Path
) -> None:
    other, ours = await play(store, "otherfirm"), await play(store, "ourfirm")
    app = app_of(store, tmp_path)
    before = await _state(store, other)
    walked = set()
    async with browser(app) as client:
        csrf = await sign_in(client, ours.owner)
        token = {"Authorization": f"Bearer {ours.token}"}
        for route in app.routes:
            methods = getattr(route, "methods", set()) - {"OPTIONS", "HEAD"}
            if not methods:
                continue
            assert route.path in CASES, f"{route.path} has no case"
            walked.add(route.path)
            if route.path == "/sign-out":
                continue  # Ends the walk; what it needs is tested with the other forms.
            path, theirs = with_value(route.path, other)
            for method in sorted(methods):
                if method == "GET":
                    answer = await client.get(path, headers=token)
                elif path.startswith("/api/"):
                    body = {"user": ours.owner, "address": "x@ourfirm.test"}
                    answer = await client.request(method, path, json=body, headers=token)
                else:
                    form = {"csrf": csrf, "text": "changed", "to": "paused", "what": "hold"}
                    form |= {"destination": "otherfirm.test", "line": "call ann@otherfirm.test ok"}
                    answer = await client.post(path, data=form)
                if theirs:
                    assert answer.status_code == 404, f"{method} {path}: {answer.status_code}"
                assert answer.status_code < 500, f"{method} {path}: {answer.text[:300]}"
                if route.path != "/tracker":  # It repeats the line that was typed.
                    assert "otherfirm" not in answer.text, f"{method} {path}"
        for named in ({"batch": str(other.batch)}, {"campaign": other.mark}):
            answer = await client.post("/api/v1/messages/cancel", json=named, headers=token)
            assert answer.json().get("cancelled", 0) == 0
    assert walked == set(CASES)
    assert await _state(store, other) == before


async def _state(store: Sessions, scene: Scene) -> list[object]:
    async with store.read(scene.company) as session:
        found: list[object] = []
        for query in (
            select(Draft.state, Draft.text),
            select(Delivery.state, Delivery.reason),
            select(Task.state),
            select(Sequence.state),
            select(Message.id, Message.state),
            select(Webhook.id, Webhook.url, Webhook.tx, Webhook.seq, Webhook.secrets),
            select(Batch.id, Batch.digest),
            select(Domain.name, Domain.rsa_selector),
            select(DomainKeys.rsa_selector),
        ):
            found.append(sorted(map(str, (await session.execute(query)).all())))
    return found


async def test_a_stranger_sees_only_the_open_pages(store: Sessions, tmp_path: Path) -> None:
    scene = await play(store, "ourfirm")
    app = app_of(store, tmp_path)
    async with browser(app) as client:
        for route in app.routes:
            methods = getattr(route, "methods", set()) - {"OPTIONS", "HEAD"}
            path, _ = with_value(route.path, scene)
            for method in sorted(methods):
                answer = await client.request(method, path, data={} if method == "POST" else None)
                assert "ourfirm" not in answer.text or path in answer.text
                if route.path in OPEN:
                    continue
                if path.startswith("/api/"):
                    assert answer.status_code == 401
                    assert answer.headers["content-type"].startswith("application/problem+json")
                else:
                    assert answer.status_code == 303, f"{method} {path}"
                    assert answer.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("path", ["/domains", "/people", "/webhooks"])
async def test_a_rep_does_not_see_what_owners_see(
    store: Sessions, tmp_path: Path, path: str
) -> None:
    scene = await play(store, "ourfirm")
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.rep)
        assert (await client.get(path)).status_code == 403
        switch = f"/follow-up/{scene.sequence}/switch"
        answer = await client.post(switch, data={"csrf": csrf, "to": "paused"})
        assert answer.status_code == 403
        answer = await client.post("/queue", data={"csrf": csrf, "what": "hold"})
        assert answer.status_code == 403
        answer = await client.post(f"/drafts/{scene.draft}/approve", data={"csrf": csrf})
        assert answer.status_code == 409  # The draft is the owner's.

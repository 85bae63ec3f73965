"""Pages: what a rep looks at and decides; mail content is shown and never obeyed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import select, update

from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Activity, Audit, Draft, Enrolment, Message, Task
from tests.console.scene import NOW, PASSWORD, Scene, app_of, browser, play, sign_in

PAGES = (
    "/", "/inbox", "/inbox?all=1", "/review", "/messages", "/follow-up", "/leads", "/queue",
    "/tracker", "/content", "/domains", "/people",
)  # fmt: skip


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    """One company."""
    return await play(store, "ourfirm")


async def drafts(store: Sessions, scene: Scene) -> list[Draft]:
    async with store.read(scene.company) as session:
        return list(await session.scalars(select(Draft)))


async def answers(store: Sessions, scene: Scene) -> list[Message]:
    async with store.read(scene.company) as session:
        return list(await session.scalars(select(Message).where(Message.kind == "answer")))


async def test_every_page_shows_its_things_safely(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    paths = [
        *PAGES,
        f"/inbox/{scene.reply}",
        f"/messages/{scene.sent}",
        f"/messages/{scene.reply}",
        f"/follow-up/{scene.sequence}",
        f"/follow-up/people/{scene.enrolment}",
        f"/leads/clusters/{scene.cluster}",
    ]
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.owner)
        for path in paths:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            page = answer.text
            assert "<script>alert" not in page
            assert "<b>bold</b>" not in page
            assert not re.search(r"\sstyle=|\son\w+=|<style", page), path
            assert re.findall(r"<script[^>]*>", page) == ['<script src="/static/console.js" defer>']
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_new_company_is_told_what_to_do_first(store: Sessions, tmp_path: Path) -> None:
    from console import access

    async with store.begin(EVERY_COMPANY) as session:
        company = await access.add_company(session, "New Ltd", now=NOW)
    async with store.begin(company.id) as session:
        await access.add_user(
            session, email="a@new.example", name="A", role="owner", password=PASSWORD, now=NOW
        )
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, "a@new.example")
        for path in PAGES:
            answer = await client.get(path)
            assert answer.status_code == 200, path
        assert "waypost contact import" in (await client.get("/")).text
        assert "waypost domain add" in (await client.get("/domains")).text


async def test_the_conversation_says_what_why_and_whence(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.owner)
        page = (await client.get(f"/inbox/{scene.reply}")).text
    for part in ("question pricing", "90 %", "They ask ourfirm", "content:price@1", "How much"):
        assert part in page


async def test_approving_sends_once_however_often(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        form = {"csrf": await sign_in(client, scene.owner)}
        for _ in range(3):
            answer = await client.post(f"/drafts/{scene.draft}/approve", data=form)
            assert answer.status_code == 303
        page = (await client.get(f"/inbox/{scene.reply}")).text
        assert "The draft was approved" in page
        late = await client.post(f"/drafts/{scene.draft}/reject", data={**form, "note": "no"})
        assert late.status_code == 303
    (answer_,) = await answers(store, scene)
    assert answer_.recipient == "ann@ourfirm.test"
    (draft,) = await drafts(store, scene)
    assert (draft.state, draft.decided_via) == ("approved", "console")
    async with store.read(scene.company) as session:
        actions = (await session.scalars(select(Audit.action))).all()
    assert "draft approve" in actions


async def test_what_a_rep_writes_is_what_goes_out(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        form = {"csrf": await sign_in(client, scene.owner), "text": "It is 7 euros.\r\nBye"}
        assert (await client.post(f"/drafts/{scene.draft}/edit", data=form)).status_code == 303
    (draft,) = await drafts(store, scene)
    assert draft.sent_text == "It is 7 euros.\nBye"
    assert len(await answers(store, scene)) == 1


async def test_an_edit_is_not_lost_when_it_is_approved(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        form = {"csrf": await sign_in(client, scene.owner), "text": "It is 8 euros."}
        assert (await client.post(f"/drafts/{scene.draft}/approve", data=form)).status_code == 303
    assert (await drafts(store, scene))[0].sent_text == "It is 8 euros."


async def test_a_rejected_draft_sends_nothing(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        form = {"csrf": await sign_in(client, scene.owner), "note": "I call"}
        assert (await client.post(f"/drafts/{scene.draft}/reject", data=form)).status_code == 303
    (draft,) = await drafts(store, scene)
    assert (draft.state, draft.note) == ("rejected", "I call")
    assert await answers(store, scene) == []


async def test_a_gap_has_to_be_filled_first(store: Sessions, scene: Scene, tmp_path: Path) -> None:
    async with store.begin(scene.company) as session:
        await session.execute(update(Draft).values(gaps=["warranty"]))
    async with browser(app_of(store, tmp_path)) as client:
        form = {"csrf": await sign_in(client, scene.owner)}
        answer = await client.post(f"/drafts/{scene.draft}/approve", data=form)
    assert answer.status_code == 409
    assert "Nothing was sent" in answer.text
    assert await answers(store, scene) == []


async def test_a_form_from_elsewhere_changes_nothing(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.owner)
        for form in ({}, {"csrf": "guess"}):
            answer = await client.post(f"/drafts/{scene.draft}/approve", data=form)
            assert answer.status_code == 403
    assert (await drafts(store, scene))[0].state == "proposed"


async def test_tasks_and_activities_are_a_line_of_text(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.owner)
        line = "call ann@ourfirm.test interested next mail in 3d"
        assert (await client.post("/tracker", data={"csrf": csrf, "line": line})).status_code == 303
        wrong = await client.post("/tracker", data={"csrf": csrf, "line": "sing for somebody"})
        assert wrong.status_code == 422
        assert "sing for somebody" in wrong.text
        unknown = "call nobody@ourfirm.test ok"
        answer = await client.post("/tracker", data={"csrf": csrf, "line": unknown})
        assert "not one of your contacts" in answer.text
        done = await client.post(f"/tracker/tasks/{scene.task}/done", data={"csrf": csrf})
        assert done.status_code == 303
    async with store.read(scene.company) as session:
        (activity,) = (await session.scalars(select(Activity))).all()
        task = await session.get_one(Task, scene.task)
    assert (activity.kind, activity.next_kind) == ("call", "mail")
    assert task.state == "done"


async def test_a_sequence_is_paused_and_runs_again(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.owner)
        path = f"/follow-up/{scene.sequence}"
        for state in ("paused", "running"):
            form = {"csrf": csrf, "to": state}
            assert (await client.post(f"{path}/switch", data=form)).status_code == 303
            assert state in (await client.get(path)).text
        assert "Ann ourfirm" in (await client.get(f"{path}?state=active")).text
    async with store.read(scene.company) as session:
        assert (await session.get_one(Enrolment, scene.enrolment)).state != "ended"


async def test_the_queue_is_held_and_released(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, scene.owner)
        for what, shown in (("hold", "Release"), ("release", "Hold")):
            form = {"csrf": csrf, "what": what, "destination": "ourfirm.test"}
            assert (await client.post("/queue", data=form)).status_code == 303
            assert f">{shown}</button>" in (await client.get("/queue")).text
        form = {"csrf": csrf, "what": "explode", "destination": "ourfirm.test"}
        assert (await client.post("/queue", data=form)).status_code == 400


async def test_messages_are_found_and_paged(store: Sessions, scene: Scene, tmp_path: Path) -> None:
    from mta.submission import Order, submit

    async with store.begin(scene.company) as session:
        for number in range(60):
            await submit(
                session,
                Order(
                    key=f"n{number}", kind="mail", sender=scene.owner, sender_name="",
                    recipient=f"p{number}@ourfirm.test", recipient_name="",
                    subject=f"Number {number} 100%", text="x",
                ),
                now=NOW,
            )  # fmt: skip
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.owner)
        page = (await client.get("/messages?q=Number")).text
        assert page.count("<tr><td") == 50
        older = re.search(r'href="(/messages\?[^"]*before=[^"]*)"', page)
        assert older
        rest = (await client.get(older[1].replace("&amp;", "&"))).text
        assert rest.count("<tr><td") == 10
        assert (await client.get("/messages?q=100%25")).text.count("<tr><td") == 50
        assert "Nothing fits" in (await client.get("/messages?q=nothing-like-this")).text
        assert (await client.get("/messages?before=nonsense")).status_code == 200


async def test_what_is_not_there_is_a_page_too(
    store: Sessions, scene: Scene, tmp_path: Path
) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.owner)
        for path in ("/nowhere", "/inbox/nonsense", f"/inbox/{scene.sent}", "/static/../app.py"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert "Nothing here" in answer.text
        assert (await client.delete("/inbox")).status_code == 405

"""The page Queue: a company sees and stops its own mail, the host's operator everybody's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import select

from console.queries.queue_picture import draw
from mail.ids import uuid7
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Audit, Delivery, QueueSample, QueueSuspension, Trace
from tests.console.scene import NOW, app_of, browser, play, sign_in


async def test_a_company_sees_and_stops_its_own_mail_only(store: Sessions, tmp_path: Path) -> None:
    ours, theirs = await play(store, "acme"), await play(store, "rival")
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, ours.owner)
        page = (await client.get("/queue")).text
        assert "acme.test" in page
        assert "rival" not in page
        one = (await client.get(f"/queue/messages/{ours.sent}")).text
        assert "waits for room" in one
        assert (await client.get(f"/queue/messages/{theirs.sent}")).status_code == 404
        assert (await client.get("/queue?after=nonsense")).status_code == 400
        assert "No mail waits for rival.test" in (await client.get("/queue?to=rival.test")).text

        async def press(what: str, destination: str) -> int:
            form = {"csrf": csrf, "what": what, "destination": destination}
            return (await client.post("/queue", data=form)).status_code

        assert await press("hold", "rival.test") == 303
        assert await press("hold", "acme.test") == 303
        assert await press("release", "acme.test") == 303
        assert await press("suspend", "rival.test") == 303  # Their own mail to that domain.
        assert await press("nonsense", "acme.test") == 400
        assert await press("hold", "") == 400
        assert await press("resume", "never.test") == 400
        assert "is suspended" in (await client.get("/queue")).text
        assert await press("resume", "rival.test") == 303
    async with store.read(EVERY_COMPANY) as session:
        states = {
            (row.company_id, row.state)
            for row in await session.scalars(
                select(Delivery).where(Delivery.message_id.in_([ours.sent, theirs.sent]))
            )
        }
        assert states == {(ours.company, "deferred"), (theirs.company, "queued")}
        (row,) = await session.scalars(select(QueueSuspension))
        assert row.of_company == ours.company
        audited = await session.scalars(select(Audit).where(Audit.action == "queue hold"))
        assert [entry.detail["count"] for entry in audited] == [0, 1]


async def test_the_operator_sees_and_stops_everybodys(store: Sessions, tmp_path: Path) -> None:
    ours, theirs = await play(store, "acme"), await play(store, "rival")
    async with browser(app_of(store, tmp_path, operators=(ours.owner,))) as client:
        csrf = await sign_in(client, ours.owner)
        page = (await client.get("/queue")).text
        assert "rival.test" in page
        assert "every company" in page
        assert (await client.get(f"/queue/messages/{theirs.sent}")).status_code == 200
        form = {"csrf": csrf, "what": "suspend", "destination": "rival.test"}
        assert (await client.post("/queue", data=form)).status_code == 303
    async with store.read(EVERY_COMPANY) as session:
        (row,) = await session.scalars(select(QueueSuspension))
    assert row.of_company is None


async def test_a_trace_is_asked_for_and_shown(store: Sessions, tmp_path: Path) -> None:
    ours, theirs = await play(store, "acme"), await play(store, "rival")
    path = f"/queue/messages/{ours.sent}"
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, ours.owner)
        assert "Try now and show" in (await client.get(path)).text
        assert (await client.post(f"{path}/trace", data={"csrf": csrf})).status_code == 303
        page = (await client.get(path)).text
        assert "look again" in page
        assert "Try now and show" not in page
        other = f"/queue/messages/{theirs.sent}/trace"
        assert (await client.post(other, data={"csrf": csrf})).status_code == 404
        async with store.begin(EVERY_COMPANY) as session:
            (row,) = await session.scalars(select(Trace))
            row.state, row.outcome = "done", "delivered: 250 ok"
            row.lines = [[0.1, "us", "EHLO <b>"], [0.2, "them", "250 hello"]]
        page = (await client.get(path)).text
        assert "   0.100 &gt; EHLO &lt;b&gt;" in page
        assert "It came to: delivered: 250 ok" in page
        async with store.begin(EVERY_COMPANY) as session:
            found = await session.scalars(select(Delivery).where(Delivery.message_id == ours.sent))
            found.one().state = "held"
        assert "Try now and show" not in (await client.get(path)).text
        refused = await client.post(f"{path}/trace", data={"csrf": csrf})
        assert refused.status_code == 409
        assert "Release it first" in refused.text
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, ours.rep)
        assert (await client.post(f"{path}/trace", data={"csrf": csrf})).status_code == 403


async def test_reps_change_nothing(store: Sessions, tmp_path: Path) -> None:
    ours = await play(store, "acme")
    async with browser(app_of(store, tmp_path)) as client:
        csrf = await sign_in(client, ours.rep)
        assert "Hold</button>" not in (await client.get("/queue")).text
        form = {"csrf": csrf, "what": "hold", "destination": "acme.test"}
        assert (await client.post("/queue", data=form)).status_code == 403


def test_the_last_hour_is_drawn() -> None:
    def sample(minutes: int, queued: int, delivered: int) -> QueueSample:
        at = NOW - timedelta(minutes=minutes)
        counts = {"sending": 0, "deferred": 0, "held": 0}
        return QueueSample(id=uuid7(), at=at, queued=queued, delivered=delivered, **counts)

    assert draw([sample(0, 1, 1)], now=NOW) is None
    picture = draw([sample(60, 10, 0), sample(30, 5, 0), sample(0, 2, 0), sample(0, 3, 0)], now=NOW)
    assert picture is not None
    assert picture.waiting.points == "0,0 320,60 640,60"
    assert (picture.waiting.most, picture.waiting.last) == (10, 5)
    assert picture.delivered.points == "0,120 320,120 640,120"

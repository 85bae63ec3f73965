"""Sequences on a real store: mails are ordered, waits pass, replies stop, people are asked."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from bus.events import Agent, Kind, publish
from bus.stations import Line
from config.sections.work import EngineSettings
from config.settings import Settings
from mail.ids import uuid7
from mta.recipients import ensure_contact, suppress
from sequencer import service
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import (
    Company,
    Contact,
    ContentItem,
    Domain,
    Enrolment,
    Event,
    Hold,
    Message,
    Sequence,
    StepRun,
    Task,
    User,
)
from tests.conftest import MONDAY
from tracker.tasks import finish_task

DAY = timedelta(days=1)

THREE_MAILS = """\
sequence: intro
entry: {on: event, event: lead.consented}
on_reply:
  - {when: 'reply.intent == "interested" && reply.certainty >= 0.6', do: goto ring}
  - {when: 'reply.intent == "later"', do: pause 14d}
  - {when: 'reply.intent == "thanks"', do: continue}
steps:
  - {id: hello, send: hello}
  - id: looked
    wait: {for: click, where: 'event.url.contains("price")', timeout: 3d, on_timeout: nudge}
  - {id: ring, task: Ring, due: 4h, then: end}
  - {id: nudge, send: nudge, thread: true}
  - {id: rest, wait: 5d}
  - {id: last, send: hello}
"""


class World:
    """A company with one rep, one contact and a sequence, on a clock that is put forward."""

    def __init__(self, store: Sessions) -> None:
        self.store, self.company, self.now = store, uuid7(), MONDAY
        self.line = Line(store, service.stations(lambda: self.now), tick=1)

    async def build(self) -> None:
        async with self.store.begin(EVERY_COMPANY) as session:
            session.add(
                Company(
                    id=self.company,
                    number=1,
                    name="Ours",
                    postal_address="1 Quay",
                    created_at=MONDAY,
                )
            )
        async with self.store.begin(self.company) as session:
            session.add(User(email="bo@ours.test", name="Bo", role="owner", created_at=MONDAY))
            session.add(
                Domain(
                    name="ours.test", reply_domain="reply.ours.test", rsa_selector="a", rsa_key="",
                    ed25519_selector="b", ed25519_key="", created_at=MONDAY,
                )
            )  # fmt: skip
            await self.item(session, "hello", "Hello {{ contact.first_name }}")
            await self.item(session, "nudge", "")
            self.ann = await ensure_contact(
                session, "ann@x.test", name="Ann Lee", origin={"by": "import"}, now=MONDAY
            )

    async def item(self, session: Any, key: str, subject: str) -> None:
        session.add(
            ContentItem(
                key=key, version=1, kind="mail", title=key, subject=subject,
                text="Dear {{ contact.first_name }}, this is {{ sender.name }}.", created_at=MONDAY,
            )
        )  # fmt: skip

    async def start(self, source: str = THREE_MAILS, who: Contact | None = None) -> UUID:
        async with self.store.begin(self.company) as session:
            version = await service.install(session, source, path="s.yaml", now=self.now)
            sequence = await session.get_one(Sequence, version.sequence_id)
            enrolment = await service.enrol(session, sequence, who or self.ann, now=self.now)
            assert enrolment is not None
            return enrolment.id

    async def go(self, to: timedelta = timedelta()) -> int:
        self.now += to
        return await service.tick(self.store, now=self.now)

    async def tell(self, kind: Kind, enrolment: UUID | None = None, **payload: Any) -> Event:
        agent = payload.pop("agent", Agent.UNKNOWN)
        message = payload.pop("message", None)
        async with self.store.begin(self.company) as session:
            event = await publish(
                session, kind, contact=self.ann.id, enrolment=enrolment, agent=agent,
                message=message, occurred_at=self.now, **payload,
            )  # fmt: skip
        await self.line.drain()
        async with self.store.read(EVERY_COMPANY) as session:
            holds = list(await session.scalars(select(Hold.cause)))
            assert not holds, holds[0]
        return event

    async def row(self, enrolment: UUID) -> Enrolment:
        async with self.store.read(self.company) as session:
            return await session.get_one(Enrolment, enrolment)

    async def mails(self) -> list[Message]:
        async with self.store.read(self.company) as session:
            found = select(Message).order_by(Message.created_at, Message.id)
            return list(await session.scalars(found))

    async def runs(self) -> list[tuple[str, str]]:
        async with self.store.read(self.company) as session:
            found = await session.scalars(select(StepRun).order_by(StepRun.at))
            return [(run.step_id, run.outcome) for run in found]

    async def tasks(self) -> list[Task]:
        async with self.store.read(self.company) as session:
            return list(await session.scalars(select(Task).order_by(Task.created_at)))

    async def explained(self, enrolment: UUID) -> str:
        async with self.store.read(self.company) as session:
            return "\n".join(await service.explain(session, enrolment, now=self.now))


@pytest.fixture
async def world(store: Sessions) -> World:
    made = World(store)
    await made.build()
    return made


@pytest.fixture
async def any_world(any_store: Sessions) -> World:
    """The same on SQLite and on PostgreSQL."""
    made = World(any_store)
    await made.build()
    return made


async def test_mails_go_out_one_after_the_other_in_one_thread(any_world: World) -> None:
    world = any_world
    enrolment = await world.start()
    assert await world.go() == 1
    assert await world.go() == 0
    assert await world.go(3 * DAY) == 2  # The time-out, and the mail that it leads to.
    assert await world.go(5 * DAY) == 2
    first, second, third = await world.mails()
    assert first.order_key == f"{enrolment}:hello:1"
    assert (first.subject, first.sender, first.recipient) == (
        "Hello Ann",
        "bo@ours.test",
        "ann@x.test",
    )
    assert (first.kind, first.campaign, first.step_id) == ("bulk", "intro", "hello")
    assert (second.subject, second.thread_id) == ("Hello Ann", first.thread_id)
    assert second.references == first.rfc_message_id
    assert third.thread_id != first.thread_id
    row = await world.row(enrolment)
    assert (row.state, row.reason) == ("ended", "finished")
    assert await world.runs() == [
        ("hello", "sent"),
        ("looked", "timeout"),
        ("nudge", "sent"),
        ("rest", "waited"),
        ("last", "sent"),
    ]


async def test_a_human_click_on_the_right_link_is_waited_for(any_world: World) -> None:
    world = any_world
    enrolment = await world.start()
    await world.go()
    await world.tell(Kind.CLICKED, enrolment, url="/price", agent=Agent.MACHINE)
    await world.tell(Kind.CLICKED, enrolment, url="/about", agent=Agent.HUMAN)
    assert (await world.row(enrolment)).step_id == "looked"
    await world.tell(Kind.CLICKED, enrolment, url="/price", agent=Agent.HUMAN)
    row = await world.row(enrolment)
    assert (row.step_id, row.memory["clicks"]) == ("ring", 2)
    await world.go()
    [task] = await world.tasks()
    assert (task.title, task.due_at) == ("Ring: Ann Lee", world.now + timedelta(hours=4))
    assert (await world.row(enrolment)).state == "ended"


@pytest.mark.parametrize(
    ("payload", "state", "reason"),
    [
        ({"top": "interested", "certainty": 0.9}, "active", ""),
        ({"top": "interested", "certainty": 0.3}, "ended", "replied"),
        ({"top": "later", "certainty": 0.9}, "paused", "a reply met"),
        ({"top": "thanks", "certainty": 0.9}, "waiting", ""),
        ({"top": "unsubscribe", "decision": "suppress"}, "ended", "the reply asks to stop"),
        ({"top": "question", "abstain": True}, "asking", "the reply is unclear"),
        (
            {"top": "out_of_office", "pause_until": "2026-12-07T08:00:00+00:00"},
            "paused",
            "away until 2026-12-07",
        ),
        ({"top": "out_of_office", "decision": "pause"}, "paused", "away until 2026-11-30"),
        ({"top": "auto_reply", "decision": "nothing"}, "waiting", ""),
    ],
)
async def test_what_a_reply_does(
    world: World, payload: dict[str, Any], state: str, reason: str
) -> None:
    enrolment = await world.start()
    await world.go()
    event = await world.tell(Kind.REPLY_READ, enrolment, **payload)
    row = await world.row(enrolment)
    assert row.state == state
    assert row.reason.startswith(reason)
    async with world.store.begin(world.company) as session:  # The same event once more.
        await service.stations(lambda: world.now)[0].handle(session, event)
    assert (await world.row(enrolment)).version == row.version
    tasks = await world.tasks()
    assert [task.kind for task in tasks] == (["decide"] if state == "asking" else [])


async def test_who_was_away_goes_on_with_the_time_that_was_left(world: World) -> None:
    enrolment = await world.start()
    await world.go()
    await world.go(DAY)
    until = (world.now + 10 * DAY).isoformat()
    await world.tell(Kind.REPLY_READ, enrolment, top="out_of_office", pause_until=until)
    assert await world.go(9 * DAY) == 0
    assert await world.go(DAY) == 1
    row = await world.row(enrolment)
    assert (row.state, row.due_at) == ("waiting", world.now + 2 * DAY)
    assert row.memory.get("replies") is None
    await world.go(2 * DAY)
    assert len(await world.mails()) == 2


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (Kind.UNSUBSCRIBED, {"how": "page"}, "unsubscribed"),
        (Kind.COMPLAINT_RECEIVED, {}, "complained"),
        (Kind.BOUNCE_RECEIVED, {"hard": True}, "the address bounced"),
        (Kind.DELIVERY_BOUNCED, {"hard": True, "class": "bad mailbox"}, "the address bounced"),
    ],
)
async def test_what_ends_a_sequence_for_good(
    world: World, kind: Kind, payload: dict[str, Any], reason: str
) -> None:
    enrolment = await world.start()
    await world.go()
    await world.tell(kind, None, **payload)
    row = await world.row(enrolment)
    assert (row.state, row.reason) == ("ended", reason)
    await world.go(30 * DAY)
    assert len(await world.mails()) == 1


async def test_a_soft_bounce_ends_nothing(world: World) -> None:
    enrolment = await world.start()
    await world.go()
    await world.tell(Kind.BOUNCE_RECEIVED, enrolment, hard=False)
    assert (await world.row(enrolment)).state == "waiting"


async def test_somebody_suppressed_in_between_is_not_written_to_and_it_is_told_why(
    world: World,
) -> None:
    enrolment = await world.start()
    async with world.store.begin(world.company) as session:
        await suppress(session, "ann@x.test", "complained", now=world.now)
    await world.go()
    assert await world.mails() == []
    told = await world.explained(enrolment)
    assert "hello (send) skipped, because suppressed: complained" in told
    assert "Ended: may not be written to: suppressed: complained." in told


async def test_a_mail_that_the_last_gate_refused_is_told(world: World) -> None:
    enrolment = await world.start()
    await world.go()
    [mail] = await world.mails()
    await world.tell(Kind.DELIVERY_SKIPPED, enrolment, message=mail.id, reason="the cap is used up")
    assert "hello (send) skipped, because the cap is used up" in await world.explained(enrolment)


async def test_a_bad_item_asks_a_person_and_stops_nobody_else(world: World) -> None:
    async with world.store.begin(world.company) as session:
        bo = await ensure_contact(session, "bo@y.test", name="Bo", origin={}, now=MONDAY)
    bad = await world.start("sequence: bad\nsteps: [{id: a, send: missing}]")
    good = await world.start(who=bo)
    await world.go()
    row = await world.row(bad)
    assert row.state == "asking"
    assert row.reason.startswith('There is no content item "missing".')
    assert (await world.row(good)).step_id == "looked"
    [task] = await world.tasks()
    assert task.kind == "decide"
    assert (await world.runs()) == [("hello", "sent")]
    async with world.store.begin(world.company) as session:
        await world.item(session, "missing", "Here")
        assert await service.resume(session, bad, now=world.now)
    await world.go()
    assert (await world.row(bad)).reason == "finished"
    assert [task.state for task in await world.tasks()] == ["cancelled"]


async def test_a_person_who_deals_with_the_question_takes_over(world: World) -> None:
    enrolment = await world.start()
    await world.go()
    await world.tell(Kind.REPLY_READ, enrolment, top="", abstain=True)
    [task] = await world.tasks()
    async with world.store.begin(world.company) as session:
        assert await finish_task(session, task.id, now=world.now)
    await world.line.drain()
    row = await world.row(enrolment)
    assert (row.state, row.reason) == ("ended", "a person took over")


async def test_old_work_does_not_fire(world: World) -> None:
    enrolment = await world.start()
    await world.go(2 * DAY)
    assert await world.mails() == []
    assert "hello (send) skipped, because stale" in await world.explained(enrolment)


async def test_a_paused_sequence_waits_and_is_not_stale_afterwards(world: World) -> None:
    enrolment = await world.start()
    sequence = (await world.row(enrolment)).sequence_id
    async with world.store.begin(world.company) as session:
        assert await service.pause_sequence(session, sequence)
    assert await world.go(3 * DAY) == 0
    assert "The whole sequence is paused" in await world.explained(enrolment)
    async with world.store.begin(world.company) as session:
        assert await service.resume_sequence(session, sequence, now=world.now)
    await world.go()
    assert len(await world.mails()) == 1


async def test_a_person_pauses_skips_and_stops(world: World) -> None:
    enrolment = await world.start()
    async with world.store.begin(world.company) as session:
        assert await service.skip(session, enrolment, reason="met her", now=world.now)
        assert await service.pause(session, enrolment, reason="fair", now=world.now)
        assert not await service.pause(session, enrolment, reason="fair", now=world.now)
    assert await world.go(10 * DAY) == 0
    assert "Paused until a person resumes it: fair." in await world.explained(enrolment)
    async with world.store.begin(world.company) as session:
        assert await service.resume(session, enrolment, now=world.now)
        assert await service.stop(session, enrolment, reason="sold", now=world.now)
        assert not await service.stop(session, enrolment, reason="sold", now=world.now)
    assert await world.runs() == [("hello", "skipped")]


async def test_a_lead_that_agreed_comes_in_once(world: World) -> None:
    async with world.store.begin(world.company) as session:
        first = await service.install(session, THREE_MAILS, path="s.yaml", now=world.now)
        again = await service.install(session, THREE_MAILS, path="s.yaml", now=world.now)
        newer = await service.install(session, THREE_MAILS + "\n", path="s.yaml", now=world.now)
        assert (first.id == again.id, newer.number) == (True, 2)
        manual = "sequence: other\nsteps: [{id: a, send: hello}]"
        await service.install(session, manual, path="o.yaml", now=world.now)
    for _ in range(2):
        await world.tell(Kind.LEAD_CONSENTED)
    async with world.store.read(world.company) as session:
        enrolment = (await session.scalars(select(Enrolment))).one()
        enrolled = select(func.count(Event.seq)).where(Event.kind == Kind.ENROLLED)
        assert await session.scalar(enrolled) == 1
    assert enrolment.version_id == newer.id


async def test_a_bad_sequence_is_refused_with_all_its_problems(world: World) -> None:
    async with world.store.begin(world.company) as session:
        with pytest.raises(service.PlanError) as caught:
            await service.install(session, "sequence: s\nsteps: 5", path="s.yaml", now=MONDAY)
    assert caught.value.public.startswith('s.yaml:2:8: "steps" is a list.')


async def test_waits_pass_faster_in_a_rehearsal(world: World) -> None:
    await world.start()
    await service.tick(world.store, now=world.now, speed=86_400)
    for seconds in (3, 5):
        world.now += timedelta(seconds=seconds)
        await service.tick(world.store, now=world.now, speed=86_400)
    assert len(await world.mails()) == 3


async def test_the_ticker_works_until_it_is_told_to_stop(world: World) -> None:
    await world.start()
    settings = Settings(engine=EngineSettings(tick=timedelta(milliseconds=10)))
    ticker = service.Ticker(world.store, settings=settings, clock=lambda: world.now)
    working = asyncio.create_task(ticker.run())
    for _ in range(200):
        await asyncio.sleep(0.01)
        if await world.mails():
            break
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert len(await world.mails()) == 1


async def test_two_clocks_at_once_do_each_step_once(any_world: World) -> None:
    world = any_world
    people = []
    async with world.store.begin(world.company) as session:
        for number in range(30):
            people.append(
                await ensure_contact(session, f"p{number}@x.test", name="P", origin={}, now=MONDAY)
            )
        await service.install(session, THREE_MAILS, path="s.yaml", now=MONDAY)
        for person in people:
            await service.enrol(session, "intro", person, now=MONDAY)
    ticks = [service.tick(world.store, now=MONDAY) for _ in range(3)]
    assert sum(await asyncio.gather(*ticks)) == 30
    keys = [mail.order_key for mail in await world.mails()]
    assert len(keys) == len(set(keys)) == 30
    assert len(await world.runs()) == 30


async def test_nobody_reaches_into_another_company(world: World) -> None:
    enrolment = await world.start()
    other = uuid7()
    async with world.store.begin(EVERY_COMPANY) as session:
        session.add(Company(id=other, number=2, name="Theirs", created_at=MONDAY))
    async with world.store.begin(other) as session:
        assert not await service.stop(session, enrolment, reason="x", now=MONDAY)
        assert await service.explain(session, enrolment, now=MONDAY) == []
        with pytest.raises(Exception, match="There is no sequence"):
            await service.enrol(session, "intro", world.ann.id, now=MONDAY)
    assert (await world.row(enrolment)).state == "active"

"""Tasks and activities happen once; what the appliance saw is written down by itself."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from bus.events import Kind, publish
from bus.stations import Line
from mail.ids import uuid7
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Activity, Company, Contact, Event, Task, User
from tests.conftest import MONDAY
from tracker.activities import log_activity
from tracker.owners import rep_of
from tracker.service import stations
from tracker.tasks import cancel_tasks, finish_task, open_task


@pytest.fixture
async def people(store: Sessions) -> tuple[UUID, UUID, UUID]:
    """A company with its owner Bo and the contact Ann."""
    company, user, contact = uuid7(), uuid7(), uuid7()
    async with store.begin(EVERY_COMPANY) as session:
        session.add(Company(id=company, number=1, name="Ours", created_at=MONDAY))
    async with store.begin(company) as session:
        session.add(User(id=user, email="bo@ours.test", name="Bo", role="owner", created_at=MONDAY))
        session.add(Contact(id=contact, address="ann@x.test", name="Ann", created_at=MONDAY))
    return company, user, contact


async def kinds_of(store: Sessions) -> list[str]:
    async with store.read(EVERY_COMPANY) as session:
        return list(await session.scalars(select(Event.kind).order_by(Event.seq)))


async def test_a_task_is_opened_once_and_done_once(
    store: Sessions, people: tuple[UUID, UUID, UUID]
) -> None:
    company, user, contact = people
    for _ in range(2):
        async with store.begin(company) as session:
            task = await open_task(
                session,
                key="k",
                kind="call",
                title="Call Ann",
                user=user,
                contact=contact,
                now=MONDAY,
            )
    done = []
    for _ in range(2):
        async with store.begin(company) as session:
            done.append(await finish_task(session, task.id, now=MONDAY))
    assert done == [True, False]
    assert await kinds_of(store) == [Kind.TASK_OPENED, Kind.TASK_DONE]


async def test_the_same_key_in_another_company_is_another_task(
    store: Sessions, people: tuple[UUID, UUID, UUID]
) -> None:
    company, *_ = people
    other = uuid7()
    async with store.begin(EVERY_COMPANY) as session:
        session.add(Company(id=other, number=2, name="Theirs", created_at=MONDAY))
    async with store.begin(company) as session:
        ours = await open_task(session, key="k", kind="call", title="One", now=MONDAY)
    async with store.begin(other) as session:
        theirs = await open_task(session, key="k", kind="call", title="Two", now=MONDAY)
        assert not await finish_task(session, ours.id, now=MONDAY)
    assert (ours.title, theirs.title) == ("One", "Two")


async def test_tasks_of_an_ended_enrolment_are_taken_back(
    store: Sessions, people: tuple[UUID, UUID, UUID]
) -> None:
    company, *_ = people
    enrolment = uuid7()
    async with store.begin(company) as session:
        task = await open_task(
            session, key="e", kind="call", title="Call", enrolment=enrolment, now=MONDAY
        )
        assert await cancel_tasks(session, enrolment, now=MONDAY) == 1
    async with store.begin(company) as session:
        assert not await finish_task(session, task.id, now=MONDAY)


async def test_what_is_next_becomes_a_task_of_whoever_wrote_it(
    store: Sessions, people: tuple[UUID, UUID, UUID]
) -> None:
    company, user, contact = people
    due, key = MONDAY + timedelta(days=3), uuid7()
    for _ in range(2):  # A form that is sent twice.
        async with store.begin(company) as session:
            first = await log_activity(
                session,
                contact=contact,
                kind="call",
                user=user,
                response="interested",
                next_kind="mail",
                next_at=due,
                key=key,
                now=MONDAY,
            )
    async with store.begin(company) as session:
        await log_activity(
            session, contact=contact, kind="mail", user=user, finishes=first.task_id, now=due
        )
    async with store.read(company) as session:
        task = (await session.scalars(select(Task))).one()
        activities = (await session.scalars(select(Activity).order_by(Activity.at))).all()
    assert (task.title, task.user_id, task.due_at, task.state) == ("Mail Ann", user, due, "done")
    assert [a.kind for a in activities] == ["call", "mail"]
    assert activities[0].task_id == task.id


async def test_replies_and_approved_answers_are_logged_once(
    store: Sessions, people: tuple[UUID, UUID, UUID]
) -> None:
    company, user, contact = people
    async with store.begin(company) as session:
        read = await publish(
            session, Kind.REPLY_READ, contact=contact, top="question", abstain=False
        )
        await publish(session, Kind.REPLY_READ, contact=None, top="question")
        await publish(session, Kind.DRAFT_APPROVED, contact=contact, user=user)
    [station] = stations(lambda: MONDAY)
    await Line(store, [station], tick=1).drain()
    async with store.begin(company) as session:
        await station.handle(session, read)  # Seen twice, as after a crash.
    async with store.read(company) as session:
        rows = (await session.scalars(select(Activity).order_by(Activity.at))).all()
    assert [(a.kind, a.response, a.user_id, a.origin) for a in rows] == [
        ("reply", "question", user, "auto"),
        ("mail", "answered", user, "auto"),
    ]


async def test_a_contact_without_an_owner_falls_to_the_first_owner_of_the_company(
    store: Sessions, people: tuple[UUID, UUID, UUID]
) -> None:
    company, owner, contact_id = people
    rep = uuid7()
    async with store.begin(company) as session:
        session.add(User(id=rep, email="cy@ours.test", name="Cy", role="rep", created_at=MONDAY))
        await session.flush()
        contact = await session.get_one(Contact, contact_id)
        found = [await rep_of(session, contact), await rep_of(session, contact, otherwise=rep)]
        contact.owner_id = rep
        (await session.get_one(User, rep)).disabled_at = MONDAY
        await session.flush()
        found.append(await rep_of(session, contact))
    assert [user.id if user else None for user in found] == [owner, rep, owner]

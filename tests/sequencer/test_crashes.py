"""A process that dies in the middle of its steps: nothing twice, nothing left out.

The clock runs in a process of its own that is ended (`os._exit`, so nothing is tidied up) just
before or just after a commit, and is then started again, until it has died at each of them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, select

from mail.ids import uuid7
from mta.recipients import ensure_contact
from sequencer import service
from storage.engine import database_url, make_engine
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Base, Company, ContentItem, Domain, Enrolment, Message, StepRun, Task
from tests.conftest import MONDAY

SEQUENCE = """\
sequence: intro
steps:
  - {id: hello, send: hello}
  - id: which
    branch: [{when: 'contact.name == "P1"', then: ring}, {else: more}]
  - {id: ring, task: Ring}
  - id: more
    repeat: {times: 2, every: 1d, steps: [{id: again, send: hello, thread: true}]}
  - {id: last, send: hello}
"""

PEOPLE = 2
STEPS = {"hello": 1, "which": 1, "more": 3, "again": 2, "last": 1}
MAILS = Counter({"hello": 1, "again": 2, "last": 1})


async def build(folder: Path) -> None:
    engine = make_engine(database_url("", folder))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    store, company = Sessions(engine), uuid7()
    async with store.begin(EVERY_COMPANY) as session:
        session.add(
            Company(id=company, number=1, name="Ours", postal_address="1 Quay", created_at=MONDAY)
        )
    async with store.begin(company) as session:
        session.add(
            Domain(
                name="ours.test", reply_domain="reply.ours.test", rsa_selector="a", rsa_key="",
                ed25519_selector="b", ed25519_key="", created_at=MONDAY,
            )
        )  # fmt: skip
        session.add(
            ContentItem(
                key="hello", version=1, kind="mail", title="Hello", subject="Hello", text="Hello",
                created_at=MONDAY,
            )
        )  # fmt: skip
        await service.install(session, SEQUENCE, path="s.yaml", now=MONDAY)
        for number in range(PEOPLE):
            person = await ensure_contact(
                session, f"p{number}@x.test", name=f"P{number}", origin={}, now=MONDAY
            )
            await service.enrol(session, "intro", person, now=MONDAY)
    await engine.dispose()


async def run(folder: Path, *, die_at: int = 0, after: bool = False) -> int:
    """Lets three days pass; dies at a commit (from 1) if told to, and says how many there were."""
    engine = make_engine(database_url("", folder))
    commits = 0

    def before_commit(connection: Any) -> None:
        nonlocal commits
        commits += 1
        if die_at and commits == die_at:
            if after:
                connection.exec_driver_sql("COMMIT")
            os._exit(9)

    event.listen(engine.sync_engine, "commit", before_commit)
    for day in range(4):
        await service.tick(Sessions(engine), now=MONDAY + timedelta(days=day))
    await engine.dispose()
    return commits


async def judge(folder: Path) -> None:
    """Every step of every person once, every mail once, nobody left behind."""
    engine = make_engine(database_url("", folder))
    async with Sessions(engine).read(EVERY_COMPANY) as session:
        enrolments = list(await session.scalars(select(Enrolment)))
        runs = list(await session.scalars(select(StepRun)))
        mails = list(await session.scalars(select(Message)))
        tasks = list(await session.scalars(select(Task)))
    await engine.dispose()
    assert [(row.state, row.reason) for row in enrolments] == [("ended", "finished")] * PEOPLE
    assert len({mail.order_key for mail in mails}) == len(mails)
    rung = 0
    for row in enrolments:
        done = Counter(run.step_id for run in runs if run.enrolment_id == row.id)
        rung += done.pop("ring", 0)
        assert done == STEPS
        assert all(run.outcome != "skipped" for run in runs)
        assert Counter(m.step_id for m in mails if m.enrolment_id == row.id) == MAILS
    assert rung == len(tasks) == 1
    linked = {run.message_id for run in runs if run.message_id}
    assert linked == {mail.id for mail in mails}


def child(folder: Path, *, die_at: int = 0, after: bool = False) -> int:
    """The clock in a process of its own; forked, as starting Python anew takes a second."""
    process = os.fork()
    if process == 0:
        try:
            asyncio.run(run(folder, die_at=die_at, after=after))
            os._exit(0)
        finally:
            os._exit(1)
    return process


def ended(process: int) -> int:
    """How a child ended, after it has."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_process_that_dies_at_any_commit_does_nothing_twice_and_leaves_nothing_out(
    tmp_path: Path,
) -> None:
    asyncio.run(build(tmp_path))
    deaths = 0
    while True:  # Each restart dies before its first commit, and the next one just after it.
        if ended(child(tmp_path, die_at=1)) == 0:
            break
        assert ended(child(tmp_path, die_at=1, after=True)) == 9
        deaths += 2
    asyncio.run(judge(tmp_path))
    assert deaths > 2 * sum(STEPS.values())


def test_several_processes_on_one_store_share_the_work(tmp_path: Path) -> None:
    asyncio.run(build(tmp_path))
    processes = [child(tmp_path) for _ in range(3)]
    assert [ended(process) for process in processes] == [0, 0, 0]
    asyncio.run(judge(tmp_path))

"""People see what is said in the next attempt, and mail goes whether they can or not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from mail.errors import PermanentError
from mta import traces
from mta.outcome import Outcome
from mta.retry import State
from mta.submission import submit
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Delivery, Message, Trace
from tests.conftest import MONDAY
from tests.mta.house import Tenant, make_tenant, order
from tests.mta.strangers import Sink
from tests.mta.test_service import Start, delivery_of, in_state, now, send, until
from tests.mta.test_service import start as start

SOON = timedelta(minutes=10)


async def ask(store: Sessions, message: Message, at: Any = None, who: Any = EVERY_COMPANY) -> UUID:
    delivery = await delivery_of(store, message)
    at = at or now()
    async with store.begin(who) as session:
        return (await traces.ask(session, delivery, by="bo", until=at + SOON, now=at)).id


async def read(store: Sessions, trace: UUID) -> Trace:
    async with store.read(EVERY_COMPANY) as session:
        row = await session.get(Trace, trace)
    assert row is not None
    return row


async def test_an_attempt_is_seen_line_by_line(store: Sessions, acme: Tenant, start: Start) -> None:
    async with start(Sink(answers=["451 4.7.1 come back later"]), first_retry="1h") as post:
        message = await send(store, acme, post)
        await until(in_state(store, message, "deferred"))
        trace = await ask(store, message)  # An hour early: asking makes it due.
        post.service.wake()
        await until(in_state(store, message, "delivered"))
        row = await read(store, trace)
        assert row.state == "done"
        assert row.outcome == "delivered: 250 2.0.0 thank you"
        said = [(who, line) for _, who, line in row.lines]
        assert (
            "note",
            f"connecting to mx.customer.test [127.0.0.1], port {post.sink.port}",
        ) in said
        assert ("us", "EHLO mail.acme.test") in said
        assert ("us", "RCPT TO:<ann@customer.test>") in said
        assert ("them", "250 2.0.0 thank you") in said
        assert said[-1] == ("them", "221 Bye")
        assert "Dear Ann" not in str(row.lines)
        assert post.sink.connections == 2  # The one that was kept is not for traces.


async def test_where_nobody_answers_is_said_too(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with start(port=1) as post:
        message = await send(store, acme, post)
        await until(in_state(store, message, "deferred"))
        trace = await ask(store, message)
        post.service.wake()

        async def ended() -> bool:
            return (await read(store, trace)).state == "done"

        await until(ended)
    row = await read(store, trace)
    assert "no connection: 127.0.0.1:1" in row.lines[-1][2]
    assert row.outcome.startswith("deferred: ")


async def test_only_what_waits_is_traced(any_store: Sessions, seal: Seal) -> None:
    store = any_store
    acme = await make_tenant(store, seal, "acme", 1)
    rival = await make_tenant(store, seal, "rival", 2)
    later = MONDAY + timedelta(hours=5)
    async with store.begin(acme.id) as session:
        message = await submit(session, order(), now=MONDAY)
        planned = await submit(session, order("k2", not_before=later), now=MONDAY)
    with pytest.raises(PermanentError, match="planned for"):
        await ask(store, planned, MONDAY)
    first = await ask(store, message, MONDAY, acme.id)
    assert await ask(store, message, MONDAY) == first  # One is enough.
    async with store.read(rival.id) as session:
        assert await session.get(Trace, first) is None
    for state, words in (("held", "Release it"), ("delivered", "does not wait")):
        async with store.begin(acme.id) as session:
            row = await session.get(Delivery, (await delivery_of(store, message)).id)
            assert row is not None
            row.state = state
        with pytest.raises(PermanentError, match=words):
            await ask(store, message, MONDAY)


async def test_a_company_has_a_few_traces_at_a_time(store: Sessions, acme: Tenant) -> None:
    async with store.begin(acme.id) as session:
        sent = [await submit(session, order(f"k{n}"), now=MONDAY) for n in range(21)]
    for message in sent[:20]:
        await ask(store, message, MONDAY)
    with pytest.raises(PermanentError, match="20 traces"):
        await ask(store, sent[20], MONDAY)
    await ask(store, sent[20], MONDAY + SOON)  # The others are over.


async def test_a_record_is_bounded_and_withdrawn_ones_do_not_begin(
    any_store: Sessions, seal: Seal
) -> None:
    store = any_store
    acme = await make_tenant(store, seal, "acme", 1)
    async with store.begin(acme.id) as session:
        message = await submit(session, order(), now=MONDAY)
        other = await submit(session, order("k2"), now=MONDAY)
    wanted = traces.Traces(store, lambda: MONDAY)
    trace, gone = await ask(store, message, MONDAY), await ask(store, other, MONDAY)
    async with store.begin(EVERY_COMPANY) as session:
        await wanted.look(session)
        assert await traces.withdraw(session, gone, now=MONDAY)
    assert await wanted.begin((await delivery_of(store, other)).id) is None
    delivery = (await delivery_of(store, message)).id
    record = await wanted.begin(delivery)
    assert record is not None
    assert await wanted.begin(delivery) is None
    async with store.begin(EVERY_COMPANY) as session:
        assert not await traces.withdraw(session, trace, now=MONDAY)  # It has begun.
    for number in range(1000):
        record("them", f"250-{number} \x1b[2J" + "x" * 5000)
    await record.end(Outcome(State.DELIVERED, 250, "ok"), now=MONDAY)
    row = await read(store, trace)
    assert len(row.lines) == traces.MAX_LINES + 1
    assert max(len(line) for _, _, line in row.lines) == traces.MAX_LINE
    assert "too long" in row.lines[-1][2]
    assert "\x1b" not in str(row.lines)
    async with store.begin(EVERY_COMPANY) as session:
        await traces.forget_old(session, now=MONDAY + traces.KEPT + SOON)
        assert await session.get(Trace, trace) is None

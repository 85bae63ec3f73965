"""The list of suppressed addresses, and the hard way off it."""

from __future__ import annotations

import pytest

from mail.errors import PermanentError
from mta import suppression
from mta.recipients import is_suppressed, suppress
from storage.sessions import Sessions
from tests.conftest import MONDAY
from tests.mta.house import Tenant


async def test_an_address_comes_off_with_a_reason_and_a_complaint_not_lightly(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    async with store.begin(rival.id) as session:
        await suppress(session, "ann@x.test", "asked", now=MONDAY)
    async with store.begin(acme.id) as session:
        await suppress(session, "ann@x.test", "complained", now=MONDAY)
        await suppress(session, "ann@x.test", "unsubscribed", now=MONDAY, scope="topic:news")
        with pytest.raises(PermanentError, match="why"):
            await suppression.remove(session, "ann@x.test", why=" ")
        with pytest.raises(PermanentError, match="spam"):
            await suppression.remove(session, "ANN@x.test", why="she called us")
        gone = await suppression.remove(session, "ANN@x.test", why="she called us", confirmed=True)
        assert [(row.address, row.reason) for row in gone] == [("ann@x.test", "complained")]
        assert [row.scope for row in await suppression.page(session)] == ["topic:news"]
        with pytest.raises(PermanentError, match="not suppressed"):
            await suppression.remove(session, "ann@x.test", why="she called us")
    async with store.read(rival.id) as session:
        assert await is_suppressed(session, "ann@x.test")


async def test_what_is_written_out_can_be_read_in(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    async with store.begin(acme.id) as session:
        for number in range(5):
            await suppress(session, f"p{number}@x.test", "bounced", now=MONDAY)
        await suppress(session, "p0@x.test", "asked", now=MONDAY, scope="campaign:a,b")
        first = await suppression.page(session, limit=2)
        after = f"{first[-1].address} {first[-1].scope}"
        rest = await suppression.page(session, after=after)
        text = suppression.as_csv([*first, *rest])
        assert await suppression.count(session) == 6
        assert await suppression.page(session, words="%") == []
    rows = list(suppression.read_file(text))
    assert len(rows) == 6
    async with store.begin(rival.id) as session:
        read = await suppression.import_rows(session, rows, by="test", now=MONDAY)
        again = await suppression.import_rows(session, rows, by="test", now=MONDAY)
    assert (read.added, read.problems) == (6, [])
    assert (again.added, again.known) == (0, 6)


async def test_a_file_with_mistakes_adds_what_is_right_and_names_the_lines(
    store: Sessions, acme: Tenant
) -> None:
    bare = list(suppression.read_file("\ufeffann@x.test\n\nBob@y.test\n"))
    assert bare == [(1, "ann@x.test", "asked", ""), (3, "Bob@y.test", "asked", "")]
    rows = list(
        suppression.read_file(
            "Email;Reason;Scope\na@x.test;;\nno;;\nb@x.test;bored;\nc@x.test;;x:y"
        )
    )
    async with store.begin(acme.id) as session:
        read = await suppression.import_rows(session, rows, by="test", now=MONDAY)
    assert read.added == 1
    assert [problem.partition(":")[0] for problem in read.problems] == [
        "line 3",
        "line 4",
        "line 5",
    ]
    with pytest.raises(PermanentError, match="first line"):
        list(suppression.read_file("name,town\n"))

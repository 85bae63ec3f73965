"""SUPPRESSIONS: whom the company never writes to, why and since when, and the way off the list."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from litestar import Response

from console import access
from console.desk import Call, Desk, go
from mail.errors import PermanentError
from mta import suppression

PAGE = 100
SAID = {
    "added": "The address is suppressed. What waits for it will not be sent.",
    "known": "That address was suppressed already.",
    "removed": "The address may be written to again. Why is kept in the audit.",
}


async def show(desk: Desk, call: Call) -> Response[Any]:
    """The list by address, searched by a part of it."""
    return await _page(desk, call, said=SAID.get(call.query_params.get("said", ""), ""))


async def _page(
    desk: Desk, call: Call, *, said: str = "", problem: str = "", status: int = 200
) -> Response[Any]:
    who = await desk.signed_in(call)
    words = call.query_params.get("q", "")[:254]
    after = call.query_params.get("after", "")[:600]
    async with desk.sessions.read(who.company.id) as session:
        rows = await suppression.page(session, words=words, after=after, limit=PAGE + 1)
        total = await suppression.count(session)
    more = ""
    if len(rows) > PAGE:
        last = rows[PAGE - 1]
        more = f"/suppressions?q={quote(words)}&after={quote(f'{last.address} {last.scope}')}"
    return desk.page(
        "suppressions.html",
        who,
        status=status,
        rows=rows[:PAGE],
        total=total,
        words=words,
        more=more,
        said=said,
        problem=problem,
    )


async def add(desk: Desk, call: Call) -> Response[Any]:
    """Suppresses one address for a person of the company."""
    who = await desk.signed_in(call)
    fields = await desk.form(call, who)
    address, now = fields.get("address", "").strip(), desk.clock()
    async with desk.sessions.begin(who.company.id) as session:
        read = await suppression.import_rows(
            session, [(1, address, "asked", "")], by=who.user.email, now=now
        )
        if read.added:
            await access.record(session, who.user, "suppression added", now=now, subject=address)
    if read.problems:
        problem = f"“{address[:80]}” is not a mail address. It looks like name@example.com."
        return await _page(desk, call, problem=problem, status=422)
    return go(f"/suppressions?said={'added' if read.added else 'known'}")


async def remove(desk: Desk, call: Call) -> Response[Any]:
    """Takes an address off the list, with a reason; managers only."""
    who = await desk.manager(call)
    fields = await desk.form(call, who)
    now, why = desk.clock(), fields.get("why", "")
    try:
        async with desk.sessions.begin(who.company.id) as session:
            rows = await suppression.remove(
                session,
                fields.get("address", ""),
                scope=fields.get("scope", ""),
                why=why,
                confirmed=fields.get("confirmed") == "yes",
            )
            await access.record(
                session, who.user, "suppression removed", now=now, subject=rows[0].address,
                why=why[:500], was=[row.reason for row in rows], scope=rows[0].scope,
            )  # fmt: skip
    except PermanentError as error:
        return await _page(desk, call, problem=error.public, status=422)
    return go("/suppressions?said=removed")

"""FILES: what the company attaches and shows, and the pages that show it."""

from __future__ import annotations

import re
from typing import Any

from litestar import Response
from litestar.datastructures import UploadFile
from sqlalchemy import select

from console import access
from console.desk import Call, Desk, PageError, go
from content import media
from mail.errors import PermanentError
from mta.enclosures import size_of
from storage.tables import Presentation

SAID = {"added": "The file is kept. Mails can name it from now on."}


async def show(desk: Desk, call: Call) -> Response[Any]:
    """Files in use and presentations."""
    return await _page(desk, call, said=SAID.get(call.query_params.get("said", ""), ""))


async def _page(
    desk: Desk, call: Call, *, said: str = "", problem: str = "", status: int = 200
) -> Response[Any]:
    who = await desk.signed_in(call)
    async with desk.sessions.read(who.company.id) as session:
        files = await media.live_files(session)
        pages = (await session.scalars(select(Presentation).order_by(Presentation.key))).all()
    return desk.page(
        "files.html",
        who,
        status=status,
        rows=[(file, size_of(file.size_bytes)) for file in files],
        pages=pages,
        said=said,
        problem=problem,
    )


async def add(desk: Desk, call: Call) -> Response[Any]:
    """Takes a file; the same key again is a new version. Owners and managers only."""
    who = await desk.manager(call)
    fields = await desk.form(call, who)
    given = (await call.form()).get("file")
    if not isinstance(given, UploadFile):
        raise PageError(422, "No file came", "Choose a file and send the form again.")
    name = given.filename or ""
    stem = name.rpartition(".")[0] or name
    key = fields.get("key", "").strip() or re.sub(r"[^a-z0-9._-]+", "-", stem.lower())
    now = desk.clock()
    try:
        kept = await media.add_file(
            desk.sessions,
            who.company.id,
            key=key.strip("-._")[:64],
            name=name,
            pieces=[await given.read()],
            title=fields.get("title", "").strip(),
            now=now,
        )
    except PermanentError as error:
        return await _page(desk, call, problem=error.public, status=422)
    async with desk.sessions.begin(who.company.id) as session:
        await access.record(
            session, who.user, "file added", now=now, subject=kept.key, version=kept.version
        )
    return go("/files?said=added")

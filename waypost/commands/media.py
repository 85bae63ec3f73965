"""`waypost media` and `waypost presentation`: files, and pages that show them."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select

from content import media
from mail.errors import PermanentError
from mta.enclosures import size_of
from storage.media import CHUNK_BYTES
from storage.tables import Presentation
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance


def add(chosen: Namespace) -> int:
    """Adds a file."""
    path = Path(chosen.file)
    if not path.is_file():
        raise PermanentError(f"{path}: is no file.")
    key = chosen.key or re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:64]

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        kept = await media.add_file(
            parts.sessions,
            company,
            key=key,
            name=path.name,
            pieces=_pieces(path),
            title=chosen.title,
            now=parts.clock(),
        )
        print(f"{kept.key} version {kept.version}: {kept.media_type}, {size_of(kept.size_bytes)}.")
        return 0

    return run(chosen, work)


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except OSError as error:
        raise PermanentError(f"{path}: can't be read: {error}") from None


def show(chosen: Namespace) -> int:
    """Lists the files in use."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.read(company) as session:
            found = await media.live_files(session)
        rows = [
            (f.key, f.version, f.name, f.media_type, size_of(f.size_bytes), f.created_at)
            for f in found
        ]
        table(("key", "version", "name", "type", "size", "since (UTC)"), rows, "No file yet.")
        return 0

    return run(chosen, work)


def set_presentation(chosen: Namespace) -> int:
    """Makes a page of files."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        now = parts.clock()
        items = [(one.partition(":")[0], one.partition(":")[2]) for one in chosen.item]
        async with parts.sessions.begin(company) as session:
            page = await media.set_presentation(
                session,
                chosen.key,
                title=chosen.title,
                text=chosen.text,
                language=chosen.language,
                items=items,
                expires_at=now + timedelta(days=chosen.days) if chosen.days else None,
                now=now,
            )
        print(f"{page.key} shows {len(page.items)} files.")
        return 0

    return run(chosen, work)


def list_presentations(chosen: Namespace) -> int:
    """Lists the pages."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.read(company) as session:
            found = (await session.scalars(select(Presentation).order_by(Presentation.key))).all()
        rows = [
            (p.key, p.title, len(p.items), p.expires_at or "-", p.withdrawn_at or "-")
            for p in found
        ]
        heads = ("key", "title", "files", "until (UTC)", "withdrawn (UTC)")
        table(heads, rows, "No presentation yet.")
        return 0

    return run(chosen, work)


def withdraw(chosen: Namespace) -> int:
    """Takes a page back."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            await media.withdraw(session, chosen.key, now=parts.clock())
        print(f"{chosen.key} is not shown any more.")
        return 0

    return run(chosen, work)

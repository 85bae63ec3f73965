"""Files that a company shows or attaches, and the pages that show them.

A file comes in pieces, each in a transaction of its own, and can be used once all are there and its
digest fits. The same key again is a new version; mail that named the old one keeps it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from content.media_type import media_type_of
from mail.errors import PermanentError
from mail.ids import uuid7
from storage.media import CHUNK_BYTES
from storage.sessions import Sessions, company_of, insert_new
from storage.tables import MediaChunk, MediaFile, Presentation

MAX_FILE_BYTES = 256 << 20
MAX_ITEMS = 50

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


async def add_file(
    sessions: Sessions,
    company: UUID,
    *,
    key: str,
    name: str,
    pieces: Iterable[bytes],
    title: str = "",
    now: datetime,
) -> MediaFile:
    """Keeps a file as the newest version of `key`. Raises `PermanentError` naming what is wrong."""
    name = " ".join("".join(c for c in name if c.isprintable() and c not in '/\\"').split())[:150]
    if not _KEY.fullmatch(key):
        raise PermanentError(
            f'key: "{key[:80]}" may have small letters, digits, ".", "_" and "-", 64 at most.'
        )
    if not name:
        raise PermanentError("name: a file needs a name, such as offer.pdf.")
    if len(title) > 200 or "\n" in title:
        raise PermanentError("title: is one line of at most 200 characters.")
    identity, size, digest = uuid7(), 0, hashlib.sha256()
    for number, piece in enumerate(_even(pieces)):
        size += len(piece)
        if size > MAX_FILE_BYTES:
            await _drop(sessions, company, identity)
            raise PermanentError(f"{name}: is larger than {MAX_FILE_BYTES >> 20} MiB.")
        digest.update(piece)
        async with sessions.begin(company) as session:
            if not number:
                kind = media_type_of(piece[:64], name)
                await _begin(session, identity, key, name, title.strip(), kind, now)
            session.add(MediaChunk(media_id=identity, number=number, data=piece))
    if not size:
        raise PermanentError(f"{name}: is empty.")
    async with sessions.begin(company) as session:
        whole = update(MediaFile).where(MediaFile.id == identity)
        await session.execute(whole.values(size_bytes=size, sha256=digest.hexdigest(), ready=True))
        before = update(MediaFile).where(
            MediaFile.company_id == company,
            MediaFile.key == key,
            MediaFile.id != identity,
            MediaFile.retired_at.is_(None),
        )
        await session.execute(before.values(retired_at=now))
        return (await session.scalars(select(MediaFile).where(MediaFile.id == identity))).one()


async def _begin(
    session: AsyncSession, identity: UUID, key: str, name: str, title: str, kind: str, now: datetime
) -> None:
    newest = select(func.max(MediaFile.version)).where(MediaFile.key == key)
    row = {
        "id": identity,
        "key": key,
        "version": (await session.scalar(newest) or 0) + 1,
        "name": name,
        "title": title,
        "media_type": kind,
        "size_bytes": 0,
        "sha256": "",
        "created_at": now,
    }
    if not await insert_new(session, MediaFile, [row], unless=["company_id", "key", "version"]):
        raise PermanentError(f"{key}: is being changed by somebody else. Try again.")


async def _drop(sessions: Sessions, company: UUID, identity: UUID) -> None:
    async with sessions.begin(company) as session:
        await session.execute(delete(MediaChunk).where(MediaChunk.media_id == identity))
        await session.execute(delete(MediaFile).where(MediaFile.id == identity))


def _even(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """The same bytes in pieces of one size, the last one shorter."""
    kept = bytearray()
    for piece in pieces:
        kept += piece
        while len(kept) >= CHUNK_BYTES:
            yield bytes(kept[:CHUNK_BYTES])
            del kept[:CHUNK_BYTES]
    if kept:
        yield bytes(kept)


async def live_files(session: AsyncSession) -> list[MediaFile]:
    """The files of the session's company in use, by key."""
    found = select(MediaFile).where(MediaFile.ready.is_(True), MediaFile.retired_at.is_(None))
    return list(await session.scalars(found.order_by(MediaFile.key)))


async def set_presentation(
    session: AsyncSession,
    key: str,
    *,
    title: str,
    text: str = "",
    language: str = "en",
    items: Sequence[tuple[str, str]],
    expires_at: datetime | None = None,
    now: datetime,
) -> Presentation:
    """Makes or changes a page of files, each with a caption. Raises `PermanentError`."""
    title = " ".join(title.split())
    if not _KEY.fullmatch(key):
        raise PermanentError(
            f'presentation: "{key[:80]}" may have small letters, digits, ".", "_" and "-".'
        )
    if not 1 <= len(title) <= 200 or len(text) > 10_000:
        raise PermanentError(f"{key}: a title has 1 to 200 characters, a text 10,000 at most.")
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?", language):
        raise PermanentError(f'{key}: language "{language[:20]}" is not a tag like "en".')
    if not 1 <= len(items) <= MAX_ITEMS:
        raise PermanentError(f"{key}: shows 1 to {MAX_ITEMS} files.")
    known = {file.key: file for file in await live_files(session)}
    kept = []
    for name, caption in items:
        if name not in known:
            raise PermanentError(
                f"{key}: there is no file {name[:80]}. Add it with `waypost media add`."
            )
        kept.append({"media": str(known[name].id), "caption": " ".join(caption.split())[:500]})
    row = {"key": key, "title": title, "created_at": now}
    await insert_new(session, Presentation, [row], unless=["company_id", "key"])
    found = select(Presentation).where(
        Presentation.company_id == company_of(session), Presentation.key == key
    )
    page = (await session.scalars(found)).one()
    page.title, page.text, page.language, page.items = title, text.strip(), language, kept
    page.expires_at, page.withdrawn_at = expires_at, None
    await session.flush()
    return page


async def withdraw(session: AsyncSession, key: str, *, now: datetime) -> None:
    """Shows the page no longer; whoever comes is told so. Raises `PermanentError`."""
    page = await session.scalar(select(Presentation).where(Presentation.key == key))
    if page is None:
        raise PermanentError(f"There is no presentation {key[:80]}.")
    page.withdrawn_at = now

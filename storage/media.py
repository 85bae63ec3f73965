"""Reads the bytes of a company's files, which stand in pieces so that parts can be read alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from storage.sessions import Sessions
from storage.tables import MediaChunk

CHUNK_BYTES = 256 << 10


async def read_whole(session: AsyncSession, media: UUID) -> bytes:
    """All bytes of a file of the session's company."""
    rows = select(MediaChunk.data).where(MediaChunk.media_id == media)
    return b"".join(await session.scalars(rows.order_by(MediaChunk.number)))


async def read_range(
    sessions: Sessions, company: UUID, media: UUID, start: int, length: int
) -> AsyncIterator[bytes]:
    """`length` bytes from `start` on, a piece at a time; no transaction stays open in between."""
    while length > 0:
        number, skip = divmod(start, CHUNK_BYTES)
        async with sessions.read(company) as session:
            data = await session.scalar(
                select(MediaChunk.data).where(
                    MediaChunk.media_id == media, MediaChunk.number == number
                )
            )
        if data is None:
            return
        piece = data[skip : skip + length]
        if not piece:
            return
        yield piece
        start, length = start + len(piece), length - len(piece)

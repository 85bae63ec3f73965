"""The page behind a link that shows files of a company, and the files on it.

The token names one message; what that message was sent with says which files may be seen through
it, and nothing in the request can name another. Files come from the store alone, with the type that
we found out ourselves, and what a browser could run is only ever a download in a sandbox.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from litestar import Response
from litestar.response import Stream
from sqlalchemy import select

from bus.events import Kind
from inbound.byte_range import Unsatisfiable, part_of
from mail.tokens import Token, TokenKind
from mta.enclosures import FILES_SLOT, Enclosures, file_name, size_of
from storage.media import read_range
from storage.tables import Company, MediaFile, Message, Presentation, Template

if TYPE_CHECKING:
    from inbound.hits import Call, Pages

SHOWN = {
    "image/png": "image",
    "image/jpeg": "image",
    "image/gif": "image",
    "image/webp": "image",
    "image/avif": "image",
    "video/mp4": "video",
    "video/webm": "video",
    "video/ogg": "video",
    "audio/mpeg": "audio",
    "audio/mp4": "audio",
    "audio/ogg": "audio",
    "audio/wav": "audio",
    "audio/flac": "audio",
    "application/pdf": "pdf",
}
"""Types that may open in a browser, and how the page shows them; all others are downloads."""

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
PDF_POLICY = "frame-ancestors 'none'"
"""Browsers refuse to show a PDF in a sandbox; it runs in the browser's own viewer, not as ours."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file as the page shows it."""

    url: str
    title: str
    caption: str
    name: str
    kind: str
    size: str


@dataclass(frozen=True, slots=True)
class _Shown:
    firm: Company
    message: Message
    title: str
    text: str
    language: str
    files: tuple[tuple[MediaFile, str], ...]


class Showing:
    """Answers for `/p/{token}` and `/p/{token}/{number}`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def page(self, call: Call) -> Response[Any]:
        """Title, words and files; the visit is an event."""
        token = self._pages.token(call, TokenKind.PRESENTATION)
        company = await self._pages.company(token)
        shown = await self._shown(company, token)
        await self._visited(company, call, shown, None)
        path = f"/p/{call.path_params['token']}"
        items = [
            Item(
                f"{path}/{number}",
                file.title or file.name,
                caption,
                file.name,
                SHOWN.get(file.media_type, ""),
                size_of(file.size_bytes),
            )
            for number, (file, caption) in enumerate(shown.files)
        ]
        answer = self._pages.page(
            "presentation.html",
            shown.title,
            shown.firm,
            language=shown.language,
            paragraphs=[part for part in shown.text.split("\n\n") if part.strip()],
            items=items,
        )
        answer.headers["Content-Security-Policy"] = PAGE_POLICY
        return answer

    async def file(self, call: Call) -> Response[Any]:
        """One file or a part of it (RFC 9110 §14)."""
        token = self._pages.token(call, TokenKind.PRESENTATION)
        company = await self._pages.company(token)
        shown = await self._shown(company, token)
        number = int(call.path_params["number"])
        if not 0 <= number < len(shown.files):
            raise self._pages.gone()
        media = shown.files[number][0]
        kind = SHOWN.get(media.media_type)
        away = kind is None or "download" in call.query_params
        tag = f'"{media.sha256}"'
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=3600",
            "Content-Disposition": ("attachment; " if away else "inline; ") + file_name(media.name),
            "Content-Security-Policy": PDF_POLICY if kind == "pdf" and not away else FILE_POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "ETag": tag,
        }
        asked = call.headers.get("range", "")
        if call.headers.get("if-range", tag) != tag:
            asked = ""
        status, start, length = 200, 0, media.size_bytes
        try:
            part = part_of(asked, media.size_bytes) if asked else None
        except Unsatisfiable:
            headers["Content-Range"] = f"bytes */{media.size_bytes}"
            return Response(b"", status_code=416, headers=headers, media_type="text/plain")
        if call.headers.get("if-none-match") == tag and part is None:
            return Response(None, status_code=304, headers=headers)
        if part is not None:
            status, (start, length) = 206, part
            last = start + length - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{media.size_bytes}"
        headers["Content-Length"] = str(length)
        if call.method == "HEAD":
            return Response(b"", status_code=status, headers=headers, media_type=media.media_type)
        if away or (not start and kind in ("video", "audio", "pdf")):
            await self._visited(company, call, shown, media.name)
        body: AsyncIterator[bytes] = read_range(
            self._pages.sessions, company, media.id, start, length
        )
        return Stream(body, status_code=status, headers=headers, media_type=media.media_type)

    async def _visited(self, company: UUID, call: Call, shown: _Shown, file: str | None) -> None:
        async with self._pages.sessions.read(company) as session:
            opinion = await self._pages.opinion(session, call, shown.message.id, None, 0)
        await self._pages.record(
            company,
            Kind.PRESENTATION_VISITED,
            shown.message,
            opinion,
            title=shown.title,
            file=file or "",
        )

    async def _shown(self, company: UUID, token: Token) -> _Shown:
        """What this message's page shows now. Raises `PageError` if that is over."""
        now = self._pages.clock()
        async with self._pages.sessions.read(company) as session:
            message = await self._pages.message(session, token.subject)
            firm = (await session.scalars(select(Company).where(Company.id == company))).one()
            found = select(Template).where(Template.id == message.template_id)
            template = await session.scalar(found)
            enclosures = Enclosures.of(template.headers if template else {})
            title, text, language = message.subject, "", ""
            rows: list[tuple[str, str]] = []
            if token.slot == FILES_SLOT:
                rows = [(row["media"], "") for row in enclosures.linked]
            elif enclosures.presentation is not None:
                of = select(Presentation).where(
                    Presentation.id == UUID(str(enclosures.presentation["id"]))
                )
                page = await session.scalar(of)
                over = page is None or page.withdrawn_at is not None
                if over or (page and page.expires_at is not None and page.expires_at <= now):
                    raise self._pages.over(firm)
                assert page is not None
                title, text, language = page.title, page.text, page.language
                rows = [(str(item["media"]), str(item["caption"])) for item in page.items]
            keys = [UUID(key) for key, _ in rows]
            asked = select(MediaFile).where(MediaFile.id.in_(keys), MediaFile.ready.is_(True))
            files = {file.id: file for file in await session.scalars(asked)}
        if not rows:
            raise self._pages.gone()
        kept = tuple(
            (files[key], caption)
            for key, (_, caption) in zip(keys, rows, strict=True)
            if key in files
        )
        return _Shown(firm, message, title, text, language, kept)

"""Files that go with a mail: attached, shown within it, or behind a link where they are too large.

An order names files and a presentation by their keys. What becomes of each is decided once and kept
with the template, so that every recipient and every retry gets the same; the parts are encoded once
per template and their bytes shared by all messages.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import PermanentError, TemporaryError
from storage.media import read_whole
from storage.sessions import company_of
from storage.tables import Company, MediaFile, Presentation

ATTACH_UP_TO = 3 << 20
"""Bytes of all attachments of one mail, unless the company's policy says otherwise."""

MAX_ATTACH_UP_TO = 20 << 20
INLINE_UP_TO = 1 << 20
"""Bytes of one picture within the text; larger ones make mail that phones load slowly."""

MAX_FILES = 20
FILES_SLOT, PRESENTATION_SLOT = 0, 1
"""Which page of a message a link's token means."""

_INLINE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


@dataclass(frozen=True, slots=True)
class Enclosures:
    """What goes with a mail; as it is kept with the template under `media`."""

    parts: tuple[Mapping[str, Any], ...] = ()
    linked: tuple[Mapping[str, Any], ...] = ()
    presentation: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, headers: Mapping[str, Any]) -> Enclosures:
        """As the template's row has it."""
        kept = headers.get("media") or {}
        return cls(
            tuple(kept.get("parts", ())), tuple(kept.get("linked", ())), kept.get("presentation")
        )

    def kept(self) -> dict[str, Any]:
        """As it goes into the template's row; nothing where nothing goes with the mail."""
        if not (self.parts or self.linked or self.presentation):
            return {}
        kept = {"parts": list(self.parts), "linked": list(self.linked)}
        return {"media": {**kept, "presentation": self.presentation}}

    def below(self, text: str, html_text: str) -> tuple[str, str]:
        """Links to put under text and HTML, with `{{ files_url }}` and `{{ presentation_url }}`.

        A mail that has the merge field itself gets no second link.
        """
        plain, rich = "", ""
        if self.linked and "files_url" not in text + html_text:
            names = ", ".join(f"{file['name']} ({size_of(file['size'])})" for file in self.linked)
            plain += f"\n\n{_literal(names)}:\n{{{{ files_url }}}}\n"
            rich += f'<p><a href="{{{{ files_url }}}}">{_literal(html.escape(names))}</a></p>'
        if self.presentation and "presentation_url" not in text + html_text:
            title = str(self.presentation["title"])
            plain += f"\n\n{_literal(title)}:\n{{{{ presentation_url }}}}\n"
            rich += (
                f'<p><a href="{{{{ presentation_url }}}}">{_literal(html.escape(title))}</a></p>'
            )
        return plain, rich


NOTHING = Enclosures()


@dataclass(frozen=True, slots=True)
class Encoded:
    """Whole MIME parts: `inline` belong to the HTML, `attached` come after the text."""

    inline: tuple[bytes, ...] = ()
    attached: tuple[bytes, ...] = ()


NO_PARTS = Encoded()


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a batch of orders asks for, as far as the company has it."""

    files: Mapping[str, MediaFile]
    presentations: Mapping[str, Presentation]
    attach_up_to: int = ATTACH_UP_TO

    def enclosures(
        self, files: Sequence[str], presentation: str, html_text: str, *, now: datetime
    ) -> Enclosures:
        """What becomes of the files of one order. Raises `PermanentError` naming what is wrong."""
        if len(files) > MAX_FILES:
            raise PermanentError(f"files: are more than {MAX_FILES}. Make a presentation of them.")
        chosen = []
        for key in dict.fromkeys(files):
            file = self.files.get(key)
            if file is None:
                raise PermanentError(
                    f'files: there is no "{key[:80]}". Add it with `waypost media add`.'
                )
            chosen.append(file)
        parts, loose = [], []
        for file in chosen:
            if f"cid:{file.key}" not in html_text:
                loose.append(file)
                continue
            if file.media_type not in _INLINE or file.size_bytes > INLINE_UP_TO:
                raise PermanentError(
                    f"files: {file.name} can't stand within the text: a PNG, JPEG, GIF or WebP "
                    f"picture of {INLINE_UP_TO >> 20} MiB at most can."
                )
            parts.append({**_row(file), "cid": file.key})
        linked = []
        total = sum(file.size_bytes for file in loose)
        for file in sorted(loose, key=lambda one: -one.size_bytes):
            if total <= self.attach_up_to:
                break
            total -= file.size_bytes
            linked.append(file)
        parts += [_row(file) for file in loose if file not in linked]
        shown = None
        if presentation:
            page = self.presentations.get(presentation)
            over = page is not None and page.expires_at is not None and page.expires_at <= now
            if page is None or page.withdrawn_at is not None or over:
                raise PermanentError(
                    f'presentation: there is no "{presentation[:80]}" that can be shown. Make it '
                    "with `waypost presentation set`."
                )
            shown = {"id": str(page.id), "title": page.title}
        rows = tuple(_row(file) for file in loose if file in linked)
        return Enclosures(tuple(parts), rows, shown)


async def shelf_for(
    session: AsyncSession, files: Iterable[str], presentations: Iterable[str]
) -> Shelf:
    """Files and presentations of the session's company by key, and how much it attaches."""
    keys, pages = set(files), set(presentations) - {""}
    company = company_of(session)
    found: dict[str, MediaFile] = {}
    shown: dict[str, Presentation] = {}
    if not keys and not pages:
        return Shelf(found, shown)
    if keys:
        query = select(MediaFile).where(
            MediaFile.company_id == company,
            MediaFile.key.in_(keys),
            MediaFile.ready.is_(True),
            MediaFile.retired_at.is_(None),
        )
        found = {file.key: file for file in await session.scalars(query)}
    if pages:
        asked = select(Presentation).where(
            or_(Presentation.key.in_(pages)), Presentation.company_id == company
        )
        shown = {page.key: page for page in await session.scalars(asked)}
    policy = await session.scalar(select(Company.policy).where(Company.id == company)) or {}
    limit = min(int(policy.get("attach_up_to", ATTACH_UP_TO)), MAX_ATTACH_UP_TO)
    return Shelf(found, shown, limit)


async def encode(session: AsyncSession, enclosures: Enclosures) -> Encoded:
    """The parts as they go over the wire. Raises `TemporaryError` if a file can't be read now."""
    inline: list[bytes] = []
    attached: list[bytes] = []
    for row in enclosures.parts:
        data = await read_whole(session, UUID(row["media"]))
        if len(data) != row["size"]:
            raise TemporaryError(f"{row['name']} can't be read whole.")
        (inline if "cid" in row else attached).append(_part(row, data))
    return Encoded(tuple(inline), tuple(attached))


def _row(file: MediaFile) -> dict[str, Any]:
    return {
        "media": str(file.id),
        "name": file.name,
        "type": file.media_type,
        "size": file.size_bytes,
    }


def _part(row: Mapping[str, Any], data: bytes) -> bytes:
    how = "inline" if "cid" in row else "attachment"
    head = (
        f"Content-Type: {row['type']}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: {how};\r\n {_mail_name(row['name'])}\r\n"
    )
    if "cid" in row:
        head += f"Content-ID: <{row['cid']}>\r\n"
    return head.encode("ascii") + b"\r\n" + base64.encodebytes(data).replace(b"\n", b"\r\n")


def file_name(name: str) -> str:
    """The parameter of a web answer's disposition, with a plain form for old readers (RFC 6266)."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in name)
    if plain == name:
        return f'filename="{name}"'
    return f"filename=\"{plain}\"; filename*=utf-8''{quote(name, safe='')}"


def _mail_name(name: str) -> str:
    """The same for mail, in pieces that fit on a line (RFC 2231 §3 and §4)."""
    plain = "".join(c if c not in '"\\' else "_" for c in name)
    if plain.isascii() and len(plain) <= 60:
        return f'filename="{plain}"'
    pieces: list[str] = [""]
    for char in plain:
        coded = quote(char, safe="")
        if len(pieces[-1]) + len(coded) > 56:
            pieces.append("")
        pieces[-1] += coded
    charset = "utf-8''"
    lines = [
        f"filename*{number}*={piece if number else charset + piece}"
        for number, piece in enumerate(pieces)
    ]
    return ";\r\n ".join(lines)


def size_of(size: int) -> str:
    """A size for people."""
    if size < 1000:
        return f"{size} B"
    if size < 1_000_000:
        return f"{size / 1000:.0f} kB"
    return f"{size / 1_000_000:.1f} MB"


def _literal(words: str) -> str:
    """Words that a template takes as they are."""
    return words.replace("{", "{{ '{' }}")

"""The library: mails and passages by key, each change a new version, nothing overwritten.

In use is what has not been retired; a new version retires the one before it in its language.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from content.matching import word_score
from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7
from storage.sessions import company_of, insert_new
from storage.tables import ContentItem

KINDS = ("mail", "passage")
MAX_TEXT = 256 << 10
"""Characters of a text or of its HTML."""

MAX_ASKS = 100
MAX_ASK = 500
MAX_DESCRIPTORS = 50

_KEY = re.compile(r"[a-z0-9][a-z0-9._/-]{0,99}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?")


async def add_item(
    session: AsyncSession,
    *,
    key: str,
    kind: str,
    title: str,
    text: str,
    subject: str = "",
    html: str = "",
    language: str = "en",
    theme: str = "",
    descriptors: dict[str, Any] | None = None,
    asks: Sequence[str] = (),
    now: datetime,
) -> ContentItem:
    """Adds a version of the item `key`; the same again adds nothing and returns what is there.

    Raises `PermanentError` naming the field that is wrong.
    """
    fields: dict[str, Any] = {
        "kind": kind,
        "title": title.strip(),
        "language": language,
        "theme": theme,
        "descriptors": dict(descriptors or {}),
        "asks": list(asks),
        "subject": subject,
        "text": text,
        "html": html,
    }
    _check(key, fields)
    here = await get_item(session, key, language=language)
    if here is not None and all(getattr(here, name) == value for name, value in fields.items()):
        return here
    for _ in range(10):
        newest = select(func.max(ContentItem.version)).where(ContentItem.key == key)
        version = (await session.scalar(newest) or 0) + 1
        row = {**fields, "id": uuid7(), "key": key, "version": version, "created_at": now}
        if await insert_new(session, ContentItem, [row], unless=["company_id", "key", "version"]):
            break  # Otherwise another process has just taken this number.
    else:
        raise TemporaryError(f"{key}: is being changed by others. Try again.")
    before = update(ContentItem).where(
        ContentItem.company_id == company_of(session),
        ContentItem.key == key,
        ContentItem.language == language,
        ContentItem.version < version,
        ContentItem.retired_at.is_(None),
    )
    await session.execute(before.values(retired_at=now))
    added = select(ContentItem).where(ContentItem.key == key, ContentItem.version == version)
    return (await session.scalars(added)).one()


async def get_item(
    session: AsyncSession, key: str, *, language: str | None = None
) -> ContentItem | None:
    """The version in use; without a language the English one, or else the newest."""
    found = select(ContentItem).where(ContentItem.key == key, ContentItem.retired_at.is_(None))
    if language is not None:
        found = found.where(ContentItem.language == language)
    items = list(await session.scalars(found))
    return max(items, key=lambda item: (item.language == "en", item.version), default=None)


async def get_version(session: AsyncSession, key: str, version: int) -> ContentItem | None:
    """One version, in use or not: what a draft's sentence names as its source."""
    found = select(ContentItem).where(ContentItem.key == key, ContentItem.version == version)
    return (await session.scalars(found)).one_or_none()


async def versions(session: AsyncSession, key: str) -> list[ContentItem]:
    """All versions of an item, the newest first."""
    found = select(ContentItem).where(ContentItem.key == key)
    return list(await session.scalars(found.order_by(ContentItem.version.desc())))


async def retire_item(
    session: AsyncSession, key: str, *, language: str | None = None, now: datetime
) -> int:
    """Takes an item out of use; says how many versions were in use."""
    used = update(ContentItem).where(
        ContentItem.company_id == company_of(session),
        ContentItem.key == key,
        ContentItem.retired_at.is_(None),
    )
    if language is not None:
        used = used.where(ContentItem.language == language)
    return int(getattr(await session.execute(used.values(retired_at=now)), "rowcount", 0))


async def live_items(session: AsyncSession, *, kind: str | None = None) -> list[ContentItem]:
    """Everything in use, by key."""
    found = select(ContentItem).where(ContentItem.retired_at.is_(None))
    if kind is not None:
        found = found.where(ContentItem.kind == kind)
    return list(await session.scalars(found.order_by(ContentItem.key, ContentItem.language)))


async def passages(session: AsyncSession) -> list[ContentItem]:
    """The passages in use."""
    return await live_items(session, kind="passage")


async def search(
    session: AsyncSession,
    words: str,
    *,
    kind: str | None = None,
    language: str | None = None,
    theme: str | None = None,
    limit: int = 20,
) -> list[ContentItem]:
    """Items in use in which all words occur, best first; `name:value` asks for a descriptor."""
    asked = words.casefold().split()[:20]
    described = [word.split(":", 1) for word in asked if ":" in word]
    plain = [word for word in asked if ":" not in word]
    found = []
    for item in await live_items(session, kind=kind):
        if language is not None and item.language != language:
            continue
        if theme is not None and item.theme != theme:
            continue
        if not all(_has(item.descriptors, name, value) for name, value in described):
            continue
        rest = "\n".join([item.key, item.subject, item.text, *map(str, item.asks)])
        if score := word_score(plain, item.title, rest):
            found.append((-score, item.key, item.version, item))
    return [item for *_, item in sorted(found, key=lambda entry: entry[:3])[: max(0, limit)]]


def _has(descriptors: dict[str, Any], name: str, value: str) -> bool:
    for key, held in descriptors.items():
        values = held if isinstance(held, list) else [held]
        if key.casefold() == name and value in (str(one).casefold() for one in values):
            return True
    return False


def _check(key: str, fields: dict[str, Any]) -> None:
    if not _KEY.fullmatch(key):
        raise PermanentError(
            f'key: "{key[:100]}" may have small letters, digits, ".", "_", "/" and "-", '
            "100 at most, and begins with a letter or digit."
        )
    if fields["kind"] not in KINDS:
        raise PermanentError(f'{key}: kind "{fields["kind"]}" is not one of {", ".join(KINDS)}.')
    if not fields["title"] or not (fields["text"].strip() or fields["html"].strip()):
        raise PermanentError(f"{key}: title and text can't be empty.")
    for name in ("title", "subject"):
        if len(fields[name]) > 500 or "\n" in fields[name]:
            raise PermanentError(f"{key}: {name} is one line of at most 500 characters.")
    for name in ("text", "html"):
        if len(fields[name]) > MAX_TEXT or "\0" in fields[name]:
            raise PermanentError(f"{key}: {name} is longer than 256 KiB or has NUL characters.")
    if not _LANGUAGE.fullmatch(fields["language"]):
        raise PermanentError(f'{key}: language "{fields["language"][:20]}" is not a tag like "en".')
    asks = fields["asks"]
    if len(asks) > MAX_ASKS or not all(isinstance(a, str) and len(a) <= MAX_ASK for a in asks):
        raise PermanentError(f"{key}: asks are at most {MAX_ASKS} texts of {MAX_ASK} characters.")
    if len(fields["descriptors"]) > MAX_DESCRIPTORS:
        raise PermanentError(f"{key}: has more than {MAX_DESCRIPTORS} descriptors.")
    if fields["kind"] == "passage" and re.search(r"\{[{%#]", fields["text"]):
        raise PermanentError(
            f"{key}: a passage is quoted as it stands and has no merge fields. Use a mail for them."
        )

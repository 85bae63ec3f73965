"""Pages that show files: parts of them, strangers' files, and what a browser must not run."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from content.media import add_file, set_presentation, withdraw
from content.media_type import media_type_of
from inbound.byte_range import Unsatisfiable, part_of
from mail.tokens import TokenKeys, TokenKind
from mta.enclosures import FILES_SLOT, PRESENTATION_SLOT, shelf_for
from storage.media import CHUNK_BYTES
from storage.sessions import Sessions
from storage.tables import MediaFile, Message, Template
from tests.conftest import MONDAY
from tests.inbound.test_hits import Now, Web, events, firm, link, now, web
from tests.inbound.world import Firm, add_firm

__all__ = ["firm", "now", "web"]

FILM = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 2100
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


async def shown(store: Sessions, firm: Firm, *, files: tuple[str, ...] = ()) -> None:
    """Gives the firm's message a presentation of a film and a drawing, and linked `files`."""
    film = [FILM[:1000], FILM[1000:]]
    await add_file(store, firm.id, key="film", name="Führung.mp4", pieces=film, now=MONDAY)
    await add_file(store, firm.id, key="plan", name="plan.svg", pieces=[SVG], now=MONDAY)
    async with store.begin(firm.id) as session:
        items = [("film", "Our <b>house</b>"), ("plan", "")]
        await set_presentation(
            session, "tour", title="A tour", text="Hello\n\nthere", items=items, now=MONDAY
        )
        shelf = await shelf_for(session, files, ["tour"])
        got = shelf.enclosures(files, "tour", "", now=MONDAY)
        message = await session.get(Message, firm.message)
        assert message is not None
        template = update(Template).where(Template.id == message.template_id)
        await session.execute(template.values(headers={"bulk": True, **got.kept()}))


def page_of(keys: TokenKeys, firm: Firm, slot: int = PRESENTATION_SLOT) -> str:
    return "/p/" + link(keys, TokenKind.PRESENTATION, firm, firm.message, slot)


async def test_a_visit_shows_the_page_and_is_told(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    await shown(store, firm)
    path = page_of(keys, firm)
    page = await web.get(path)
    assert page.status_code == 200
    assert "<video controls" in page.text
    assert "Our &lt;b&gt;house&lt;/b&gt;" in page.text
    assert "media-src 'self'" in page.headers["content-security-policy"]
    assert "script" not in page.headers["content-security-policy"]
    await web.get(path, headers={"user-agent": "Proofpoint"})
    human, machine = await events(store, firm)
    assert (human.kind, human.agent, human.payload["title"]) == (
        "presentation.visited",
        "human",
        "A tour",
    )
    assert machine.agent == "machine"


async def test_a_film_is_served_whole_and_in_parts(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    await shown(store, firm)
    path = page_of(keys, firm) + "/0"
    whole = await web.get(path)
    assert whole.content == FILM
    assert whole.headers["content-type"] == "video/mp4"
    assert "filename*=utf-8''F%C3%BChrung.mp4" in whole.headers["content-disposition"]
    across = await web.get(path, headers={"range": f"bytes={CHUNK_BYTES - 5}-{CHUNK_BYTES + 4}"})
    assert across.status_code == 206
    assert across.content == FILM[CHUNK_BYTES - 5 : CHUNK_BYTES + 5]
    assert across.headers["content-range"] == (
        f"bytes {CHUNK_BYTES - 5}-{CHUNK_BYTES + 4}/{len(FILM)}"
    )
    tail = await web.get(path, headers={"range": "bytes=-7"})
    assert tail.content == FILM[-7:]
    beyond = await web.get(path, headers={"range": f"bytes={len(FILM)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(FILM)}")
    stale = await web.get(path, headers={"range": "bytes=0-1", "if-range": '"old"'})
    assert stale.status_code == 200
    again = await web.get(path, headers={"if-none-match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await web.head(path)
    assert (head.headers["content-length"], head.content) == (str(len(FILM)), b"")


async def test_what_a_browser_could_run_is_a_download(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    await shown(store, firm)
    drawing = await web.get(page_of(keys, firm) + "/1")
    assert drawing.headers["content-type"] == "application/octet-stream"
    assert drawing.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in drawing.headers["content-security-policy"]
    assert drawing.headers["x-content-type-options"] == "nosniff"
    for body in (b"<!doctype html><script>", b"<?xml version='1.0'?>", b"#!/bin/sh\n", b"MZ"):
        for name in ("a.html", "a.png", "a.pdf", "a.svg", "a.txt.html", "a"):
            assert media_type_of(body, name) == "application/octet-stream"
    assert media_type_of(b"plain words", "a.txt") == "text/plain"


async def test_nobody_sees_files_that_the_message_was_not_sent_with(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    await shown(store, firm)
    other = await add_firm(store, 2, "zoe")
    for path in (
        page_of(keys, other),
        page_of(keys, other) + "/0",
        page_of(keys, firm, FILES_SLOT),
        page_of(keys, firm) + "/2",
        "/p/" + link(keys, TokenKind.PRESENTATION, other, firm.message, 1) + "/0",
        "/p/" + link(keys, TokenKind.CLICK, firm, firm.message, 1) + "/0",
    ):
        assert (await web.get(path)).status_code == 404, path
    async with store.begin(firm.id) as session:  # Even a row that names a stranger's file.
        theirs = await add_file(
            store, other.id, key="secret", name="s.pdf", pieces=[b"%PDF-1"], now=MONDAY
        )
        got = {"media": {"linked": [{"media": str(theirs.id), "name": "s", "size": 6}]}}
        await session.execute(update(Template).values(headers=got))
    assert (await web.get(page_of(keys, firm, FILES_SLOT) + "/0")).status_code == 404


async def test_a_page_that_has_ended_says_so(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm, now: Now
) -> None:
    await shown(store, firm)
    async with store.begin(firm.id) as session:
        until = MONDAY + timedelta(days=1)
        await set_presentation(
            session, "tour", title="A tour", items=[("film", "")], expires_at=until, now=MONDAY
        )
    assert (await web.get(page_of(keys, firm))).status_code == 200
    now.at = until
    late = await web.get(page_of(keys, firm))
    assert (late.status_code, "no longer shown" in late.text) == (410, True)
    now.at = MONDAY
    async with store.begin(firm.id) as session:
        await withdraw(session, "tour", now=MONDAY)
    assert (await web.get(page_of(keys, firm) + "/0")).status_code == 410


async def test_files_too_large_to_attach_have_a_page(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    big = b"%PDF-1.7" + bytes(4 << 20)
    await add_file(store, firm.id, key="book", name="book.pdf", pieces=[big], now=MONDAY)
    await shown(store, firm, files=("book", "plan"))
    page = await web.get(page_of(keys, firm, FILES_SLOT))
    assert "book.pdf" in page.text
    assert "plan.svg" not in page.text  # Small enough: that one is attached.
    book = await web.get(page_of(keys, firm, FILES_SLOT) + "/0")
    assert book.content == big
    assert book.headers["content-disposition"].startswith("inline")


async def test_a_new_version_takes_the_place_of_the_old(store: Sessions, firm: Firm) -> None:
    for body in (b"one", b"two"):
        await add_file(store, firm.id, key="a", name="a.txt", pieces=[body], now=MONDAY)
    async with store.read(firm.id) as session:
        rows = list(await session.scalars(select(MediaFile).order_by(MediaFile.version)))
    assert [(row.version, row.retired_at is None) for row in rows] == [(1, False), (2, True)]


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,6}-\d{0,6}"), st.integers(1, 10**6))
def test_any_range_lies_within_the_file(field: str, size: int) -> None:
    try:
        part = part_of(field, size)
    except Unsatisfiable:
        return
    if part is not None:
        start, length = part
        assert 0 <= start < size
        assert 0 < length <= size - start


@pytest.mark.parametrize(
    ("field", "part"),
    [("bytes=0-", (0, 10)), ("bytes=3-4", (3, 2)), ("bytes=-20", (0, 10)), ("bytes=5-2", None),
     ("bytes=0-1,3-4", None), ("pages=1-2", None), ("bytes=9-99", (9, 1))],
)  # fmt: skip
def test_ranges(field: str, part: tuple[int, int] | None) -> None:
    assert part_of(field, 10) == part

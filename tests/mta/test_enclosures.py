"""Files that go with a mail, read back by a reader of mail that isn't ours."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage

import pytest
from sqlalchemy import select

from content.media import add_file, set_presentation
from mail.errors import PermanentError
from mta.compose import GenericMessage
from mta.enclosures import NOTHING, Enclosures, encode
from mta.submission import submit
from mta.template import CompiledTemplate, TemplateKind
from storage.sessions import Sessions
from storage.tables import Template
from tests.conftest import MONDAY
from tests.mta.house import Tenant, order
from tests.mta.test_compose import COMPOSER, LETTER

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
LONG = "Angebot für Sie, mit allen Einzelheiten und Preisen – Stand „Herbst“.pdf"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40


async def sent(store: Sessions, tenant: Tenant, **changes: object) -> EmailMessage:
    """What goes over the wire for an order."""
    async with store.begin(tenant.id) as session:
        message = await submit(session, order(**changes), now=MONDAY)  # type: ignore[arg-type]
        template = (
            await session.scalars(select(Template).where(Template.id == message.template_id))
        ).one()
        enclosures = Enclosures.of(template.headers)
        compiled = CompiledTemplate(
            TemplateKind.of(template.headers),
            template.subject,
            template.text,
            template.html,
            enclosures if enclosures.kept() else NOTHING,
        )
        generic = GenericMessage("abc", compiled, None, await encode(session, enclosures))
    letter = replace(LETTER, values={"name": "Ann"})
    content = COMPOSER.compose(generic, letter).content
    assert COMPOSER.compose(generic, letter).content == content
    assert max(map(len, content.split(b"\r\n"))) <= 200
    return email.message_from_bytes(content, policy=email.policy.default)


async def files(store: Sessions, tenant: Tenant) -> None:
    for key, name, body in (
        ("logo", "logo.png", PNG),
        ("offer", LONG, PDF),
        ("film", "film.mp4", b"\0\0\0\x18ftypmp42" + bytes(4 << 20)),
    ):
        await add_file(store, tenant.id, key=key, name=name, pieces=[body], now=MONDAY)


async def test_readers_find_text_picture_and_attachment_where_they_belong(
    store: Sessions, acme: Tenant
) -> None:
    await files(store, acme)
    mail = await sent(
        store, acme, kind="bulk", html='<p>{{ name }} <img src="cid:logo"></p>',
        files=("logo", "offer"),
    )  # fmt: skip
    assert mail.get_content_type() == "multipart/mixed"
    both, offer = mail.iter_parts()
    assert both.get_content_type() == "multipart/alternative"
    text, related = both.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert (related.get_content_type(), related.get_param("type")) == (
        "multipart/related",
        "text/html",
    )
    html, logo = related.iter_parts()
    assert "cid:logo" in html.get_content()
    assert (logo["Content-ID"], logo.get_content()) == ("<logo>", PNG)
    assert logo.get_content_disposition() == "inline"
    assert offer.get_filename() == LONG
    assert offer.get_content() == PDF
    assert offer.get_content_disposition() == "attachment"


async def test_what_is_too_large_becomes_a_link_in_any_kind_of_mail(
    store: Sessions, acme: Tenant
) -> None:
    await files(store, acme)
    for kind in ("mail", "bulk", "answer"):
        mail = await sent(
            store, acme, key=kind, kind=kind, text="Dear Ann", values={}, subject="x",
            html="<table><tr><td>x</td></tr></table>", files=("film", "offer"),
        )  # fmt: skip
        assert [part.get_filename() for part in mail.iter_attachments()] == [LONG]
        for form in ("plain", "html"):
            part = mail.get_body((form,))
            assert part is not None
            assert "film.mp4 (4.2 MB)" in part.get_content()
            assert "https://links.acme.test/p/" in part.get_content()


async def test_a_presentation_is_linked_once_and_its_title_is_no_template(
    store: Sessions, acme: Tenant
) -> None:
    await files(store, acme)
    async with store.begin(acme.id) as session:
        title = "{{ name }} <b>"
        await set_presentation(session, "tour", title=title, items=[("film", "")], now=MONDAY)
    mail = await sent(store, acme, html="<p>x</p>", presentation="tour")
    rich = mail.get_body(("html",))
    assert rich is not None
    assert ">{{ name }} &lt;b&gt;</a>" in rich.get_content()
    placed = await sent(
        store, acme, key="k2", text="Look: {{ presentation_url }}\n", presentation="tour"
    )
    text = placed.get_body(("plain",))
    assert text is not None
    assert text.get_content().count("/p/") == 1


async def test_what_is_wrong_with_files_is_said(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    await files(store, rival)  # Another company's files are not there.
    for changes, words in (
        ({"files": ("offer",)}, "waypost media add"),
        ({"presentation": "tour"}, "waypost presentation set"),
        ({"files": tuple(f"f{n}" for n in range(21))}, "more than 20"),
        ({"files": ("x",), "spool": {"at": 1}}, "came by SMTP"),
    ):
        with pytest.raises(PermanentError, match=words):
            await sent(store, acme, **changes)
    await files(store, acme)
    with pytest.raises(PermanentError, match="within the text"):
        await sent(store, acme, html='<img src="cid:film">', files=("film",))

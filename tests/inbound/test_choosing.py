"""The pages on which people unsubscribe and choose, as people, providers and scanners use them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from inbound.words import Words, language_for, preferred, tables
from mail.tokens import TokenKeys, TokenKind
from mta.preferences import choices_of, set_topic
from mta.recipients import is_suppressed
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Message, Preference, Suppression
from tests.conftest import MONDAY
from tests.inbound.test_hits import Now, Web, events, firm, link, now, web
from tests.inbound.world import Firm, add_firm

__all__ = ["firm", "now", "web"]


def ticket(page: str) -> str:
    found = re.search(r'name="ticket" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]


async def topics(store: Sessions, firm: Firm) -> None:
    async with store.begin(firm.id) as session:
        names = {"en": {"name": "Tea news"}, "de": {"name": "Neues vom Tee"}}
        await set_topic(session, "news", names=names, campaigns=["news-*"], now=MONDAY)
        await set_topic(session, "sales", names={"en": {"name": "Sales"}}, now=MONDAY)


async def test_posts_of_scanners_change_nothing(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm, now: Now
) -> None:
    path = "/u/" + link(keys, TokenKind.UNSUBSCRIBE, firm, firm.message)
    good = ticket((await web.get(path)).text)
    other = await add_firm(store, 2, "zoe")
    theirs = "/u/" + link(keys, TokenKind.UNSUBSCRIBE, other, other.message)
    foreign = ticket((await web.get(theirs)).text)
    tries: list[dict[str, str]] = [
        {},
        {"from": "page"},
        {"from": "page", "ticket": "x"},
        {"from": "page", "ticket": foreign},
        {"List-Unsubscribe": "one click"},
    ]
    for fields in tries:
        answer = await web.post(path, data=fields)
        assert (answer.status_code, "nothing has been changed" in answer.text) == (200, True)
    bot = {"user-agent": "Mozilla/5.0 (compatible; Barracuda Sentinel)"}
    await web.post(path, data={"from": "page", "ticket": good}, headers=bot)
    await web.post(path, content=b"List-Unsubscribe=One-Click", headers={"content-type": "a/b"})
    now.at += timedelta(hours=26)
    await web.post(path, data={"from": "page", "ticket": good})  # A ticket is good for a day.
    assert await events(store, firm) == []
    fresh = ticket((await web.get(path)).text)
    await web.post(path, data={"from": "page", "ticket": fresh})
    assert [(e.kind, e.payload["how"]) for e in await events(store, firm)] == [
        ("unsubscribed", "page")
    ]


async def test_a_company_with_topics_may_have_one_click_end_one_of_them(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    await topics(store, firm)
    async with store.begin(EVERY_COMPANY) as session:
        of = update(Company).where(Company.id == firm.id).values(policy={"unsubscribe": "topic"})
        await session.execute(of)
        await session.execute(
            update(Message).where(Message.id == firm.message).values(campaign="news-7")
        )
    path = "/u/" + link(keys, TokenKind.UNSUBSCRIBE, firm, firm.message)
    page = await web.get(path, headers={"accept-language": "de-AT, en;q=0.5"})
    assert "Neues vom Tee" in page.text
    assert '<html lang="de">' in page.text
    await web.post(path, data={"List-Unsubscribe": "One-Click"})
    async with store.read(firm.id) as session:
        (row,) = await session.scalars(select(Suppression))
        assert (row.scope, await is_suppressed(session, firm.address)) == ("topic:news", False)
    (event,) = await events(store, firm)
    assert (event.kind, event.payload["changed"]) == ("preferences.changed", {"topic:news": False})


async def test_people_choose_topics_how_often_and_a_pause(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm, now: Now
) -> None:
    await topics(store, firm)
    path = "/preferences/" + link(keys, TokenKind.PREFERENCES, firm, firm.message)
    page = await web.get(path)
    assert page.text.count(" checked") == 4  # Two topics, no limit, no pause.
    assert "ann@example.com" not in page.text
    await web.head(path)
    form = {"ticket": ticket(page.text), "do": "save", "every_days": "7", "pause": "30"}
    ghost = {**form, "ticket": "AAAA"}
    assert "nothing has been changed" in (await web.post(path, data=ghost)).text
    assert await events(store, firm) == []
    saved = await web.post(path, data={**form, "topic": ["sales", "unknown"]})
    assert "Saved" in saved.text
    async with store.read(firm.id) as session:
        kept = await choices_of(session, firm.contact)
    assert kept.topics == {"news": False, "sales": True}
    assert (kept.every_days, kept.paused_until) == (7, now.at + timedelta(days=30))
    (event,) = await events(store, firm)
    assert event.payload["changed"]["topic:news"] is False
    again = await web.get(path)
    assert "Paused until 2026-12-23" in again.text
    odd = {**form, "every_days": "1; drop", "pause": "keep", "topic": "sales"}
    await web.post(path, data=odd)
    assert len(await events(store, firm)) == 1
    async with store.read(firm.id) as session:
        assert (await session.scalars(select(Preference))).one().every_days == 7


async def test_the_last_button_ends_everything(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    path = "/preferences/" + link(keys, TokenKind.PREFERENCES, firm, firm.message)
    page = await web.get(path, headers={"accept-language": "fr"})
    assert "Que souhaitez-vous" in page.text
    done = await web.post(path, data={"ticket": ticket(page.text), "do": "stop"})
    assert "You are unsubscribed" in done.text
    async with store.read(firm.id) as session:
        assert await is_suppressed(session, firm.address)
    assert [e.kind for e in await events(store, firm)] == ["unsubscribed"]
    later = await web.get(path)
    assert "does not write to a…@example.com any more" in later.text


@pytest.mark.parametrize("kind", [TokenKind.UNSUBSCRIBE, TokenKind.FORM])
async def test_a_token_for_something_else_opens_no_preferences(
    web: Web, keys: TokenKeys, firm: Firm, kind: TokenKind
) -> None:
    answer = await web.get("/preferences/" + link(keys, kind, firm, firm.message))
    assert answer.status_code == 404


def test_every_language_has_every_line_with_the_same_places() -> None:
    places = {
        name: {key: sorted(set(re.findall(r"\{(\w+)\}", line))) for key, line in lines.items()}
        for name, lines in tables().items()
    }
    assert set(places) == {"en", "de", "fr", "es"}
    assert all(found == places["en"] for found in places.values())
    assert Words("es", company="{x}")("paused_until", date="2026") == "En pausa hasta el 2026"


def test_languages_are_chosen_as_the_reader_ranks_them() -> None:
    assert language_for("it, es-MX;q=0.8, de;q=0.9") == "de"
    assert language_for("zh") == "en"
    assert preferred("en;q=0, de;q=x, fr") == ["fr"]


@given(st.text(max_size=300))
def test_any_accept_language_is_read(field: str) -> None:
    assert language_for(field) in tables()

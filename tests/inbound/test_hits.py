"""The public host, called like a browser, a mail provider, a filter and a forger would."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar
from litestar.testing import AsyncTestClient
from sqlalchemy import select

from config.sections.work import PublicSettings
from config.settings import Settings
from inbound.forms import Buckets, network_of, read_fields, read_invitation
from inbound.hits import make_app
from inbound.targets import target
from mail.ids import uuid7
from mail.tokens import Token, TokenKeys, TokenKind
from storage.sessions import Sessions
from storage.tables import Cluster, Consent, Contact, Delivery, Event, Referral, Suppression
from tests.conftest import MONDAY
from tests.inbound.world import Firm, add_firm

Web = AsyncTestClient[Litestar]

BROWSER = {"user-agent": "Mozilla/5.0 (X11) Firefox/140.0", "accept-language": "en"}


class Now:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = MONDAY

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def firm(store: Sessions) -> Firm:
    """A firm that has written to Ann an hour ago."""
    firm = await add_firm(store, 1, "ann")
    async with store.begin(firm.id) as session:
        session.add(
            Delivery(
                message_id=firm.message,
                recipient=firm.address,
                destination="example.com",
                state="delivered",
                due_at=MONDAY,
                expires_at=MONDAY,
                created_at=MONDAY,
                finished_at=MONDAY - timedelta(hours=1),
            )
        )
    return firm


@pytest.fixture
async def web(store: Sessions, keys: TokenKeys, now: Now) -> AsyncIterator[Web]:
    settings = Settings(public=PublicSettings(url="https://go.firm1.test"))
    app = make_app(store, settings, keys, now)
    async with AsyncTestClient(app, raise_server_exceptions=False) as client:
        client.headers.update(BROWSER)
        client.follow_redirects = False
        yield client


def link(keys: TokenKeys, kind: TokenKind, firm: Firm, subject: UUID, slot: int = 0) -> str:
    return keys.in_link(Token(kind, firm.number, subject, slot))


async def events(store: Sessions, firm: Firm) -> list[Event]:
    async with store.read(firm.id) as session:
        return list(await session.scalars(select(Event).order_by(Event.seq)))


async def test_a_click_leads_on_and_is_recorded(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    path = "/c/" + link(keys, TokenKind.CLICK, firm, firm.message)
    answer = await web.get(path + "?url=https://evil.test")
    assert (answer.status_code, answer.headers["location"]) == (
        302,
        "https://shop.test/tea?who=Ann",
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    head = await web.head(path)
    assert (head.status_code, head.content) == (302, b"")
    human, machine = await events(store, firm)
    assert (human.kind, human.agent, human.payload["slot"]) == ("click", "human", 0)
    assert (human.contact_id, human.message_id) == (firm.contact, firm.message)
    assert machine.agent == "machine"


async def test_the_picture_is_a_picture(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    answer = await web.get("/o/" + link(keys, TokenKind.OPEN, firm, firm.message))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.content.startswith(b"GIF89a")
    assert [event.kind for event in await events(store, firm)] == ["open"]


async def test_forged_unknown_and_foreign_links_say_what_to_do(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    other = await add_firm(store, 2, "zoe")
    forger = TokenKeys({0: os.urandom(32)}, current=0)
    wrong = [
        ("/c/", link(forger, TokenKind.CLICK, firm, firm.message), 404, "not complete"),
        ("/c/", "junk", 404, "not complete"),
        ("/c/", link(keys, TokenKind.OPEN, firm, firm.message), 404, "not complete"),
        ("/c/", link(keys, TokenKind.CLICK, firm, uuid7()), 404, "no longer known"),
        ("/c/", link(keys, TokenKind.CLICK, firm, firm.message, 9), 404, "leads nowhere"),
        ("/u/", link(keys, TokenKind.UNSUBSCRIBE, firm, other.message), 404, "no longer known"),
        ("/k/", link(keys, TokenKind.CONSENT, firm, other.contact), 404, "no longer known"),
        ("/f/", link(keys, TokenKind.SHARE, other, firm.message), 404, "no longer known"),
        ("/x/", "y", 404, "Nothing here"),
    ]
    for place, token, status, words in wrong:
        answer = await web.get(place + token)
        assert (answer.status_code, words in answer.text) == (status, True), (place, answer.text)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["strict-transport-security"]
    old = TokenKeys({3: os.urandom(32)}, current=3)
    gone = await web.get("/c/" + link(old, TokenKind.CLICK, firm, firm.message))
    assert (gone.status_code, "expired" in gone.text) == (410, True)
    await web.post("/u/" + link(keys, TokenKind.UNSUBSCRIBE, firm, other.message))
    assert await events(store, firm) == []
    assert await events(store, other) == []


async def test_only_a_post_unsubscribes_and_only_once(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    path = "/u/" + link(keys, TokenKind.UNSUBSCRIBE, firm, firm.message)
    page = await web.get(path, headers={"user-agent": "Barracuda"})
    assert (page.status_code, "Unsubscribe" in page.text) == (200, True)
    assert "ann@example.com" not in page.text
    await web.head(path)
    assert await events(store, firm) == []

    done = await web.post(
        path,
        content=b"List-Unsubscribe=One-Click",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert (done.status_code, "unsubscribed" in done.text) == (200, True)
    again = await web.post(path, data={"List-Unsubscribe": "One-Click"})
    assert again.status_code == 200
    found = await events(store, firm)
    assert [(e.kind, e.payload["how"]) for e in found] == [("unsubscribed", "one_click")]
    async with store.read(firm.id) as session:
        kept = (await session.scalars(select(Suppression))).one()
    assert (kept.address, kept.reason) == ("ann@example.com", "unsubscribed")


async def test_one_click_also_comes_as_multipart(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    path = "/u/" + link(keys, TokenKind.UNSUBSCRIBE, firm, firm.message)
    done = await web.post(path, files={"List-Unsubscribe": (None, "One-Click")})
    assert done.status_code == 200
    assert [e.payload["how"] for e in await events(store, firm)] == ["one_click"]


async def test_friends_are_invited_and_consent_themselves(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    path = "/f/" + link(keys, TokenKind.SHARE, firm, firm.message)
    form = await web.get(path)
    assert "Fresh tea for Ann" in form.text
    done = await web.post(
        path,
        data={
            "name": ["Bo <b>", "", ""],
            "address": ["Bo@Friends.test", "cy@friends.test", ""],
            "note": "They like tea",
        },
    )
    assert done.status_code == 200
    assert "Bo &lt;b&gt;" in done.text
    (event,) = await events(store, firm)
    assert (event.kind, event.contact_id) == ("form.forwarded", firm.contact)
    assert event.payload["people"][0] == {"address": "bo@friends.test", "name": "Bo <b>"}
    async with store.read(firm.id) as session:
        bo = (await session.scalars(select(Contact).where(Contact.name == "Bo <b>"))).one()
    assert bo.origin["inviter"] == str(firm.contact)

    invitation = "/k/" + link(keys, TokenKind.CONSENT, firm, bo.id)
    assert f"https://go.firm1.test{invitation}" in done.text
    page = await web.get(invitation)
    assert "May Firm 1 write to you?" in page.text
    assert len(await events(store, firm)) == 1
    assert (await web.post(invitation, data={"answer": "perhaps"})).status_code == 422
    assert "may now write" in (await web.post(invitation, data={"answer": "yes"})).text
    assert "will not write" in (await web.post(invitation, data={"answer": "no"})).text
    given, refused = (await events(store, firm))[1:]
    assert (given.kind, refused.kind) == ("consent.given", "consent.refused")
    assert given.contact_id == bo.id
    assert "May Firm 1 write" in given.payload["evidence"]["wording"]


async def test_a_friends_link_can_not_overrule_anybody(
    web: Web, store: Sessions, keys: TokenKeys, firm: Firm
) -> None:
    async with store.begin(firm.id) as session:
        session.add(bo := Contact(address="bo@friends.test", created_at=MONDAY))
        await session.flush()
        session.add(Consent(contact_id=bo.id, state="refused", changed_at=MONDAY))
    refused = "/k/" + link(keys, TokenKind.CONSENT, firm, bo.id)
    assert (
        "answer for this address was no" in (await web.post(refused, data={"answer": "yes"})).text
    )
    customer = "/k/" + link(keys, TokenKind.CONSENT, firm, firm.contact)
    assert (await web.post(customer, data={"answer": "no"})).status_code == 200
    assert await events(store, firm) == []


async def test_a_wrong_form_keeps_what_was_typed_and_says_why(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    path = "/f/" + link(keys, TokenKind.SHARE, firm, firm.message)
    answer = await web.post(path, data={"address": ["bo at friends", "ann@example.com"]})
    assert answer.status_code == 422
    assert "bo at friends" in answer.text
    assert "your own address" in answer.text
    token = keys.local_part(Token(TokenKind.REPLY, 1, firm.message))
    ours = await web.post(path, data={"address": f"{token}@{firm.host}"})
    assert (ours.status_code, "address of ours" in ours.text) == (422, True)
    assert (await web.post(path, data={})).status_code == 422
    assert (await web.post(path, content=b"x" * 20_000)).status_code == 413
    assert (await web.put(path)).status_code == 405
    assert await events(store, firm) == []


async def test_only_invited_addresses_join_and_nobody_learns_which(
    web: Web,
    store: Sessions,
    keys: TokenKeys,
    firm: Firm,
) -> None:
    async with store.begin(firm.id) as session:
        session.add(bo := Contact(address="bo@friends.test", created_at=MONDAY))
        session.add(cluster := Cluster(root_id=firm.contact, created_at=MONDAY))
        await session.flush()
        session.add(Consent(contact_id=bo.id, state="needed", changed_at=MONDAY))
        session.add(
            Referral(
                cluster_id=cluster.id,
                inviter_id=firm.contact,
                invitee_id=bo.id,
                mode="mail",
                generation=1,
                created_at=MONDAY,
            )
        )
    path = "/j/" + link(keys, TokenKind.SHARE, firm, firm.message)
    assert "Write to me too" in (await web.get(path)).text
    assert (await web.post(path, data={"address": "nothing"})).status_code == 422
    known = await web.post(path, data={"address": "BO@friends.test"})
    unknown = await web.post(path, data={"address": "ann@example.com"})
    assert known.text == unknown.text
    assert [(e.kind, e.contact_id) for e in await events(store, firm)] == [("consent.given", bo.id)]


async def test_forms_are_limited_but_one_click_is_not(
    web: Web,
    keys: TokenKeys,
    firm: Firm,
    now: Now,
) -> None:
    path = "/f/" + link(keys, TokenKind.SHARE, firm, firm.message)
    codes = [(await web.post(path, data={})).status_code for _ in range(22)]
    assert codes == [422] * 20 + [429] * 2
    stop = "/u/" + link(keys, TokenKind.UNSUBSCRIBE, firm, firm.message)
    assert {(await web.post(stop)).status_code for _ in range(25)} == {200}
    now.at += timedelta(minutes=10)
    assert (await web.post(path, data={})).status_code == 422


async def test_the_style_is_served(web: Web) -> None:
    assert "font" in (await web.get("/style.css")).text


def test_targets_come_from_the_template_alone() -> None:
    links = ["https://a.test/{#x", "javascript:alert(1)", "{{ site }}", "//b.test", "{{ 1/0 }}", 7]
    assert target(links, 0, {}) == "https://a.test/{#x"
    assert target(links, 2, {"site": "https://b.test"}) == "https://b.test"
    assert target(links, 2, {"site": "javascript:x"}) == ""
    assert target(links, 2, {"site": "https://b.test\r\nSet-Cookie: a=b"}) == ""
    assert [target(links, slot, {}) for slot in (1, 2, 3, 4, 5, 6, -1)] == [""] * 7


def test_buckets_fill_again_and_forget_the_oldest() -> None:
    buckets = Buckets(2, timedelta(minutes=1), callers=2)
    assert [buckets.take(["a"], MONDAY) for _ in range(3)] == [True, True, False]
    assert buckets.take(["a"], MONDAY + timedelta(seconds=30))
    assert not buckets.take(["a"], MONDAY + timedelta(seconds=31))
    assert buckets.take(["b"], MONDAY)
    assert buckets.take(["c"], MONDAY)
    assert buckets.take(["a"], MONDAY + timedelta(seconds=32))
    assert network_of("2001:db8::1") == network_of("2001:db8::2") != network_of("192.0.2.1")


@given(st.binary(max_size=500))
def test_any_form_is_read(body: bytes) -> None:
    given_ = read_invitation(read_fields(body), inviter="ann@example.com")
    assert given_.friends or given_.problems


@given(st.lists(st.text(max_size=40), max_size=8), st.lists(st.text(max_size=40), max_size=8))
def test_invited_people_have_clean_addresses(names: list[str], addresses: list[str]) -> None:
    form = read_invitation({"name": names, "address": addresses}, inviter="ann@example.com")
    for friend in form.friends:
        assert friend.address == friend.address.lower()
        assert friend.name.isprintable()
    assert len(form.friends) <= 5

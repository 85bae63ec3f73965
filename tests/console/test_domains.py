"""The page that a company follows to point its domain at the appliance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.name
import dns.rdatatype
import dns.zone
import httpx
import pytest
from sqlalchemy import select, update

from mta.resolver import Resolver
from storage.sessions import Sessions
from storage.tables import Audit, Domain, DomainCheck
from tests.console.scene import Scene, app_of, browser, csrf_of, play, sign_in
from tests.peers.dns_server import DnsServer

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
async def names() -> AsyncIterator[DnsServer]:
    async with DnsServer({}) as server:
        yield server


@pytest.fixture
async def scene(store: Sessions) -> Scene:
    return await play(store, "ourfirm")


class Reader:
    """A manager with the page open and the DNS panel beside it."""

    def __init__(self, client: httpx.AsyncClient, csrf: str, path: str) -> None:
        self.client, self.csrf, self.path = client, csrf, path

    async def page(self) -> str:
        answer = await self.client.get(self.path)
        assert answer.status_code == 200
        return answer.text

    async def press(self, action: str, **fields: str) -> httpx.Response:
        return await self.client.post(f"{self.path}/{action}", data={"csrf": self.csrf, **fields})


@pytest.fixture
async def reader(
    store: Sessions, scene: Scene, tmp_path: Path, names: DnsServer
) -> AsyncIterator[Reader]:
    app = app_of(store, tmp_path, resolver=Resolver([names.address], timeout_seconds=1.0))
    async with browser(app) as client:
        csrf = await sign_in(client, scene.owner)
        yield Reader(client, csrf, f"/domains/{scene.domain}")


def publish(names: DnsServer, zone_text: str) -> None:
    """What the DNS panel makes of an imported zone file."""
    origin = dns.name.from_text("ourfirm.example.")
    zone = dns.zone.from_text(zone_text, origin=origin, check_origin=False)
    for name, _, data in zone.iterate_rdatas():
        full = name.derelativize(origin).to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(data.rdtype)
        strings = getattr(data, "strings", None)
        text = b"".join(strings).decode() if strings else data.to_text(origin=origin)
        names.zone.setdefault(full, {})[kind] = [text]


async def skip_the_wait(store: Sessions, scene: Scene) -> None:
    """As if the last look had been long ago."""
    async with store.begin(scene.company) as session:
        await session.execute(update(DomainCheck).values(checked_at=LONG_AGO))


async def test_following_the_page_makes_a_domain_ready(
    store: Sessions, scene: Scene, reader: Reader, names: DnsServer
) -> None:
    page = await reader.page()
    assert "Not looked up yet" in page
    assert "not looked up" in page
    assert (await reader.press("check")).headers["location"].endswith("said=checked")
    page = await reader.page()
    assert "There is no TXT record at wp" in page
    assert 'data-copy="_dmarc"' in page
    names.zone["ourfirm.example"] = {"TXT": ["v=spf1 include:_spf.host.test -all"]}
    names.zone["_spf.host.test"] = {"TXT": ["v=spf1 ip4:7.7.7.7 -all"]}
    names.zone["mail.example.test"] = {"A": ["5.9.1.1"]}
    names.zone["go.example.test"] = {"A": ["5.9.1.1"]}
    names.zone["1.1.9.5.in-addr.arpa"] = {"PTR": ["mail.example.test"]}
    await skip_the_wait(store, scene)
    await reader.press("check")
    page = await reader.page()
    assert "does not let this machine send (5.9.1.1)" in page
    assert 'data-copy="v=spf1 include:_spf.host.test a:mail.example.test -all"' in page

    answer = await reader.client.get(f"{reader.path}/zone")
    assert answer.headers["content-disposition"] == 'attachment; filename="ourfirm.example.zone"'
    publish(names, answer.text)
    await skip_the_wait(store, scene)
    await reader.press("check")
    page = await reader.page()
    assert "Ready: mail of this domain is signed and believed" in page
    assert "dns-wrong" not in page
    assert "DNS is wrong for" not in (await reader.client.get("/")).text
    assert "There already." in (await reader.client.get(f"{reader.path}/zone")).text
    assert (await reader.press("check")).headers["location"].endswith("said=soon")
    assert "right</span>" in (await reader.client.get("/domains")).text

    await skip_the_wait(store, scene)
    names.zone["reply.ourfirm.example"]["MX"] = ["10 elsewhere.test"]
    await reader.press("check")
    page = await reader.page()
    assert "so they never come here" in page
    assert "something was changed since" in page
    assert "DNS is wrong for" in (await reader.client.get("/")).text


async def test_new_keys_are_made_published_and_signed_with(
    store: Sessions, scene: Scene, reader: Reader, names: DnsServer
) -> None:
    async def selector() -> str:
        async with store.read(scene.company) as session:
            return (await session.scalars(select(Domain.rsa_selector))).one()

    old = await selector()
    assert (await reader.press("rotate")).headers["location"].endswith("said=begun")
    assert (await reader.press("rotate")).headers["location"].endswith("said=waiting")
    assert "The next key." in await reader.page()
    await reader.press("check")
    assert await selector() == old
    assert (await reader.press("rotate", what="cancel")).headers["location"].endswith("cancelled")
    assert "The next key." not in await reader.page()
    await reader.press("rotate")
    publish(names, (await reader.client.get(f"{reader.path}/zone")).text)
    await skip_the_wait(store, scene)
    assert (await reader.press("check")).headers["location"].endswith("said=switched")
    assert await selector() != old
    assert "The key before." in await reader.page()


async def test_domains_are_added_and_removed_with_a_trace(
    store: Sessions, scene: Scene, reader: Reader
) -> None:
    form = {"csrf": reader.csrf, "name": "shop.example"}
    answer = await reader.client.post("/domains", data=form)
    where = answer.headers["location"]
    assert "shop.example" in (await reader.client.get(where)).text
    answer = await reader.client.post("/domains", data=form)
    assert answer.status_code == 422
    assert "in use already" in answer.text
    answer = await reader.client.post("/domains", data={**form, "name": "<b>no domain"})
    assert "&lt;b&gt;no domain" in answer.text

    other = Reader(reader.client, reader.csrf, where.partition("?")[0])
    answer = await other.press("remove", name="ourfirm.example")
    assert answer.status_code == 422
    assert (
        (await other.press("remove", name="Shop.example"))
        .headers["location"]
        .startswith("/domains?")
    )
    async with store.read(scene.company) as session:
        assert (await session.scalars(select(Domain.name))).all() == ["ourfirm.example"]
        actions = (await session.scalars(select(Audit.action))).all()
    assert {"domain added", "domain removed"} <= set(actions)


async def test_what_strangers_write_into_dns_stays_text(reader: Reader, names: DnsServer) -> None:
    names.zone["_dmarc.ourfirm.example"] = {"TXT": ["v=DMARC1; p=<script>alert(1)</script>"]}
    await reader.press("check")
    page = await reader.page()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


async def test_a_rep_does_not_change_domains(store: Sessions, scene: Scene, tmp_path: Path) -> None:
    async with browser(app_of(store, tmp_path)) as client:
        await sign_in(client, scene.rep)
        csrf = csrf_of((await client.get("/")).text)
        for path in ("", "/check", "/rotate", "/remove", "/zone"):
            method = "GET" if path in {"", "/zone"} else "POST"
            where = f"/domains/{scene.domain}{path}"
            data = {"csrf": csrf} if method == "POST" else None
            assert (await client.request(method, where, data=data)).status_code == 403

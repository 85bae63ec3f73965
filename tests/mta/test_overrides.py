"""Mail goes where the operator sent it, for as long as that holds, and nobody else's does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from mail.errors import PermanentError
from mta import overrides
from mta.routes import Host
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import RouteOverride
from tests.conftest import MONDAY
from tests.mta.house import Tenant, make_tenant
from tests.mta.strangers import Sink
from tests.mta.test_service import Start, in_state, now, send, until
from tests.mta.test_service import start as start

HOUR = timedelta(hours=1)


async def add(
    store: Sessions, destination: str, host: Host, *, at: Any = MONDAY, **more: Any
) -> None:
    async with store.begin(EVERY_COMPANY) as session:
        given = {"company": None, "until": at + HOUR, "reason": "moving", "by": "bo", **more}
        await overrides.add(session, destination, host, now=at, **given)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("MX.example.net", Host("mx.example.net", 25)),
        ("mx.example.net:2525", Host("mx.example.net", 2525)),
        ("192.0.2.1:26", Host("192.0.2.1", 26)),
        ("[2001:db8::1]:26", Host("2001:db8::1", 26)),
        ("2001:db8::1", Host("2001:db8::1", 25)),
    ],
)
def test_hosts_are_read(text: str, host: Host) -> None:
    assert overrides.host_of(text) == host


@pytest.mark.parametrize(
    "text", ["", ":25", "a:0", "a:65536", "a:b", "a b", "[::1", "[::1]x", "a..b", "x" * 300]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(PermanentError):
        overrides.host_of(text)


async def test_the_companys_own_comes_first_and_each_ends(any_store: Sessions, seal: Seal) -> None:
    store = any_store
    acme = await make_tenant(store, seal, "acme", 1)
    rival = await make_tenant(store, seal, "rival", 2)
    time = [MONDAY]
    known = overrides.Overrides(lambda: time[0])

    async def now_of(tenant: Tenant, destination: str = "customer.test") -> Host | None:
        async with store.read(EVERY_COMPANY) as session:
            await known.load(session)
        return known.of(destination, tenant.id)

    assert await now_of(acme) is None
    await add(store, "Customer.Test.", Host("first"))
    await add(store, "customer.test", Host("all"))  # Takes the first one's place.
    await add(store, "customer.test", Host("ours"), company=acme.id, until=MONDAY + HOUR / 2)
    assert (await now_of(acme), await now_of(rival)) == (Host("ours"), Host("all"))
    assert await now_of(acme, "other.test") is None
    time[0] += HOUR / 2
    assert known.of("customer.test", acme.id) == Host("all")  # Without reading again.
    async with store.begin(EVERY_COMPANY) as session:
        await overrides.end(session, "customer.test", company=None, now=time[0])
        assert await overrides.in_force(session, now=time[0]) == []
        assert len(list(await session.scalars(select(RouteOverride)))) == 3  # Who did what stays.
    assert await now_of(rival) is None
    async with store.begin(EVERY_COMPANY) as session:
        with pytest.raises(PermanentError, match="not sent elsewhere"):
            await overrides.end(session, "customer.test", company=None, now=time[0])


async def test_senseless_ones_and_those_of_a_company_are_refused(
    store: Sessions, acme: Tenant
) -> None:
    for destination, end in (("no domain", HOUR), ("", HOUR), ("a.test", -HOUR), ("a.test", 9e9)):
        until = MONDAY + end if isinstance(end, timedelta) else MONDAY + timedelta(days=367)
        with pytest.raises(PermanentError):
            await add(store, destination, Host("x"), until=until)
    async with store.begin(acme.id) as session:
        with pytest.raises(PermanentError, match="operator"):
            await overrides.add(
                session, "a.test", Host("x"), company=acme.id, until=MONDAY + HOUR,
                reason="", by="", now=MONDAY,
            )  # fmt: skip


async def test_what_a_server_elsewhere_says_teaches_nothing_about_the_site(
    store: Sessions, acme: Tenant, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Sink(answers=["421 4.7.0 slow down"]) as elsewhere, start() as post:
        shaper = post.service.deliverer._shaper
        learnt: list[str] = []
        finished = shaper.finished

        def spy(site: str, *more: Any) -> Any:
            learnt.append(site)
            return finished(site, *more)

        monkeypatch.setattr(shaper, "finished", spy)
        await add(store, "customer.test", Host("127.0.0.1", elsewhere.port), at=now())
        moved = await send(store, acme, post)
        await until(in_state(store, moved, "deferred"))
        assert learnt == []
        async with store.begin(EVERY_COMPANY) as session:
            await overrides.end(session, "customer.test", company=None, now=now())
        usual = await send(store, acme, post, key="k2")
        await until(in_state(store, usual, "delivered"))
        assert len(learnt) >= 1


async def test_mail_goes_there_over_connections_of_its_own(
    store: Sessions, acme: Tenant, start: Start
) -> None:
    async with Sink() as elsewhere, start() as post:
        usual = await send(store, acme, post)
        await until(in_state(store, usual, "delivered"))
        here = Host("127.0.0.1", elsewhere.port)
        await add(store, "customer.test", here, at=now())
        for key in ("k2", "k3"):
            moved = await send(store, acme, post, key=key)
            await until(in_state(store, moved, "delivered"))
        assert (len(post.sink.taken), len(elsewhere.taken), elsewhere.connections) == (1, 2, 1)
        async with store.begin(EVERY_COMPANY) as session:
            await overrides.end(session, "customer.test", company=None, now=now())
        back = await send(store, acme, post, key="k4")
        await until(in_state(store, back, "delivered"))
    assert (len(post.sink.taken), len(elsewhere.taken)) == (2, 2)

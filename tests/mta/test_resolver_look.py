"""What people who mend records have to know: aliases, how long answers last, why there are none."""

from __future__ import annotations

from mta.resolver import Look, Resolver
from tests.peers.dns_server import DnsServer


async def test_a_look_tells_nothing_there_from_nobody_could_tell() -> None:
    zone = {
        "a.test": {"TXT": ["one", "x" * 300]},
        "b.test": {"CNAME": ["a.test"]},
        "c.test": {"CNAME": ["gone.test"]},
        "d.test": {"A": ["192.0.2.1"]},
        "broken.test": {},
        "silent.test": {},
    }
    async with DnsServer(zone, ttl=600) as dns:
        dns.failing.add("broken.test")
        dns.silent.add("silent.test")
        names = Resolver([dns.address], timeout_seconds=0.5)
        assert await names.look("a.test", "TXT") == Look(("one", "x" * 300), remembered=600)
        aliased = await names.look("b.test", "TXT")
        assert (aliased.alias, aliased.values[0]) == ("a.test", "one")
        assert (await names.look("c.test", "TXT")).alias == "gone.test"
        assert await names.look("d.test", "TXT") == Look()
        assert await names.look("none.test", "TXT") == Look(exists=False)
        assert "SERVFAIL" in (await names.look("broken.test", "TXT")).trouble
        assert "in time" in (await names.look("silent.test", "TXT")).trouble
        assert "could not be asked" in (await names.look("x" * 80 + ".test", "A")).trouble
        dns.zone["a.test"]["TXT"] = ["two"]
        assert (await names.look("a.test", "TXT")).values == ("two",)

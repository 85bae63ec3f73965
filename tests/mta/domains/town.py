"""A domain with everything published as it should be, for tests to break."""

from __future__ import annotations

from collections.abc import Sequence

from mta.domains.check import check_domain_records, check_machine
from mta.domains.findings import Finding
from mta.domains.records import Machine, Pair, Record, Selector, domain_records, machine_records
from mta.resolver import Look
from tests.conftest import MONDAY

NAME, REPLY = "acme.test", "reply.acme.test"
ADDRESSES = ("5.9.1.1", "2a01:4f8::25")
MACHINE = Machine("mail.acme.test", "go.acme.test", ADDRESSES)
RSA_KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" + "xyzABC12" * 45
ED_KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
PAIR = Pair((Selector("wp1r", "rsa", RSA_KEY), Selector("wp1e", "ed25519", ED_KEY)))

Zone = dict[tuple[str, str], Look]


class Town:
    """Name servers that say what a test wants."""

    def __init__(self) -> None:
        self.records = domain_records(NAME, REPLY, [PAIR], MACHINE, MONDAY)
        self.zone: Zone = {}
        for record in (*self.records, *machine_records(MACHINE)):
            if record.type != "CNAME":
                self.put(record.name, record.type, record.value)
        for name in ("go.acme.test", "mta-sts.reply.acme.test"):
            self.alias(name, "mail.acme.test")

    def put(self, name: str, kind: str, *values: str, ttl: int = 0) -> None:
        """What is found there from now on."""
        self.zone[name, kind] = Look(tuple(values), remembered=ttl)

    def alias(self, name: str, target: str) -> None:
        """Makes a name a CNAME."""
        for kind in ("A", "AAAA", "TXT", "MX"):
            there = self.zone.get((target, kind), Look())
            self.zone[name, kind] = Look(there.values, alias=target)

    def fail(self, name: str, kind: str, trouble: str = "no name server answered in time") -> None:
        """Nobody can tell about this name."""
        self.zone[name, kind] = Look(trouble=trouble)

    async def look(self, name: str, kind: str) -> Look:
        """As `Resolver.look`."""
        return self.zone.get((name, kind), Look(exists=False))

    async def findings(self, records: Sequence[Record] | None = None) -> list[Finding]:
        """The judgement on the whole domain."""
        return await check_domain_records(
            records or self.records, self, domain=NAME, reply=REPLY, machine=MACHINE
        )

    async def about(self, name: str, purpose: str = "") -> Finding:
        """The judgement on the record at one name, of the domain or of the machine."""
        both = [*await self.findings(), *await check_machine(MACHINE, self)]
        fitting = [f for f in both if f.record.name == name]
        return next(f for f in fitting if not purpose or f.record.purpose == purpose)

"""The DNS records that make a company's mail believed.

Two owners publish them: the company at its domain (`domain_records`), and whoever runs the machine
at the machine's names (`machine_records`).

Pure.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

MAX_AGE_SECONDS = 7 * 86400
"""How long senders may keep our MTA-STS policy; RFC 8461 §3.2 has weeks in mind."""

PolicyMode = Literal["none", "testing", "enforce"]


class Purpose(StrEnum):
    """What a record does for mail."""

    DKIM = "dkim"
    SPF = "spf"
    RETURN_PATH = "return-path"
    DMARC = "dmarc"
    MX = "mx"
    POLICY = "mta-sts"
    POLICY_HOST = "mta-sts-host"
    TLS_REPORTS = "tls-rpt"
    PUBLIC_HOST = "public-host"
    HOST = "host"
    REVERSE = "reverse"

    @property
    def heading(self) -> str:
        """What people call it."""
        return _HEADINGS[self]


_HEADINGS = {
    Purpose.DKIM: "Signature key (DKIM)",
    Purpose.SPF: "Permission to send (SPF)",
    Purpose.RETURN_PATH: "Return path (SPF)",
    Purpose.DMARC: "Policy (DMARC)",
    Purpose.MX: "Replies come here (MX)",
    Purpose.POLICY: "TLS policy (MTA-STS)",
    Purpose.POLICY_HOST: "Host of the TLS policy",
    Purpose.TLS_REPORTS: "TLS reports",
    Purpose.PUBLIC_HOST: "Links and pictures",
    Purpose.HOST: "Name of the machine",
    Purpose.REVERSE: "Reverse name",
}


class Need(StrEnum):
    """How badly a record is needed."""

    REQUIRED = "required"
    ADVISED = "advised"
    NEXT = "next"
    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Record:
    """One record to publish, and what it is for. Names and targets have no final dot."""

    purpose: Purpose
    name: str
    type: str
    value: str
    why: str
    need: Need = Need.REQUIRED

    def as_json(self) -> dict[str, Any]:
        """For a JSON column or a program."""
        return {key: str(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `as_json` gave."""
        known = {key: str(data.get(key, "")) for key in ("name", "type", "value", "why")}
        return cls(purpose=Purpose(data["purpose"]), need=Need(data["need"]), **known)


@dataclass(frozen=True, slots=True)
class Selector:
    """One public key and where it stands; `key` is the base64 text of the `p=` tag."""

    name: str
    algorithm: Literal["rsa", "ed25519"]
    key: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Keys that are used together. `state` is active, new or retired."""

    selectors: tuple[Selector, ...]
    state: Literal["active", "new", "retired"] = "active"
    keep_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """The appliance's names. `addresses` are what DNS says its host name has.

    `sources` are further addresses that it sends from; `relay` is a smart host that sends for it.
    """

    host: str
    public_host: str = ""
    addresses: tuple[str, ...] = ()
    policy_mode: PolicyMode = "testing"
    sources: tuple[str, ...] = ()
    relay: str = ""

    @property
    def mechanisms(self) -> list[str]:
        """The SPF terms that let this machine send."""
        terms = [f"a:{self.host}", *map(ip_term, self.sources)]
        return [*terms, f"a:{self.relay}"] if self.relay else terms

    @property
    def sending(self) -> tuple[str, ...]:
        """All addresses that mail comes from, as far as they are known."""
        return tuple(dict.fromkeys((*self.addresses, *self.sources)))

    @property
    def has_public_host(self) -> bool:
        """Whether links in mail lead to a name of their own that people can reach."""
        return "." in self.public_host and self.public_host not in {self.host, "127.0.0.1"}


def ip_term(address: str) -> str:
    """The SPF term for one address (RFC 7208 §5.6)."""
    return f"ip{6 if ':' in address else 4}:{address}"


def domain_records(
    name: str, reply: str, pairs: Sequence[Pair], machine: Machine, now: datetime
) -> list[Record]:
    """What the company publishes for its domain `name` and its reply domain `reply`."""
    host, terms = machine.host, " ".join(machine.mechanisms)
    relayed = ""
    if machine.relay:
        relayed = f" Ask whoever runs {machine.relay} whether its SPF is another than this."
    keys = [record for pair in pairs for record in _key_records(name, pair, now)]
    return [
        *keys,
        Record(
            Purpose.RETURN_PATH,
            reply,
            "TXT",
            f"v=spf1 {terms} {'~' if machine.relay else '-'}all",
            "This machine, and no other, sends with this return path. Receivers check it for "
            f"every message (SPF, RFC 7208).{relayed}",
        ),
        Record(
            Purpose.MX,
            reply,
            "MX",
            f"10 {host}",
            "Replies, bounces and complaints come to this machine.",
        ),
        Record(
            Purpose.DMARC,
            f"_dmarc.{name}",
            "TXT",
            f"v=DMARC1; p=none; rua=mailto:dmarc@{name}",
            "Says what receivers do with mail that pretends to be yours; large mailbox providers "
            "refuse bulk mail without it. Begin with p=none, read the reports (make that mailbox, "
            "or name another), then go on to p=quarantine (RFC 9989).",
        ),
        Record(
            Purpose.SPF,
            name,
            "TXT",
            f"v=spf1 {terms} ~all",
            "Some filters also look at the SPF of the domain in From. There may be one SPF record "
            "only: if you have one, this machine is added to it.",
            Need.ADVISED,
        ),
        *_transport_records(name, reply, machine),
    ]


def _key_records(name: str, pair: Pair, now: datetime) -> Iterable[Record]:
    why, need = "Receivers check our signatures with this key (DKIM, RFC 6376).", Need.REQUIRED
    if pair.state == "new":
        why = "The next key. Signing goes over to it when a check finds it published."
        need = Need.NEXT
    elif pair.state == "retired":
        until = f"{pair.keep_until:%d %B %Y}" if pair.keep_until else "further notice"
        why, need = f"The key before. Mail on its way still has it: keep until {until}.", Need.KEEP
        if pair.keep_until is not None and pair.keep_until <= now:
            why, need = "An old key that no mail has any more. Remove this record.", Need.REMOVE
    for one in pair.selectors:
        also = " For receivers that know Ed25519 (RFC 8463)." if one.algorithm == "ed25519" else ""
        yield Record(
            Purpose.DKIM,
            f"{one.name}._domainkey.{name}",
            "TXT",
            f"v=DKIM1; k={one.algorithm}; p={one.key}",
            why + also,
            need,
        )


def _transport_records(name: str, reply: str, machine: Machine) -> Iterable[Record]:
    if machine.policy_mode != "none":
        yield Record(
            Purpose.POLICY,
            f"_mta-sts.{reply}",
            "TXT",
            f"v=STSv1; id={policy_id(machine)}",
            "Says that there is a policy for sending us replies by TLS only (MTA-STS, RFC 8461).",
            Need.ADVISED,
        )
        yield Record(
            Purpose.POLICY_HOST,
            f"mta-sts.{reply}",
            "CNAME",
            machine.public_host if "." in machine.public_host else machine.host,
            f"Where that policy is read: https://mta-sts.{reply}/.well-known/mta-sts.txt. The web "
            "server there needs a certificate for this name.",
            Need.ADVISED,
        )
    yield Record(
        Purpose.TLS_REPORTS,
        f"_smtp._tls.{reply}",
        "TXT",
        f"v=TLSRPTv1; rua=mailto:tls-reports@{name}",
        "Other servers tell this address once a day when TLS with us fails (RFC 8460). Make that "
        "mailbox, or name another.",
        Need.ADVISED,
    )


def machine_records(machine: Machine) -> list[Record]:
    """What whoever runs the machine publishes, once for all companies."""
    records = []
    why = "The machine says this name in HELO; receivers look up whether it is real."
    for address in machine.addresses or ("",):
        kind = "AAAA" if ":" in address else "A"
        records.append(Record(Purpose.HOST, machine.host, kind, address, why))
    for address in machine.sending:
        records.append(
            Record(
                Purpose.REVERSE,
                ipaddress.ip_address(address).reverse_pointer,
                "PTR",
                machine.host,
                f"The reverse name of {address}. Whoever gave you the address sets it; many "
                "receivers refuse mail from addresses whose name does not lead back.",
            )
        )
    if machine.has_public_host:
        records.append(
            Record(
                Purpose.PUBLIC_HOST,
                machine.public_host,
                "CNAME",
                machine.host,
                "Links and pictures in mail lead here. An A or AAAA record does as well.",
            )
        )
    return records


def policy_text(machine: Machine) -> str:
    """The MTA-STS policy of every reply domain (RFC 8461 §3.2)."""
    lines = ["version: STSv1", f"mode: {machine.policy_mode}", f"mx: {machine.host}"]
    return "\r\n".join([*lines, f"max_age: {MAX_AGE_SECONDS}", ""])


def policy_id(machine: Machine) -> str:
    """Changes with the policy and with nothing else (RFC 8461 §3.1)."""
    return hashlib.sha256(policy_text(machine).encode()).hexdigest()[:16]

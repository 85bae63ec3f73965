"""Whether a message may act: is it really from the address that it says it is from?

SPF (RFC 7208), DKIM (`signatures`), and whether one of them speaks for the domain in From (DMARC,
RFC 7489 §3.1). A message may act if From names one mailbox and an aligned SPF or DKIM result
passes, or if a known login of the company handed it in. Nothing else may approve a draft.

The look-ups go through a resolver that is passed in, outside of any transaction; pyspf asks in
rounds: it runs until it misses an answer, the answer is fetched, and it runs again.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import publicsuffixlist
import spf

from inbound import headers
from inbound.parse import split_headers
from inbound.signatures import Signature, key_name, signatures_of, verify
from mail.address import Address, parse_address
from mail.errors import TemporaryError

SPF_SECONDS = 20.0
"""RFC 7208 §4.6.4 asks for at least this limit on the whole evaluation."""

_MAX_ROUNDS = 120
"""Names that one SPF evaluation may ask for: 10 mechanisms with 10 hosts each, and some."""


class Exchange(Protocol):
    """A mail server of a domain."""

    @property
    def preference(self) -> int: ...

    @property
    def exchange(self) -> str: ...


class Names(Protocol):
    """Answers about domain names; no answer is an empty one, `TemporaryError` is no news."""

    async def txt(self, name: str) -> Sequence[str]: ...

    async def mx(self, name: str) -> Sequence[Exchange]: ...

    async def addresses(self, name: str) -> Sequence[str]: ...

    async def ptr(self, address: str) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Login:
    """The company's credential that handed a message in; None: it may use any address."""

    name: str
    address: str | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the SMTP session said; `login` only if the credential is of the receiving company."""

    mail_from: str = ""
    remote_ip: str = ""
    helo: str = ""
    login: Login | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was checked and what follows. `acts_as` is the address that the message may speak for.

    `uncertain`: name servers did not answer, so asking again later may give another verdict.
    """

    spf: str
    spf_domain: str
    dkim: tuple[Signature, ...]
    dmarc: str
    policy: str
    aligned_domain: str
    acts_as: str
    reasons: tuple[str, ...]
    uncertain: bool = False

    @property
    def may_act(self) -> bool:
        return bool(self.acts_as)

    def as_json(self) -> dict[str, Any]:
        """For `Message.parsed`."""
        return {
            "spf": self.spf,
            "spf_domain": self.spf_domain,
            "dkim": [
                {"domain": s.domain, "selector": s.selector, "result": s.result, "reason": s.reason}
                for s in self.dkim
            ],
            "dmarc": self.dmarc,
            "policy": self.policy,
            "aligned_domain": self.aligned_domain,
            "acts_as": self.acts_as,
            "may_act": self.may_act,
            "reasons": list(self.reasons),
        }


async def authenticate(raw: bytes, envelope: Envelope, names: Names) -> Verdict:
    """The verdict on one message. Asks name servers; raises nothing for anything in the message."""
    sender = _only_sender(raw)
    spf_result, spf_domain = await _spf(envelope, names)
    signatures = await _dkim(raw, names)
    record, known = await _policy(sender.domain, names) if sender else ({}, True)
    return decide(sender, envelope.login, spf_result, spf_domain, signatures, record, known)


def decide(
    sender: Address | None,
    login: Login | None,
    spf_result: str,
    spf_domain: str,
    signatures: Sequence[Signature],
    record: dict[str, str],
    record_known: bool = True,
) -> Verdict:
    """What the single results mean together. Pure.

    `sender` is the one mailbox in From or None; `record` the DMARC record, empty if none.
    """
    reasons: list[str] = []
    aligned = ""
    if sender is None:
        reasons.append("From does not name exactly one mailbox")
    else:
        for signature in signatures:
            if signature.result != "pass":
                said = f": {signature.reason}" if signature.reason else ""
                reasons.append(f"DKIM {signature.domain or '?'} {signature.result}{said}")
            elif not is_aligned(signature.domain, sender.domain, record.get("adkim", "r")):
                reasons.append(f"DKIM passes for {signature.domain}, not for {sender.domain}")
            else:
                aligned = aligned or signature.domain
                reasons.append(f"DKIM passes for {signature.domain}")
        if spf_result != "pass":
            reasons.append(f"SPF {spf_result}" + (f" for {spf_domain}" if spf_domain else ""))
        elif not is_aligned(spf_domain, sender.domain, record.get("aspf", "r")):
            reasons.append(f"SPF passes for {spf_domain}, not for {sender.domain}")
        else:
            aligned = aligned or spf_domain
            reasons.append(f"SPF passes for {spf_domain}")
        if not signatures:
            reasons.append("not signed with DKIM")
    acts_as = sender.canonical if sender and aligned else ""
    if login is not None:
        if sender is None or login.address not in (None, sender.canonical):
            acts_as = ""
            reasons.append(f"handed in with the login {login.name}, which may not use this From")
        else:
            acts_as = sender.canonical
            reasons.append(f"handed in with the login {login.name}")
    lost = spf_result == "temperror" or any(s.result == "temperror" for s in signatures)
    if not record_known:
        dmarc = "temperror"
    elif not record:
        dmarc = "none"
    else:
        dmarc = "pass" if aligned else "temperror" if lost else "fail"
    return Verdict(
        spf=spf_result,
        spf_domain=spf_domain,
        dkim=tuple(signatures),
        dmarc=dmarc,
        policy=record.get("p", ""),
        aligned_domain=aligned,
        acts_as=acts_as,
        reasons=tuple(reasons),
        uncertain=not acts_as and (lost or not record_known),
    )


def is_aligned(domain: str, from_domain: str, mode: str) -> bool:
    """Whether a checked domain may speak for the one in From: the same or, relaxed, its owner."""
    domain, from_domain = _ascii(domain), _ascii(from_domain)
    if not domain or not from_domain:
        return False
    if domain == from_domain:
        return True
    return mode != "s" and organisational_domain(domain) == organisational_domain(from_domain)


def organisational_domain(domain: str) -> str:
    """The registered domain above a name: `mail.shop.example.co.uk` → `example.co.uk`."""
    return _suffixes().privatesuffix(domain) or domain


@cache
def _suffixes() -> Any:
    return publicsuffixlist.PublicSuffixList()


def _ascii(domain: str) -> str:
    domain = domain.strip().rstrip(".").lower()
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _only_sender(raw: bytes) -> Address | None:
    fields, _ = split_headers(raw, lambda problem: None)
    values = [value for name, value in fields if name == "from"]
    if len(values) != 1:
        return None
    mailboxes = headers.addresses(values[0])
    return parse_address(mailboxes[0].address) if len(mailboxes) == 1 else None


async def _dkim(raw: bytes, names: Names) -> list[Signature]:
    keys: dict[str, str | None] = {}
    for domain, selector in signatures_of(raw):
        name = key_name(domain, selector)
        if not domain or name in keys:
            continue
        try:
            records = await _texts(names, name)
        except TemporaryError:
            keys[name] = None
            continue
        wanted = [record for record in records if "p=" in record.replace(" ", "")]
        keys[name] = wanted[0] if wanted else ""
    # Hashing a large body takes a while; other mail goes on meanwhile.
    return await asyncio.to_thread(verify, raw, keys)


async def _policy(domain: str, names: Names) -> tuple[dict[str, str], bool]:
    """The DMARC record that holds for a From domain (RFC 7489 §6.6.3), and whether we know it."""
    domain = _ascii(domain)
    for place in dict.fromkeys((domain, organisational_domain(domain))):
        try:
            found = await _texts(names, f"_dmarc.{place}")
        except TemporaryError:
            return {}, False
        records = [tags for tags in map(_dmarc_tags, found) if tags]
        if len(records) == 1:
            found_policy = records[0]
            if place != domain and "sp" in found_policy:
                found_policy["p"] = found_policy["sp"]
            return found_policy, True
        if records:
            return {}, True  # Several records are none.
    return {}, True


async def _texts(names: Names, name: str) -> Sequence[str]:
    """Texts at a name; none at what can't be one, whose look-up would only look like an outage."""
    labels = name.split(".")
    if not name.isascii() or len(name) > 253 or not all(0 < len(one) < 64 for one in labels):
        return []
    return await names.txt(name)


def _dmarc_tags(record: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in record[:4096].split(";")]
    tags = {name.strip().lower(): value.strip().lower() for name, _, value in reversed(pairs)}
    first = (pairs[0][0].strip().lower(), pairs[0][2].strip())
    return tags if first == ("v", "DMARC1") else {}


async def _spf(envelope: Envelope, names: Names) -> tuple[str, str]:
    """The SPF result and the domain it is about; "none" if nobody knows who handed it over."""
    mail_from = envelope.mail_from.strip().strip("<>")
    domain = mail_from.rpartition("@")[2] or envelope.helo
    domain = _ascii(domain)
    if not envelope.remote_ip or not domain or domain.startswith("["):
        return "none", domain
    try:
        address = str(ipaddress.ip_address(envelope.remote_ip.split("%")[0]))
    except ValueError:
        return "none", domain
    identity = mail_from if not mail_from or "@" in mail_from else ""
    try:
        async with asyncio.timeout(SPF_SECONDS):
            return await _spf_rounds(address, identity, _ascii(envelope.helo), names), domain
    except TimeoutError:
        return "temperror", domain


async def _spf_rounds(address: str, sender: str, helo: str, names: Names) -> str:
    answers: dict[tuple[str, str], list[Any] | None] = {}
    for _ in range(_MAX_ROUNDS):
        query = _Query(address, sender, helo, answers)
        try:
            result = str(query.check()[0])
        except UnaskedError:
            result = ""
        except Exception:  # pyspf lets odd records escape as odd exceptions.
            result = "permerror"
        if not query.unasked:
            return result or "permerror"
        for question in query.unasked:
            answers[question] = await _ask(names, *question)
    return "permerror"


class UnaskedError(Exception):
    """pyspf wants to know something that we have not asked for yet."""


class _Query(spf.query):  # type: ignore[misc]
    """pyspf with our answers in place of its own look-ups."""

    def __init__(
        self,
        address: str,
        sender: str,
        helo: str,
        answers: dict[tuple[str, str], list[Any] | None],
    ) -> None:
        super().__init__(i=address, s=sender, h=helo, receiver="unknown")
        self.t = "0"  # A clock in a macro would make each round ask for another name.
        self._answers = answers
        self.unasked: list[tuple[str, str]] = []

    def dns(
        self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False
    ) -> list[Any]:
        name = str(name).rstrip(".").lower()
        if len(name) > 253 or not all(0 < len(label) < 64 for label in name.split(".")):
            return []
        if (name, qtype) not in self._answers:
            self.unasked.append((name, qtype))
            raise UnaskedError
        answer = self._answers[name, qtype]
        if answer is None:
            raise spf.TempError("no name server answers")
        if not answer and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("too many look-ups without an answer")
        return answer


async def _ask(names: Names, name: str, qtype: str) -> list[Any] | None:
    try:
        if qtype == "TXT":
            return [(record.encode("utf-8", "replace"),) for record in await names.txt(name)]
        if qtype in ("A", "AAAA"):
            version = 4 if qtype == "A" else 6
            found = (ipaddress.ip_address(str(one)) for one in await names.addresses(name))
            return [str(address) for address in found if address.version == version]
        if qtype == "MX":
            return [(mx.preference, mx.exchange) for mx in await names.mx(name)]
        if qtype == "PTR":
            pointed = _pointed(name)
            return [str(one).rstrip(".") for one in await names.ptr(pointed)] if pointed else []
    except TemporaryError:
        return None
    return []


def _pointed(name: str) -> str:
    """The address that a reverse name stands for."""
    labels = name.split(".")
    if name.endswith(".in-addr.arpa") and len(labels) == 6:
        return ".".join(reversed(labels[:4]))
    if name.endswith(".ip6.arpa") and len(labels) == 34:
        digits = "".join(reversed(labels[:32]))
        return str(ipaddress.ip_address(int(digits, 16)))
    return ""

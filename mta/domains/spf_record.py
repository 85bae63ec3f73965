"""SPF records (RFC 7208): taken apart, followed as far as they lead, and mended.

Receivers allow ten terms that ask DNS, counted over all includes (§4.6.4). What a record lets
through depends on the message in some rare terms (macros, `exists`, `ptr`); those are counted and
taken to let nothing through.

Pure: DNS comes as `Answers`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mta.domains.answers import Answers

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_LOOKUPS = 10
MAX_VOID = 2
COUNT_UP_TO = 30
"""Look-ups after which even counting ends: the record is hopeless anyway."""

MAX_DEPTH = 10
MAX_TEXT = 4000

_ASKING = {"include", "a", "mx", "ptr", "exists", "redirect"}
_TERM = re.compile(r"([+?~-]?)([a-z][a-z0-9_.-]*)(?:([:=/])(.*))?\Z", re.IGNORECASE)
_CIDR = re.compile(r"(?:/(\d{1,3}))?(?://(\d{1,3}))?\Z")


@dataclass(frozen=True, slots=True)
class Term:
    """One mechanism or modifier; `sign` is + - ~ or ?."""

    text: str
    sign: str
    name: str
    value: str = ""
    modifier: bool = False


@dataclass(frozen=True, slots=True)
class Spf:
    """A record taken apart; `problems` are what makes receivers give up (permerror)."""

    terms: tuple[Term, ...]
    problems: tuple[str, ...] = ()

    @property
    def all_sign(self) -> str:
        """The sign of `all`; empty if there is none."""
        return next((t.sign for t in self.terms if t.name == "all" and not t.modifier), "")


def is_spf(text: str) -> bool:
    """Whether a TXT record is an SPF record (RFC 7208 §4.5)."""
    return text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")


def parse_spf(text: str) -> Spf:
    """Takes a record apart; never raises."""
    terms: list[Term] = []
    problems: list[str] = []
    if len(text) > MAX_TEXT:
        problems.append(f"it is longer than {MAX_TEXT} characters")
    for word in text[:MAX_TEXT].split(" ")[1:]:
        if not word:
            continue
        found = _TERM.match(word)
        if not found:
            problems.append(f'"{word[:60]}" can\'t be read')
            continue
        sign, name, mark, value = found.groups()
        name = name.lower()
        if mark == "/":
            value = "/" + value
        modifier = mark == "="
        term = Term(word, sign or "+", name, value or "", modifier)
        problem = _problem(term)
        if problem:
            problems.append(problem)
        terms.append(term)
    for name in ("redirect", "exp"):  # RFC 7208 §6.
        if sum(term.modifier and term.name == name for term in terms) > 1:
            problems.append(f'"{name}=" stands more than once')
    return Spf(tuple(terms), tuple(problems))


def _problem(term: Term) -> str:
    if term.modifier:
        if term.name in {"ip4", "ip6", "include", "a", "mx", "all", "exists", "ptr"}:
            return f'"{term.text[:60]}" has "=" where ":" belongs'
        return ""
    if term.name not in {"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"}:
        return f'"{term.text[:60]}" is no term of SPF'
    if term.name in {"include", "exists"} and not term.value:
        return f'"{term.text}" names no domain'
    if term.name in {"ip4", "ip6"} and _network(term) is None:
        return f'"{term.text[:60]}" is no address'
    return ""


def _network(term: Term) -> Network | None:
    try:
        network = ipaddress.ip_network(term.value, strict=False)
    except ValueError:
        return None
    return network if network.version == int(term.name[2]) else None


@dataclass
class Reach:
    """How far a record leads: who may send, how many look-ups it takes, and what breaks."""

    networks: list[Network] = field(default_factory=list)
    lookups: int = 0
    void: int = 0
    costs: list[tuple[str, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    untold: list[tuple[str, str]] = field(default_factory=list)
    everybody: bool = False

    def lets(self, address: str) -> bool:
        """Whether mail from this address passes."""
        one = ipaddress.ip_address(address)
        return self.everybody or any(one in network for network in self.networks)


def follow(spf: Spf, domain: str, answers: Answers) -> Reach:
    """Follows the record of `domain` through all that it includes."""
    reach = Reach()
    _follow(spf, domain, answers, reach, (domain,))
    return reach


def _follow(spf: Spf, domain: str, answers: Answers, reach: Reach, path: tuple[str, ...]) -> None:
    has_all = bool(spf.all_sign)
    for term in spf.terms:
        if term.name == "all" and not term.modifier:
            reach.everybody |= term.sign == "+"
            return  # What comes after is never looked at (RFC 7208 §5.1).
        before = reach.lookups
        if term.name in {"ip4", "ip6"} and not term.modifier:
            network = _network(term)
            if network is not None and term.sign == "+":
                reach.networks.append(network)
        elif term.name in _ASKING and not (term.name == "redirect" and not term.modifier):
            if term.name == "redirect" and has_all:
                continue  # RFC 7208 §6.1.
            reach.lookups += 1
            if reach.lookups > COUNT_UP_TO:
                return
            _ask(term, domain, answers, reach, path)
        if len(path) == 1 and reach.lookups > before:
            reach.costs.append((term.text, reach.lookups - before))


def _ask(term: Term, domain: str, answers: Answers, reach: Reach, path: tuple[str, ...]) -> None:
    host, _, cidr = term.value.partition("/")
    host = host or domain
    if "%" in host or term.name in {"ptr", "exists"}:
        return  # Depends on the message.
    if term.name in {"include", "redirect"}:
        _include(term, host, answers, reach, path)
    elif term.name == "a":
        _addresses(host, cidr, term, answers, reach)
    else:
        look = answers.look(host, "MX")
        if look.trouble:
            reach.untold.append((host, look.trouble))
        reach.void += not look.values and not look.trouble
        for value in look.values[:10]:
            _addresses(value.partition(" ")[2], cidr, term, answers, reach)


def _include(term: Term, host: str, answers: Answers, reach: Reach, path: tuple[str, ...]) -> None:
    host = host.rstrip(".").lower()
    if host in path or len(path) >= MAX_DEPTH:
        reach.broken.append(f"{term.text} leads in a circle")
        return
    look = answers.look(host, "TXT")
    if look.trouble:
        reach.untold.append((host, look.trouble))
        return
    texts = [text for text in look.values if is_spf(text)]
    if len(texts) != 1:
        count = "no SPF record" if not texts else f"{len(texts)} SPF records"
        reach.broken.append(f"{term.text} leads to {host}, which has {count}")
        return
    inner = parse_spf(texts[0])
    reach.broken.extend(f"{host}: {problem}" for problem in inner.problems)
    if term.sign == "+":
        _follow(inner, host, answers, reach, (*path, host))
    else:
        aside = Reach(lookups=reach.lookups, void=reach.void)
        _follow(inner, host, answers, aside, (*path, host))
        reach.lookups, reach.void = aside.lookups, aside.void
        reach.untold += aside.untold


def _addresses(host: str, cidr: str, term: Term, answers: Answers, reach: Reach) -> None:
    found = _CIDR.match(f"/{cidr}" if cidr else "")
    bits = (found[1], found[2]) if found else (None, None)
    nothing = True
    for kind, longest, given in (("A", 32, bits[0]), ("AAAA", 128, bits[1])):
        look = answers.look(host, kind)
        if look.trouble:
            reach.untold.append((host, look.trouble))
            return
        nothing &= not look.values
        length = min(int(given), longest) if given else longest
        if term.sign == "+":
            reach.networks.extend(
                ipaddress.ip_network(f"{value}/{length}", strict=False) for value in look.values
            )
    reach.void += nothing


def mend(texts: Sequence[str], mechanisms: Iterable[str]) -> str:
    """One record out of all that are there, with `mechanisms` added before its end.

    Of several different ends the mildest is kept; `+all` becomes `~all`.
    """
    words: list[str] = []
    ends: list[str] = []
    redirects: list[str] = []
    rest: list[str] = []
    for text in texts:
        for term in parse_spf(text).terms:
            if term.name == "all" and not term.modifier:
                ends.append(term.sign)
            elif term.name == "redirect" and term.modifier:
                redirects.append(term.value)
            elif term.modifier:
                if term.name != "exp" or not any(one.startswith("exp=") for one in rest):
                    rest.append(term.text)
            elif not _problem(term) and term.text.lower() not in map(str.lower, words):
                words.append(term.text)
    words += [one for one in mechanisms if one.lower() not in map(str.lower, words)]
    if redirects and not ends and len(texts) == 1:
        return " ".join(["v=spf1", *words, *rest, f"redirect={redirects[0]}"])
    if not ends:  # A redirect beside an "all" is never followed.
        words += [f"include:{one}" for one in redirects]
    end = next((sign for sign in "?~-" if sign in ends), "~")
    return " ".join(["v=spf1", *dict.fromkeys(words), f"{end}all", *rest])

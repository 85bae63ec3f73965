"""What people fill in on the public pages, read and bounded. Pure, but for `Buckets`' memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import parse_qs

from mail.address import parse_address

MAX_BODY_BYTES = 16 * 1024
MAX_FRIENDS = 5
MAX_NOTE = 1000
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Friend:
    """Somebody to invite. `address` is canonical."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """A filled-in forward form: `rows` as typed, `friends` if there is no problem."""

    rows: tuple[Friend, ...]
    friends: tuple[Friend, ...]
    note: str
    problems: tuple[str, ...]


def read_fields(body: bytes) -> dict[str, list[str]]:
    """The fields of a form as `application/x-www-form-urlencoded`; none if it is something else."""
    try:
        return parse_qs(
            body[:MAX_BODY_BYTES].decode("utf-8", "replace"),
            keep_blank_values=True,
            max_num_fields=50,
        )
    except ValueError:
        return {}


def one(fields: dict[str, list[str]], name: str) -> str:
    """The first value of a field."""
    return fields.get(name, [""])[0].strip()


def read_invitation(fields: dict[str, list[str]], *, inviter: str) -> Invitation:
    """The people that the form names; `inviter` is the canonical address of who fills it in."""
    names = fields.get("name", [])
    rows: list[Friend] = []
    friends: dict[str, Friend] = {}
    problems: list[str] = []
    for index, typed in enumerate(fields.get("address", [])[:MAX_FRIENDS]):
        name = _line(names[index] if index < len(names) else "")
        rows.append(Friend(name, typed.strip()[:254]))
        if not typed.strip():
            continue
        address = parse_address(typed)
        if address is None:
            problems.append(
                f"“{typed.strip()[:80]}” is not an e-mail address. "
                "It looks like name@example.com, without spaces."
            )
        elif address.canonical == inviter:
            problems.append("That is your own address. Give the address of a friend.")
        else:
            friends.setdefault(address.canonical, Friend(name, address.canonical))
    if not friends and not problems:
        problems.append("Give the e-mail address of at least one friend.")
    rows += [Friend("", "")] * (3 - len(rows))
    note = one(fields, "note").replace("\r\n", "\n")[:MAX_NOTE]
    return Invitation(tuple(rows), tuple(friends.values()), note, tuple(problems))


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_NAME]


class Buckets:
    """How often each caller may still send a form: `size` at once, refilled over `period`."""

    def __init__(self, size: int, period: timedelta, *, callers: int = 20_000) -> None:
        """At most `callers` are remembered; who was away longest is forgotten first."""
        self._size = size
        self._period = period
        self._callers = callers
        self._left: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def take(self, callers: Sequence[str], now: datetime) -> bool:
        """Whether all of `callers` had one left; takes one of each."""
        enough = True
        for caller in callers:
            left, at = self._left.pop(caller, (float(self._size), now))
            left = min(self._size, left + self._size * max(now - at, timedelta()) / self._period)
            enough = enough and left >= 1
            self._left[caller] = (max(left - 1, 0.0), now)
            if len(self._left) > self._callers:
                self._left.popitem(last=False)
        return enough


def network_of(host: str) -> str:
    """Who a client address belongs to: one IPv4 address, or the /64 that a home gets of IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network(f"{address}/64", strict=False))

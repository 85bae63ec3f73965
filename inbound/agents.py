"""Whether a person or a machine called for a link or a picture.

Mail filters follow links to look for harm, clients fetch pages in advance, proxies load pictures
for millions. Hits are never thrown away and machines never change anything; the opinion is stored
with its reasons and can be revised. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bus.events import Agent

SOONEST = timedelta(seconds=2)
"""Nobody opens a mail and follows a link so soon after it was handed over."""

BURST = timedelta(seconds=4)
"""Whoever calls for every link of a message within this time does not read."""

SCANNERS = (
    "barracuda",
    "bingpreview",
    "bot/",
    "bot;",
    "cloudmark",
    "crawler",
    "curl/",
    "facebookexternalhit",
    "fireeye",
    "forcepoint",
    "go-http-client",
    "headless",
    "ironport",
    "java/",
    "libwww-perl",
    "linkpreview",
    "mimecast",
    "okhttp",
    "proofpoint",
    "python",
    "safelinks",
    "scanner",
    "skypeuripreview",
    "slackbot",
    "sophos",
    "spider",
    "symantec",
    "telegrambot",
    "trendmicro",
    "twitterbot",
    "urlscan",
    "wget/",
    "whatsapp/",
    "zscaler",
)
"""Parts of the names by which filters, previews and programs call themselves; lower case."""

PROXIES = ("googleimageproxy", "yahoomailproxy", "outlook-ios", "ggpht.com")
"""Fetch a picture for a reader, so nobody can say when it was read."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One call. `headers` have lower-case names; `slot` is the link's, None for the picture."""

    at: datetime
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """Who it was, as far as we can tell, and why we think so."""

    agent: Agent
    reasons: tuple[str, ...]


def judge(
    hit: Hit,
    *,
    delivered_at: datetime | None,
    links: int = 0,
    earlier: Sequence[tuple[datetime, int]] = (),
) -> Opinion:
    """An opinion on one hit.

    `delivered_at` is None while the message is not delivered; `links` is how many links it has,
    `earlier` are times and slots of the clicks on it before.
    """
    headers = hit.headers or {}
    name = headers.get("user-agent", "")[:1000].lower()
    machine: list[str] = []
    if hit.method == "HEAD":
        machine.append("asked for headers only")
    purpose = " ".join(headers.get(key, "") for key in ("sec-purpose", "purpose", "x-moz")).lower()
    if "prefetch" in purpose or "preview" in purpose:
        machine.append("fetched in advance")
    if not name:
        machine.append("does not say what it is")
    machine += [f'calls itself "{known.strip("/;")}"' for known in SCANNERS if known in name][:3]
    if delivered_at is None:
        machine.append("came before the message was delivered")
    elif hit.at - delivered_at < SOONEST:
        machine.append("came within two seconds of delivery")
    if hit.slot is not None and links > 1:
        near = {slot for at, slot in earlier if abs(hit.at - at) <= BURST} | {hit.slot}
        if len(near) >= min(links, 5):
            machine.append("called for every link at once")
    if machine:
        return Opinion(Agent.MACHINE, tuple(machine))
    if any(known in name for known in PROXIES):
        return Opinion(Agent.UNKNOWN, ("a proxy that fetches pictures for readers",))
    if name == "mozilla/5.0":
        return Opinion(Agent.UNKNOWN, ("a proxy that hides its reader",))
    if name.startswith(("mozilla/", "opera/")) and headers.get("accept-language"):
        return Opinion(Agent.HUMAN, ("a browser with a language set",))
    return Opinion(Agent.UNKNOWN, ("nothing tells whether a person did it",))

"""What is measured. Where it happens, ask once for the instrument and keep it:

    _ACCEPTED = metrics.accepted("submission")
    ...
    _ACCEPTED.inc(len(batch))

`docs/metrics.md` tells what each means; a test compares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Engine, event

from mta.instruments import (
    LONG_SECONDS,
    SECONDS,
    SHORT_SECONDS,
    SIZES,
    Counter,
    Gauge,
    Histogram,
    Instruments,
)

TOP_SITES = 20
"""Sites that have a series of their own; the rest is "other"."""

INSTRUMENTS = Instruments()

_messages = INSTRUMENTS.counter(
    "waypost_messages_total", "Messages handed in, by door and answer.", "door", "result"
)
_accept_seconds = INSTRUMENTS.histogram(
    "waypost_accept_seconds", "From the end of DATA to our answer.", "door", bounds=SECONDS
)
_sync_seconds = INSTRUMENTS.histogram(
    "waypost_spool_sync_seconds", "One sync of the spool.", bounds=SECONDS
)
_sync_records = INSTRUMENTS.histogram(
    "waypost_spool_sync_records", "Records that shared one sync of the spool.", bounds=SIZES
)
_sort_seconds = INSTRUMENTS.histogram(
    "waypost_sort_seconds", "One batch moved from the spool into tables.", bounds=SECONDS
)
_sort_records = INSTRUMENTS.histogram(
    "waypost_sort_records", "Records in one batch of the sorter.", bounds=SIZES
)
_deliveries = INSTRUMENTS.counter(
    "waypost_deliveries_total",
    "Attempts to deliver that ended, by result and provider.",
    "result",
    "provider",
    limit=200,
)
_attempt_seconds = INSTRUMENTS.histogram(
    "waypost_attempt_seconds", "One attempt to deliver.", "provider", bounds=LONG_SECONDS
)
_sign_seconds = INSTRUMENTS.histogram(
    "waypost_sign_seconds", "One DKIM signature.", "algorithm", bounds=SHORT_SECONDS
)
_connections = INSTRUMENTS.counter(
    "waypost_connections_total", "Connections, by direction and result.", "direction", "result"
)
_open = INSTRUMENTS.gauge("waypost_connections_open", "Connections that are open.", "direction")
_tls = INSTRUMENTS.counter(
    "waypost_tls_total", "Connections by direction and TLS version.", "direction", "version"
)
_dns_seconds = INSTRUMENTS.histogram(
    "waypost_dns_seconds", "One question to name servers.", "kind", bounds=SECONDS
)
_store_seconds = INSTRUMENTS.histogram(
    "waypost_store_transaction_seconds", "One transaction.", "end", bounds=SECONDS
)
_in_hand = INSTRUMENTS.gauge(
    "waypost_deliveries_in_hand", "Deliveries that are claimed and not recorded."
)
_ready = INSTRUMENTS.gauge(
    "waypost_deliveries_ready", "Deliveries composed and waiting for room.", "site", limit=TOP_SITES
)


def accepted(door: str, result: str = "accepted") -> Counter:
    """Messages at a door (mx, submission, submissions, api).

    `result`: accepted, deferred, refused.
    """
    return _messages.of(door, result)


class Door:
    """What is counted of whole messages at one door."""

    def __init__(self, name: str) -> None:
        self.accepted = accepted(name)
        self.deferred = accepted(name, "deferred")
        self.refused = accepted(name, "refused")
        self.seconds = accept_seconds(name)

    def turned_away(self, reply: str) -> None:
        """Counts a message by the reply that it was not taken with."""
        (self.deferred if reply.startswith("4") else self.refused).inc()


@cache
def at_door(name: str) -> Door:
    """The same for all who come to a door."""
    return Door(name)


def accept_seconds(door: str) -> Histogram:
    """From the final dot to our reply."""
    return _accept_seconds.of(door)


def sync_seconds() -> Histogram:
    """One sync of the spool."""
    return _sync_seconds.of()


def sync_records() -> Histogram:
    """Records that one sync made durable."""
    return _sync_records.of()


def sort_seconds() -> Histogram:
    """One batch of the sorter."""
    return _sort_seconds.of()


def sort_records() -> Histogram:
    """Records in it."""
    return _sort_records.of()


def delivered(result: str, provider: str = "") -> Counter:
    """Attempts that ended so (delivered, deferred, bounced, uncertain, held).

    `provider` is one that the rules know by name; empty for all others, whose names are many.
    """
    return _deliveries.of(result, provider)


def attempt_seconds(provider: str = "") -> Histogram:
    """One attempt at a provider."""
    return _attempt_seconds.of(provider)


@cache
def attempts(provider: str = "") -> Attempts:
    """The same for all attempts at a provider."""
    return Attempts(provider)


class Attempts:
    """What is counted of attempts at one provider."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._ended: dict[str, Counter] = {}
        self.seconds = attempt_seconds(provider)

    def ended(self, result: str) -> None:
        """Counts one that came to this."""
        counter = self._ended.get(result)
        if counter is None:
            counter = self._ended[result] = delivered(result, self._provider)
        counter.inc()


def sign_seconds(algorithm: str) -> Histogram:
    """One signature (rsa-sha256, ed25519-sha256)."""
    return _sign_seconds.of(algorithm)


def connections(direction: str, result: str = "opened") -> Counter:
    """Connections `in` and `out`. `result`: opened, refused, failed."""
    return _connections.of(direction, result)


def connections_open(direction: str) -> Gauge:
    """Connections that are open: `inc` and `dec`."""
    return _open.of(direction)


def tls(direction: str, version: str) -> Counter:
    """Connections by TLS version (TLSv1.2, TLSv1.3, none)."""
    return _tls.of(direction, version or "none")


def dns_seconds(kind: str) -> Histogram:
    """One question (MX, A, TXT, ...)."""
    return _dns_seconds.of(kind)


def watch_ready(ready: Callable[[], Mapping[str, int]], in_hand: Callable[[], int]) -> None:
    """Asks for what lies ready by site, and for what is in hand, whenever values are read."""

    def look() -> None:
        _ready.replace(ready())
        _in_hand.of().set(in_hand())

    INSTRUMENTS.before(look)


def watch_store(engine: Engine) -> None:
    """Measures all transactions of a database engine."""
    ends = {end: _store_seconds.of(end) for end in ("commit", "rollback")}

    def begin(connection: Any) -> None:
        connection.info["waypost_began"] = time.perf_counter()

    def over(end: str) -> Callable[[Any], None]:
        def observe(connection: Any) -> None:
            began = connection.info.pop("waypost_began", None)
            if began is not None:
                ends[end].observe(time.perf_counter() - began)

        return observe

    event.listen(engine, "begin", begin)
    event.listen(engine, "commit", over("commit"))
    event.listen(engine, "rollback", over("rollback"))

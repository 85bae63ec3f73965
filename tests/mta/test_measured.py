"""A message that goes through the house leaves its marks in the numbers."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest

from mta import metrics
from mta.certificate import self_made
from mta.shaping.files import shipped
from mta.shaping.site import Providers
from storage.sessions import Sessions
from tests.mta.house import Tenant
from tests.mta.strangers import Sink
from tests.mta.test_service import Start, as_client, letter, login_for, until
from tests.mta.test_service import start as start

Numbers = dict[tuple[str, ...], float]


def numbers() -> Numbers:
    """Counters and gauges as they are, of histograms how many values there were."""
    found: Numbers = {}
    for name, rows in metrics.INSTRUMENTS.snapshot().items():
        for labels, sample in rows:
            count: Any = sum(sample[0]) if isinstance(sample, list) else sample
            found[name, *labels] = count
    return found


def test_attempts_are_counted_by_provider() -> None:
    providers = Providers(shipped())
    assert providers.of("gmail.com", "") == ""  # Nobody answered, and domains are not named.
    assert providers.of("shop.test", "aspmx.l.google.com") == "google"
    assert providers.of("shop.test", "mx.shop.test") == ""
    before = numbers()
    metrics.attempts("google").ended("bounced")
    assert _more(before)("waypost_deliveries_total", "bounced", "google") == 1


async def test_a_message_is_counted_all_the_way(
    store: Sessions, acme: Tenant, start: Start, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_made(tmp_path / "stranger", "mx.customer.test"))
    secret = await login_for(store, acme, "shop@acme.test")
    before = numbers()
    async with start(Sink(tls=context)) as post:

        def submit_it() -> None:
            client = as_client(post.ports["submission"], "shop@acme.test", secret, implicit=False)
            assert client.send_message(letter()) == {}
            with pytest.raises(smtplib.SMTPDataError):
                client.send_message(letter(From="eve@evil.test"), from_addr="bo@acme.test")
            assert _more(before)("waypost_connections_open", "in") == 1
            client.quit()

        await asyncio.to_thread(submit_it)
        await until(lambda: post.sink.taken)
        await until(lambda: _more(before)("waypost_deliveries_total", "delivered", "other"))
        metrics.watch_ready(post.service.deliverer.ready, lambda: post.service.deliverer.in_hand)
        await until(lambda: numbers()["waypost_deliveries_in_hand",] == 0)
    more = _more(before)
    assert more("waypost_messages_total", "submission", "accepted") == 1
    assert more("waypost_messages_total", "submission", "refused") == 1
    assert more("waypost_accept_seconds", "submission") == 1
    assert more("waypost_spool_sync_seconds") == more("waypost_spool_sync_records") >= 1
    assert more("waypost_sort_seconds") == more("waypost_sort_records") >= 1
    assert more("waypost_store_transaction_seconds", "commit") >= 2  # Sorted, and recorded.
    assert more("waypost_sign_seconds", "rsa-sha256") == 1
    assert more("waypost_sign_seconds", "ed25519-sha256") == 1
    assert more("waypost_dns_seconds", "MX") == 1
    assert more("waypost_deliveries_total", "delivered", "other") == 1
    assert more("waypost_attempt_seconds", "other") == 1
    for direction in ("in", "out"):
        assert more("waypost_connections_total", direction, "opened") == 1
        assert more("waypost_connections_open", direction) == 0
        assert more("waypost_tls_total", direction, "TLSv1.3") == 1
        assert more("waypost_tls_total", direction, "none") == 0


def _more(before: Numbers) -> Any:
    now = numbers()
    return lambda *key: now.get(key, 0) - before.get(key, 0)

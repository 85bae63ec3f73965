"""People and machines on our links."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.events import Agent
from inbound.agents import Hit, judge
from tests.conftest import MONDAY

BROWSER = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept-language": "en",
}
LONG_AGO = MONDAY - timedelta(hours=1)


def test_a_reader_is_a_person() -> None:
    opinion = judge(Hit(MONDAY, headers=BROWSER, slot=0), delivered_at=LONG_AGO, links=3)
    assert opinion.agent is Agent.HUMAN


@pytest.mark.parametrize(
    ("hit", "reason"),
    [
        (Hit(MONDAY, "HEAD", BROWSER), "headers only"),
        (Hit(MONDAY, headers=BROWSER | {"sec-purpose": "prefetch;prerender"}), "in advance"),
        (Hit(MONDAY, headers={}), "does not say"),
        (Hit(MONDAY), "does not say"),
        (Hit(MONDAY, headers={"user-agent": "python-requests/2.32"}), "python"),
        (Hit(MONDAY, headers=BROWSER | {"user-agent": "Mozilla/5.0 BingPreview/1.0b"}), "bing"),
    ],
)
def test_machines_give_themselves_away(hit: Hit, reason: str) -> None:
    opinion = judge(hit, delivered_at=LONG_AGO)
    assert opinion.agent is Agent.MACHINE
    assert reason in opinion.reasons[0]


def test_nobody_is_so_quick() -> None:
    hit = Hit(MONDAY, headers=BROWSER, slot=0)
    for delivered_at in (None, MONDAY - timedelta(seconds=1), MONDAY + timedelta(seconds=1)):
        assert judge(hit, delivered_at=delivered_at).agent is Agent.MACHINE
    assert judge(hit, delivered_at=MONDAY - timedelta(seconds=3)).agent is Agent.HUMAN


def test_all_links_at_once_is_a_filter_but_two_in_a_minute_is_a_reader() -> None:
    hit = Hit(MONDAY, headers=BROWSER, slot=2)
    burst = [(MONDAY - timedelta(seconds=1), 0), (MONDAY, 1)]
    assert judge(hit, delivered_at=LONG_AGO, links=3, earlier=burst).agent is Agent.MACHINE
    slow = [(MONDAY - timedelta(minutes=1), 0), (MONDAY, 1)]
    assert judge(hit, delivered_at=LONG_AGO, links=3, earlier=slow).agent is Agent.HUMAN


def test_picture_proxies_leave_it_open() -> None:
    for name in ("Mozilla/5.0 (via ggpht.com GoogleImageProxy)", "Mozilla/5.0", "SomeMail 3"):
        hit = Hit(MONDAY, headers={"user-agent": name, "accept-language": "en"})
        assert judge(hit, delivered_at=LONG_AGO).agent is Agent.UNKNOWN


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50)), st.text(max_size=10))
def test_every_hit_gets_an_opinion_with_a_reason(headers: dict[str, str], method: str) -> None:
    assert judge(Hit(MONDAY, method, headers), delivered_at=LONG_AGO).reasons

"""Rewritten return paths lead back to where they came from, and only for us."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.address import parse_address
from mail.tokens import TokenKeys
from mta.srs import Rewriter, SrsProblem
from tests.conftest import MONDAY

RING = TokenKeys({0: b"k" * 32}, current=0)
SRS = Rewriter(RING.derived("srs"))
OURS = "reply.acme.test"

LOCALS = st.from_regex(r"[a-z0-9=+_-]{1,12}(\.[a-z0-9=+-]{1,8})?", fullmatch=True)
HOSTS = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?\.[a-z]{2,5}", fullmatch=True)


def local_of(address: str) -> str:
    return address.rpartition("@")[0]


@given(LOCALS, HOSTS)
def test_an_address_comes_back(local: str, host: str) -> None:
    sender = f"{local}@{host}"
    rewritten = SRS.forward(sender, OURS, 1, MONDAY)
    if local.lower().startswith(("srs0", "srs1")):
        return
    assert rewritten is not None
    assert rewritten.endswith(f"@{OURS}")
    assert parse_address(rewritten) is not None
    assert SRS.reverse(local_of(rewritten), 1, MONDAY) == sender


@given(LOCALS, HOSTS, st.booleans())
def test_folded_case_changes_nothing_but_case(local: str, host: str, upper: bool) -> None:
    rewritten = SRS.forward(f"{local}@{host}", OURS, 1, MONDAY)
    assert rewritten is not None or local.startswith("srs")
    folded = local_of(rewritten or "")
    folded = folded.upper() if upper else folded.lower()
    back = SRS.reverse(folded, 1, MONDAY)
    if rewritten is not None and not isinstance(back, SrsProblem):
        assert back.lower() == f"{local}@{host}".lower()


@given(LOCALS, HOSTS, st.data())
def test_one_changed_character_is_noticed(local: str, host: str, data: st.DataObject) -> None:
    rewritten = SRS.forward(f"{local}@{host}", OURS, 1, MONDAY)
    if rewritten is None:
        return
    own = local_of(rewritten)
    at = data.draw(st.integers(5, len(own) - 1))
    other = data.draw(st.sampled_from([c for c in "abz059=.-" if c != own[at].lower()]))
    assert isinstance(SRS.reverse(own[:at] + other + own[at + 1 :], 1, MONDAY), SrsProblem)


@given(st.text(max_size=80))
@settings(max_examples=300)
def test_no_text_of_strangers_does_harm(text: str) -> None:
    assert isinstance(SRS.reverse(text, 1, MONDAY), SrsProblem)
    assert isinstance(SRS.reverse(f"SRS0={text}", 1, MONDAY), SrsProblem)
    assert isinstance(SRS.reverse(f"SRS1={text}", 1, MONDAY), SrsProblem)
    made = SRS.forward(text, OURS, 1, MONDAY)
    assert made is None or made == "" or parse_address(made) is not None


def test_three_forwarders_take_two_steps_back() -> None:
    first = Rewriter((b"a" * 32,)).forward("ann@customer.test", "one.test", 7, MONDAY)
    assert first is not None
    assert first.startswith("SRS0=")
    second = Rewriter((b"b" * 32,)).forward(first, "two.test", 8, MONDAY)
    assert second is not None
    third = SRS.forward(second, OURS, 1, MONDAY)
    assert third is not None
    assert third.startswith("SRS1=")
    assert SRS.reverse(local_of(third), 1, MONDAY) == first  # The second one is passed by.
    assert Rewriter((b"a" * 32,)).reverse(local_of(first), 7, MONDAY) == "ann@customer.test"


def test_the_separators_of_others_are_kept() -> None:
    there = SRS.forward("SRS0+xy=AB=c.test=d@one.test", OURS, 1, MONDAY)
    assert there is not None
    assert SRS.reverse(local_of(there), 1, MONDAY) == "SRS0+xy=AB=c.test=d@one.test"


def test_another_company_has_no_use_for_it() -> None:
    made = SRS.forward("ann@customer.test", OURS, 1, MONDAY)
    assert made is not None
    assert SRS.reverse(local_of(made), 2, MONDAY) is SrsProblem.FORGED


@pytest.mark.parametrize(
    ("days", "good"), [(-1, True), (0, True), (21, True), (22, False), (500, False), (-30, False)]
)
def test_addresses_end(days: int, good: bool) -> None:
    made = SRS.forward("ann@customer.test", OURS, 1, MONDAY)
    assert made is not None
    back = SRS.reverse(local_of(made), 1, MONDAY + timedelta(days=days))
    assert back == ("ann@customer.test" if good else SrsProblem.EXPIRED)


def test_older_keys_still_read() -> None:
    made = SRS.forward("ann@customer.test", OURS, 1, MONDAY)
    assert made is not None
    ring = TokenKeys({0: b"k" * 32, 1: b"n" * 32}, current=1)
    newer = Rewriter(ring.derived("srs"))
    assert newer.reverse(local_of(made), 1, MONDAY) == "ann@customer.test"
    assert newer.forward("ann@customer.test", OURS, 1, MONDAY) != made
    assert Rewriter(ring.derived("srs")[:1]).reverse(local_of(made), 1, MONDAY) is SrsProblem.FORGED


@pytest.mark.parametrize("sender", ["nobody", '"a b"@c.test', f"{'x' * 60}@customer.test", "<>"])
def test_what_can_not_be_written_is_not(sender: str) -> None:
    assert SRS.forward(sender, OURS, 1, MONDAY) is None


def test_the_null_return_path_stays_null() -> None:
    assert SRS.forward("", OURS, 1, MONDAY) == ""


def test_keys_differ_by_purpose() -> None:
    assert RING.derived("srs") != RING.derived("other")
    assert all(len(key) == 32 for key in RING.derived("srs"))

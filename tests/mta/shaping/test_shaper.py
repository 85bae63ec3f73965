"""The shaper as its callers see it: room, pauses, suspensions, sources, what survives a restart."""

from __future__ import annotations

import json
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mta.retry import ReplyClass
from mta.shaping.files import shipped
from mta.shaping.reading import read
from mta.shaping.rules import Rate, Shaping, SiteRule
from mta.shaping.shaper import IDLE_SECONDS, Shaper
from mta.shaping.verdict import Verdict

NOW = 1_800_000_000.0
OK = Verdict(250, "ok", "2.0.0")
LOST = Verdict(None, "connection refused", "", "connect")

LIMITED = Shaping(
    default=SiteRule(
        "default", connections=4, first_connections=2, rates=(Rate(10, 60.0), Rate(100, 3600.0)),
        replies=shipped().default.replies,
    )
)  # fmt: skip


class Sending(RuleBasedStateMachine):
    """Any order of starts, answers, pauses, suspensions and restarts."""

    @initialize(processes=st.sampled_from([1, 2, 3]))
    def begin(self, processes: int) -> None:
        self.processes = processes
        self.shaper = Shaper(LIMITED, processes=processes)
        self.now = NOW
        self.open = 0
        self.begun: deque[float] = deque()

    @rule(seconds=st.floats(0.0, 400.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(share=st.floats(0.0, 1.0))
    def start(self, share: float) -> None:
        room = self.shaper.room("a.example", self.now)
        for _ in range(round(room * share)):
            assert self.shaper.room("a.example", self.now) > 0
            self.shaper.started("a.example", self.now)
            self.open += 1
            self.begun.append(self.now)

    @precondition(lambda self: self.open)
    @rule(
        verdict=st.builds(
            Verdict,
            st.sampled_from([None, 250, 250, 250, 421, 450, 451, 452, 550, 554]),
            st.sampled_from(["", "too many connections", "rate limit", "greylisted", "blocklist"]),
            st.sampled_from(["", "4.7.0", "4.2.1", "4.3.2", "5.7.1"]),
            st.sampled_from(["connect", "tls", "mail", "rcpt", "data", "done"]),
        ),
        many=st.integers(1, 4),
    )
    def answer(self, verdict: Verdict, many: int) -> None:
        for _ in range(min(many, self.open)):
            self.shaper.finished("a.example", verdict, self.now)
            self.open -= 1

    @precondition(lambda self: self.open)
    @rule()
    def abandon(self) -> None:
        self.shaper.abandoned("a.example")
        self.open -= 1

    @rule(seconds=st.floats(1.0, 10_000.0))
    def suspend(self, seconds: float) -> None:
        self.shaper.suspend("a.example", self.now + seconds, "a person said so")
        assert self.shaper.room("a.example", self.now) == 0

    @rule()
    def resume(self) -> None:
        self.shaper.resume("a.example")

    @precondition(lambda self: not self.open)
    @rule()
    def restart(self) -> None:
        kept = json.loads(json.dumps(self.shaper.dump(self.now)))
        self.shaper = Shaper(LIMITED, processes=self.processes)
        self.shaper.load(kept, self.now)
        self.begun.clear()  # Counts of the minute are not kept: what is lost is one burst.

    @rule()
    def drain(self) -> None:
        """If all is well from here on, room comes within bounded time."""
        for _ in range(self.open):
            self.shaper.finished("a.example", OK, self.now)
        self.open = 0
        for _ in range(5):
            if self.shaper.room("a.example", self.now):
                return
            self.now = self.shaper.next_room("a.example", self.now)
        raise AssertionError("no room although nothing is wrong")

    @invariant()
    def limits_hold(self) -> None:
        room = self.shaper.room("a.example", self.now)
        assert 0 <= room <= max(1, 4 // self.processes)
        assert self.open <= max(1, 4 // self.processes)
        if room:
            assert self.shaper.next_room("a.example", self.now) == self.now
        else:
            assert self.shaper.next_room("a.example", self.now) > self.now
        for most, seconds in ((10, 60.0), (100, 3600.0)):
            share = max(1, most // self.processes)
            for start in self.begun:
                lately = sum(start <= at < start + seconds - 1e-3 for at in self.begun)
                assert lately <= share


Sending.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSending = Sending.TestCase


def ended(
    shaper: Shaper, site: str, verdict: Verdict, now: float, *, source: str = ""
) -> ReplyClass:
    shaper.started(site, now, source=source)
    return shaper.finished(site, verdict, now, source=source)


def test_the_window_grows_by_one_for_a_cohort_of_successes() -> None:
    shaper = Shaper(shipped())
    assert shaper.room("a.example", NOW) == 5
    for _ in range(2):
        shaper.started("a.example", NOW, count=shaper.room("a.example", NOW))
        while shaper.snapshot(NOW)[0].in_flight:
            shaper.finished("a.example", OK, NOW)
    assert shaper.room("a.example", NOW) >= 5


def test_a_window_of_lost_connections_is_a_dead_site_and_one_probe_wakes_it() -> None:
    shaper = Shaper(shipped())
    shaper.started("a.example", NOW, count=5)
    for _ in range(5):
        shaper.finished("a.example", LOST, NOW)
    assert shaper.room("a.example", NOW) == 0
    assert shaper.next_room("a.example", NOW) == NOW + 30
    assert shaper.room("a.example", NOW + 30) == 1
    ended(shaper, "a.example", LOST, NOW + 30)
    assert shaper.next_room("a.example", NOW + 30) == NOW + 30 + 60
    shaper.started("a.example", NOW + 90)
    assert shaper.room("a.example", NOW + 90) == 0, "one delivery shows how it is"
    shaper.finished("a.example", OK, NOW + 91)
    assert shaper.room("a.example", NOW + 91) >= 1


def test_a_person_suspends_and_resumes() -> None:
    shaper = Shaper(shipped())
    shaper.suspend("google", NOW + 3600, "their postmaster asked")
    assert shaper.room("google", NOW) == 0
    assert shaper.next_room("google", NOW) == NOW + 3600
    [state] = shaper.snapshot(NOW)
    assert (state.state, state.why) == ("suspended", "their postmaster asked")
    shaper.resume("google")
    assert shaper.room("google", NOW) == 3
    shaper.suspend("google", NOW + 10, "again")
    assert shaper.room("google", NOW + 10) == 3


@pytest.mark.parametrize(
    ("site", "verdict", "meaning", "stopped"),
    [
        ("a.example", Verdict(450, "Greylisted", "4.2.0", "rcpt"), ReplyClass.GREYLISTED, False),
        ("a.example", Verdict(452, "", "4.2.2", "rcpt"), ReplyClass.MAILBOX_FULL, False),
        ("google", Verdict(421, "x", "4.7.28", "data"), ReplyClass.SLOW_DOWN, True),
        ("google", Verdict(450, "mail at a rate that", "4.2.1", "rcpt"), ReplyClass.OTHER, False),
        ("google", Verdict(550, "x", "5.7.26", "data"), ReplyClass.BLOCKED, False),
        ("t-online", Verdict(554, "IP=192.0.2.1 - None/bad reputation. (NOWL)", "", "connect"),
         ReplyClass.BLOCKED, True),
        ("a.example", Verdict(554, "no", "", "connect"), ReplyClass.BLOCKED, True),
        ("a.example", Verdict(550, "user unknown", "5.1.1", "rcpt"), ReplyClass.OTHER, False),
        ("a.example", Verdict(421, "closing", "", "data"), ReplyClass.OTHER, True),
    ],
)  # fmt: skip
def test_replies_are_understood(
    site: str, verdict: Verdict, meaning: ReplyClass, stopped: bool
) -> None:
    shaper = Shaper(shipped())
    assert ended(shaper, site, verdict, NOW) is meaning
    assert (shaper.room(site, NOW) == 0) is stopped
    assert shaper.meaning(site, verdict) is meaning


def test_a_rule_with_a_number_of_times_waits_for_it() -> None:
    shaper = Shaper(shipped())
    blocked = Verdict(550, "Client host [192.0.2.1] blocked using zen.example", "5.7.1", "rcpt")
    for _ in range(4):
        ended(shaper, "a.example", blocked, NOW)
        assert shaper.room("a.example", NOW) > 0
    ended(shaper, "a.example", blocked, NOW)
    assert shaper.next_room("a.example", NOW) == NOW + 3600


def test_one_senders_links_stop_nobodys_mail() -> None:
    shaper = Shaper(shipped())
    listed = Verdict(550, "message has a link that spamhaus lists (blocklist)", "5.7.1", "data")
    for _ in range(50):
        ended(shaper, "a.example", listed, NOW)
    assert shaper.room("a.example", NOW) > 0


def test_what_was_learnt_survives_a_restart() -> None:
    shaper = Shaper(shipped())
    shaper.suspend("yahoo", NOW + 600, "maintenance")
    shaper.started("google", NOW, count=3)
    shaper.finished("google", Verdict(421, "too many connections", "", "connect"), NOW)
    ended(shaper, "a.example", Verdict(421, "rate limit", "4.7.0", "mail"), NOW)
    again = Shaper(shipped())
    again.load(json.loads(json.dumps(shaper.dump(NOW))), NOW)
    states = {state.site: state for state in again.snapshot(NOW)}
    assert states["yahoo"].state == "suspended"
    assert states["google"].ceiling == 2
    assert states["a.example"].pace == pytest.approx(0.175)
    assert states["a.example"].state == "paused"


@pytest.mark.parametrize(
    "state",
    [
        {"sites": [1], "suspended": 3, "warmth": {}},
        {"sites": {"a": {"pace": "x", "until": None, "ceiling": -4}, "b": 7}},
        {"suspended": {"a": [None, None], "b": [1]}, "warmth": [["x"], 3, ["a", "b", 1, 2, 3, 4]]},
        {"sites": {"a": {"pace": float("nan"), "until": float("inf"), "setbacks": 1e300}}},
    ],
)
def test_a_state_of_another_form_is_no_harm(state: dict[str, object]) -> None:
    shaper = Shaper(shipped())
    shaper.load(state, NOW)
    assert shaper.room("a", NOW) > 0


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["new", "google"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.sampled_from(["a", "pace", "wall", "until", "ceiling", "setbacks", "why"]), inner
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["sites", "suspended", "warmth"]), JSON))
def test_any_state_is_read_and_stops_nothing_for_ever(state: dict[str, object]) -> None:
    shaper = Shaper(read(WARMING, "x", shipped()))
    shaper.load(state, NOW)
    for site in ("a", "google"):
        shaper.resume(site)
        assert shaper.room(site, shaper.next_room(site, NOW)) >= 0
        assert shaper.next_room(site, NOW) <= NOW + 366 * 86_400
    json.dumps(shaper.dump(NOW))


def test_a_delivery_that_was_cancelled_makes_room() -> None:
    shaper = Shaper(shipped())
    shaper.started("a.example", NOW, count=5)
    assert shaper.room("a.example", NOW) == 0
    shaper.abandoned("a.example")
    assert shaper.room("a.example", NOW) == 1


def test_a_smart_host_may_have_rules_of_its_own() -> None:
    rules = read('[provider."relay.example:587"]\nconnections = 2\nper_hour = 100', "x", shipped())
    shaper = Shaper(rules)
    assert shaper.room("relay.example:587", NOW) == 2
    assert shaper.room("other.example:587", NOW) == 5


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.shaping.shaper.MAX_SITES", 1000)
    shaper = Shaper(shipped())
    for number in range(3000):
        ended(shaper, f"{number}.example", OK, NOW + number / 1000)
    assert len(shaper.snapshot(NOW)) <= 1000
    later = NOW + 1000 + IDLE_SECONDS
    ended(shaper, "last.example", OK, later)
    assert len(shaper.snapshot(later)) == 1


def test_a_clock_that_steps_back_stops_nothing() -> None:
    shaper = Shaper(LIMITED)
    shaper.started("a.example", NOW, count=1)
    shaper.finished("a.example", OK, NOW)
    earlier = NOW - 1_000_000
    at = shaper.next_room("a.example", earlier)
    assert at - earlier <= 3600


WARMING = """
[warm_up]
first = 10
factor = 2
until = 100
[source.old]
address = "192.0.2.1"
[source.new]
address = "192.0.2.2"
weight = 3
warm_up = true
"""


def test_a_new_source_gets_its_budget_and_the_old_one_the_rest() -> None:
    shaper = Shaper(read(WARMING, "x", shipped()))
    used = {"old": 0, "new": 0}
    for _ in range(40):
        source = shaper.choose_source("google", NOW)
        assert source is not None
        used[source.name] += 1
        ended(shaper, "google", OK, NOW, source=source.name)
    assert used == {"old": 30, "new": 10}


def test_warming_up_goes_on_only_with_days_that_were_used_and_brought_no_complaint() -> None:
    only_new = WARMING.replace('[source.old]\naddress = "192.0.2.1"\n', "")
    shaper = Shaper(read(only_new, "x", shipped()))

    def send_all(now: float) -> int:
        sent = 0
        while shaper.room("google", now) and sent < 1000:
            ended(shaper, "google", OK, now, source="new")
            sent += 1
        return sent

    day = 86_400.0
    assert [send_all(NOW), send_all(NOW + day), send_all(NOW + 2 * day)] == [10, 20, 40]
    midnight = (NOW + 2 * day) // day * day + day
    assert shaper.next_room("google", NOW + 2 * day) == midnight
    complaint = Verdict(421, "rate", "4.7.28", "mail")
    ended(shaper, "google", complaint, NOW + 3 * day, source="new")
    shaper.resume("google")
    kept = json.loads(json.dumps(shaper.dump(NOW + 3 * day)))
    shaper = Shaper(read(only_new, "x", shipped()))
    shaper.load(kept, NOW + 3 * day)
    shaper.resume("google")
    budget = shaper.dump(NOW + 3 * day)["warmth"]
    assert budget[0][:3] == ["new", "google", 3]
    shaper.room("google", NOW + 4 * day)
    assert shaper.dump(NOW + 4 * day)["warmth"][0][2] == 3, "a day with a complaint is no step"
    shaper.room("google", NOW + 5 * day)
    assert shaper.dump(NOW + 5 * day)["warmth"][0][2] == 3, "nor is a day without mail"


def test_a_source_is_left_out_where_its_address_is_blocked() -> None:
    shaper = Shaper(read(WARMING, "x", shipped()))
    blocked = Verdict(451, "poor reputation of 192.0.2.2", "4.7.1", "mail")
    for _ in range(3):
        ended(shaper, "a.example", blocked, NOW, source="new")
    chosen = {source.name for _ in range(8) if (source := shaper.choose_source("a.example", NOW))}
    assert chosen == {"old"}
    elsewhere = {s.name for _ in range(8) if (s := shaper.choose_source("b.example", NOW))}
    assert elsewhere == {"old", "new"}

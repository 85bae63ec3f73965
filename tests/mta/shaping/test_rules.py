"""Rules: read from TOML or refused with file, key and remedy; matched to sites and replies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import ConfigError
from mta.shaping.explain import explained, learnt_words
from mta.shaping.files import shaping, shipped
from mta.shaping.rate import Bucket
from mta.shaping.reading import read
from mta.shaping.rules import Action, Rate, ReplyRule
from mta.shaping.shaper import Shaper
from mta.shaping.site import site_of
from mta.shaping.verdict import Verdict


@pytest.mark.parametrize(
    ("domain", "mx", "site"),
    [
        ("gmail.com", ["gmail-smtp-in.l.google.com.", "ALT1.gmail-smtp-in.l.Google.com"], "google"),
        ("firm.example", ["firm-example.mail.protection.outlook.com"], "microsoft-business"),
        ("firm.example", ["firm-example.x-v1.mx.microsoft"], "microsoft-business"),
        ("hotmail.com", ["hotmail-com.olc.protection.outlook.com"], "microsoft-consumer"),
        ("gmx.de", ["mx00.emig.gmx.net", "mx01.emig.gmx.net"], "united-internet"),
        ("t-online.de", ["mx00.t-online.de", "mx01.t-online.de"], "t-online"),
        ("firm.example", ["mx2.host.example", "mx1.host.example"], "mx1.host.example+1"),
        ("other.example", ["mx1.host.example.", "MX2.host.example"], "mx1.host.example+1"),
        ("firm.example", ["mx.host.example"], "mx.host.example"),
        ("firm.example", [], "firm.example"),
        ("firm.example", ["firm.example"], "firm.example"),
        # A stranger who names Google's servers beside his own is not Google.
        ("bad.example", ["aspmx.l.google.com", "mx.bad.example"], "aspmx.l.google.com+1"),
        ("bad.example", ["notgoogle.com"], "notgoogle.com"),
        ("bad.example", ["google.com.bad.example"], "google.com.bad.example"),
    ],
)
def test_the_site_of_a_domain(domain: str, mx: list[str], site: str) -> None:
    assert site_of(shipped(), domain, mx) == site
    assert Shaper(shipped()).site_of(domain, list(reversed(mx))) == site


@given(st.text(max_size=300), st.lists(st.text(max_size=300), max_size=5))
def test_any_names_give_a_site_of_bounded_length(domain: str, mx: list[str]) -> None:
    assert len(site_of(shipped(), domain, mx)) <= 260


def test_every_rule_that_comes_with_waypost_can_be_explained() -> None:
    for rule in shipped().providers.values():
        assert rule.title
        host = f"mx{rule.mx[0]}"
        lines = explained(shipped(), "firm.example", [host], processes=2)
        assert f"the site {rule.name}:" in lines[0]
        assert all(len(line) < 400 for line in lines)
    lines = explained(shipped(), "firm.example", ["mx.firm.example"])
    assert "no provider is known" in "\n".join(lines)


def test_no_suffix_belongs_to_two_providers() -> None:
    suffixes = [suffix for rule in shipped().providers.values() for suffix in rule.mx]
    for one in suffixes:
        assert [other for other in suffixes if one.endswith(other)] == [one]


def test_the_owners_file_wins_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "shaping.toml"
    path.write_text(
        """
        [default]
        per_minute = 120
        [provider.google]
        connections = 2
        [[provider.google.reply]]
        name = "mine"
        codes = [450]
        words = ["first * second"]
        action = "suspend"
        pause = "3h"
        [provider.partner]
        domains = ["Partner.example"]
        connections = 50
        """,
        encoding="utf-8",
    )
    rules = shaping(path)
    google = rules.providers["google"]
    assert google.connections == 2
    assert google.first_connections == shipped().providers["google"].first_connections
    assert google.replies[0] == ReplyRule(
        "mine", Action.SUSPEND, codes=(450,), words=(("first ", " second"),), pause=10_800.0
    )
    assert google.replies[1:] == shipped().providers["google"].replies
    assert rules.default.rates == (Rate(120, 60.0),)
    assert google.rates == ()
    assert site_of(rules, "partner.example", ["mx.google.com"]) == "partner"
    assert rules.providers["partner"].replies == rules.default.replies
    verdict = Verdict(450, "FIRST this and that SECOND", "", "rcpt")
    assert google.read(verdict) is google.replies[0]
    assert google.read(Verdict(450, "second first", "", "rcpt")) is not google.replies[0]


def test_replies_can_be_replaced() -> None:
    alone = "replace_replies = true"
    rules = read(f"[provider.google]\n{alone}\n[default]\n{alone}", "x", shipped())
    assert rules.default.replies == ()
    assert rules.providers["google"].replies == ()
    assert len(rules.providers["yahoo"].replies) == 2


WRONG = {
    "[default\n": "is not TOML",
    "[defualt]\n": 'Did you mean "default"',
    "[default]\nconections = 3": 'conections is no key we know.\n  Did you mean "connections"',
    "[default]\nconnections = 0": "[default] connections = 0 is no number from 1",
    "[default]\nconnections = true": "connections = True",
    "[default]\nper_minute = 1.5": "per_minute = 1.5",
    '[default]\ndead_pause = "5"': "dead_pause",
    "[default]\ndead_pause = 5": "has no unit",
    "[provider.x]\nconnections = 3": "[provider.x] matches nothing",
    '[provider.x]\nmx = ["example.net"]': 'like ".example.net"',
    '[provider.x]\nmx = "a"': "mx is no list",
    '[provider.x]\nmx = [".a.example"]\n[[provider.x.reply]]\nname = "a"': "action is missing",
    '[[default.reply]]\nname = "a"\naction = "explode"\ncodes = [4]': 'Known: "ignore"',
    '[[default.reply]]\nname = "a"\naction = "ignore"': "fits every reply",
    '[[default.reply]]\nname = "a"\naction = "ignore"\ncodes = [250]': "no list of reply codes",
    '[[default.reply]]\nname = "a"\naction = "suspend"\ncodes = [4]': "pause is missing",
    '[[default.reply]]\nname = "a"\naction = "ignore"\nwords = ["***"]': "is no pattern",
    f'[[default.reply]]\nname = "a"\naction = "ignore"\nwords = ["{"a" * 120}"]': "is no pattern",
    '[[default.reply]]\nname = "a"\naction = "ignore"\ncodes=[4]\nphases = ["x"]': "Known: connect",
    "[warm_up]\nfactor = 1": "factor = 1 is out of range",
    "[source.a]\nweight = 1": "address is missing",
    '[source.a]\naddress = "mx.example"': "is no IP address",
    "source = 3": "is not a table",
    "[provider]\nx = 3": "is not a table",
}


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=list(WRONG.values()))
def test_a_wrong_file_is_refused_with_place_and_remedy(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text, "own.toml", shipped())
    assert error.value.public.startswith("own.toml:")
    assert told in error.value.public
    assert "\n  " in error.value.public


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: can't be read"):
        shaping(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xe4")
    with pytest.raises(ConfigError, match="UTF-8"):
        shaping(tmp_path / "latin.toml")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value) if isinstance(value, (int, float)) else '"' + str(value) + '"'


VALUES = st.recursive(
    st.booleans() | st.integers(-(10**6), 10**6) | st.sampled_from(["1h", "a", ".a.b", "ignore"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["connections", "per_hour", "mx", "domains", "cohorts", "dead_pause", "title", "reply", "name",
     "action", "codes", "words", "pause", "times", "first", "factor", "address", "weight"]
)  # fmt: skip
TABLES = st.sampled_from(["default", "provider.x", "[default.reply]", "warm_up", "source.a"])


@given(st.lists(st.tuples(TABLES, st.dictionaries(KEYS, VALUES, max_size=4)), max_size=4))
def test_any_file_is_read_or_refused(tables: list[tuple[str, dict[str, object]]]) -> None:
    text = "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in table.items())
        for name, table in tables
    )
    refused = ""
    try:
        rules = read(text, "own.toml", shipped())
    except ConfigError as error:
        refused = error.public
    if refused:
        assert refused.startswith("own.toml:")
    else:
        assert Shaper(rules).room("x", 0.0) >= 1


@given(st.text(max_size=3000), st.sampled_from([421, 450, 550]))
def test_any_text_is_read(text: str, code: int) -> None:
    for rule in shipped().providers.values():
        found = rule.read(Verdict(code, text, text[:20], "data"))
        assert found is None or found in rule.replies


def test_a_long_hostile_text_takes_no_time() -> None:
    words = "*".join(["a"] * 49) + "*b"
    rules = read(
        f'[[default.reply]]\nname = "x"\naction = "ignore"\nwords = ["{words}"]', "x", shipped()
    )
    verdict = Verdict(450, "a" * 1_000_000, "", "data")
    begun = time.perf_counter()
    for _ in range(100):
        rules.default.read(verdict)
    assert time.perf_counter() - begun < 2.0


@given(
    most=st.integers(1, 5000),
    seconds=st.sampled_from([1.0, 60.0, 3600.0]),
    processes=st.integers(1, 4),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=30),
)
def test_a_bucket_never_lets_more_through_than_its_limit(
    most: int, seconds: float, processes: int, gaps: list[float]
) -> None:
    bucket, now, taken = Bucket.of(Rate(most, seconds), processes), 1.8e9, []
    for gap in gaps:
        now += gap
        count = bucket.room(now)
        bucket.take(count, now)
        taken.append((now, count))
        assert bucket.room(now) == 0
        now = bucket.next(now)
        assert bucket.room(now) >= 1
    span = seconds if most >= processes else seconds * processes / most
    for start, _ in taken:
        within = sum(count for at, count in taken if start <= at < start + span - 1e-3)
        assert within <= max(1, most // processes)


def test_what_was_learnt_reads_well() -> None:
    state = {"pace": 0.5, "ceiling": 4.0, "until": 1_800_000_000.0, "why": "too fast: 421"}
    assert learnt_words("mail-1", state) == (
        "mail-1 learnt: 30 a minute, 4 connections, "
        "paused until 2027-01-15 08:00:00 UTC (too fast: 421)"
    )

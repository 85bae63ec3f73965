"""What people do wrong in DNS, and that each is named with its remedy."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import dns.rdata
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.domains import check
from mta.domains.answers import Answers, UnaskedError, settle
from mta.domains.check import check_domain_records, check_machine, is_published, is_ready, worst
from mta.domains.findings import Finding, State
from mta.domains.records import Machine, domain_records
from mta.domains.spf_record import is_spf, mend, parse_spf
from mta.domains.zone import text_strings, zone_file
from mta.resolver import Look
from tests.conftest import MONDAY
from tests.mta.domains.town import ED_KEY, MACHINE, PAIR, RSA_KEY, Town

RSA_NAME, ED_NAME = "wp1r._domainkey.acme.test", "wp1e._domainkey.acme.test"
RSA_TEXT = f"v=DKIM1; k=rsa; p={RSA_KEY}"


async def test_a_domain_that_is_right_is_found_right() -> None:
    town = Town()
    found = [*await town.findings(), *await check_machine(MACHINE, town)]
    assert {(f.record.name, f.code) for f in found if f.state is not State.GOOD} == set()
    assert len(found) == 14
    assert is_ready(found)
    assert is_published(found, PAIR)


async def test_an_empty_domain_misses_what_is_required_and_could_have_the_rest() -> None:
    town = Town()
    town.zone.clear()
    found = await town.findings()
    assert {f.code for f in found} == {"missing"}
    states = {f.record.purpose.value: f.state.value for f in found}
    assert states == {
        "dkim": "wrong", "return-path": "wrong", "mx": "wrong", "dmarc": "wrong",
        "spf": "advice", "mta-sts": "advice", "mta-sts-host": "advice", "tls-rpt": "advice",
    }  # fmt: skip
    assert not is_ready(found)
    assert worst(found) is State.WRONG


@pytest.mark.parametrize(
    ("texts", "code", "says"),
    [
        ([RSA_TEXT.replace("; ", ";")], "good", ""),
        ([RSA_TEXT.replace("xyz", "xyz ")], "good", ""),
        ([f"k=rsa; p={RSA_KEY}"], "good", ""),
        ([f'"{RSA_TEXT[:255]}" "{RSA_TEXT[255:]}"'], "extra_quotes", "without any quotes"),
        ([RSA_TEXT.replace(";", "\\;")], "extra_quotes", "backslashes"),
        ([RSA_TEXT[:255]], "truncated", "of 392 characters"),
        ([RSA_TEXT, RSA_TEXT + " "], "several_records", "Leave only this one"),
        (["v=DKIM1; k=rsa; p="], "revoked", "revoked"),
        ([f"v=DKIM1; k=ed25519; p={RSA_KEY}"], "wrong_algorithm", "k=ed25519"),
        ([f"v=DKIM1; k=rsa; p={ED_KEY}"], "swapped", "the key of wp1e._domainkey"),
        ([RSA_TEXT + "AAAA"], "too_long", "more text after"),
        ([RSA_TEXT.replace("xyz", "Xyz", 3)], "other_key", "few characters"),
        (["v=DKIM1; k=rsa; p=AAAA"], "other_key", "Another key"),
        (["v=DKIM2; k=rsa; p=AAAA"], "bad_version", "v=DKIM1"),
        ([f"k=rsa; v=DKIM1; p={RSA_KEY}"], "bad_version", "begins with"),
        ([RSA_TEXT + "; h=sha1"], "wrong_hash", "SHA-256"),
        ([RSA_TEXT + "; s=tlsrpt"], "wrong_service", "Take the s= tag out"),
        ([RSA_TEXT + "; t=y"], "testing", "t=y"),
        (["google-site-verification=1"], "no_key", "is no DKIM key"),
        (["v=DKIM1; p=1; p=2"], "no_key", "is no DKIM key"),
        ([""], "no_key", "is no DKIM key"),
    ],
)
async def test_keys(texts: list[str], code: str, says: str) -> None:
    town = Town()
    town.put(RSA_NAME, "TXT", *texts)
    finding = await town.about(RSA_NAME)
    assert finding.code == code
    assert says in finding.problem + finding.remedy
    assert is_published([*await town.findings()], PAIR) == (code in {"good", "testing"})


async def test_a_key_under_another_name_is_found() -> None:
    town = Town()
    del town.zone[RSA_NAME, "TXT"]
    assert (await town.about(RSA_NAME)).code == "missing"
    town.put("wp1r.acme.test", "TXT", RSA_TEXT)
    assert (await town.about(RSA_NAME)).code == "wrong_name"
    town.put(f"{RSA_NAME}.acme.test", "TXT", RSA_TEXT)
    finding = await town.about(RSA_NAME)
    assert finding.code == "doubled_name"
    assert finding.remedy.endswith("write only wp1r._domainkey")


SPF = "v=spf1 include:_spf.host.test ip4:9.9.9.9 -all"
WITH_ADDRESSES = "v=spf1 a:mail.acme.test ip4:5.9.1.1 ip6:2a01:4f8::25 -all"


@pytest.mark.parametrize(
    ("texts", "code", "value"),
    [
        (["v=spf1 ip4:5.9.1.0/24 ip6:2a01:4f8::/32 ~all"], "good", ""),
        (["v=spf1 mx:reply.acme.test -all"], "good", ""),
        ([SPF], "shut_out", "v=spf1 include:_spf.host.test ip4:9.9.9.9 a:mail.acme.test -all"),
        (
            [SPF, "v=spf1 mx ~all"],
            "several_spf",
            "v=spf1 include:_spf.host.test ip4:9.9.9.9 mx a:mail.acme.test ~all",
        ),
        (
            ["v=spf1 a:mail.acme.test ip4:nonsense foo:bar -all"],
            "bad_spf",
            "v=spf1 a:mail.acme.test -all",
        ),
        (["v=spf1 a:mail.acme.test +all"], "everybody", "v=spf1 a:mail.acme.test ~all"),
        (["v=spf1 a:mail.acme.test"], "no_end", "v=spf1 a:mail.acme.test ~all"),
        (["v=spf1 -all a:mail.acme.test"], "shut_out", WITH_ADDRESSES),
        (["v=spf1 ptr a:mail.acme.test -all"], "ptr", ""),
        (
            ["v=spf1 a:mail.acme.test exp=a.test exp=b.test -all"],
            "bad_spf",
            "v=spf1 a:mail.acme.test -all exp=a.test",
        ),
        (["v=spf1 a:mail.acme.test include:gone.test -all"], "broken_include", ""),
        (["v=spf1 a:mail.acme.test include:acme.test -all"], "broken_include", ""),
        (
            ["v=spf1 redirect=_spf.host.test"],
            "shut_out",
            "v=spf1 a:mail.acme.test redirect=_spf.host.test",
        ),
        (['"v=spf1 a:mail.acme.test ~all"'], "extra_quotes", ""),
        (["v=spf2 a:mail.acme.test ~all"], "bad_spf", ""),
        (["verification=1"], "missing", ""),
        ([], "missing", ""),
    ],
)
async def test_spf(texts: list[str], code: str, value: str) -> None:
    town = Town()
    town.put("_spf.host.test", "TXT", "v=spf1 ip4:7.7.7.0/24 -all")
    town.put("acme.test", "MX", "10 mx.other.test")
    town.put("mx.other.test", "A", "7.7.7.7")
    town.put("acme.test", "TXT", *texts)
    finding = await town.about("acme.test")
    assert finding.code == code
    if value:
        assert finding.value == value
        town.put("acme.test", "TXT", value)
        assert (await town.about("acme.test")).code == "good"


async def test_all_that_sends_for_this_machine_stands_in_spf() -> None:
    many = replace(MACHINE, sources=("5.9.1.7",), relay="out.isp.test")
    records = domain_records("acme.test", "reply.acme.test", [PAIR], many, MONDAY)
    by_purpose = {record.purpose.value: record for record in records}
    value = "v=spf1 a:mail.acme.test ip4:5.9.1.7 a:out.isp.test ~all"
    assert by_purpose["return-path"].value == by_purpose["spf"].value == value
    assert "Ask whoever runs out.isp.test" in by_purpose["return-path"].why
    town = Town()
    town.put("out.isp.test", "A", "7.7.7.7")
    found = await check_domain_records(
        records, town, domain="acme.test", reply="reply.acme.test", machine=many
    )
    spf = next(f for f in found if f.record.purpose == "spf")
    assert "does not let this machine send (5.9.1.7)" in spf.problem
    assert spf.value == "v=spf1 a:mail.acme.test ip4:5.9.1.7 a:out.isp.test ~all"
    town.put("7.1.9.5.in-addr.arpa", "PTR", "mail.acme.test")
    found = await check_machine(many, town)
    assert [f.code for f in found if f.state is not State.GOOD] == ["wrong_reverse"]


async def test_spf_over_ten_lookups_is_counted_and_mended_without_more() -> None:
    town = Town()
    for number in range(4):
        town.put(f"s{number}.test", "TXT", "v=spf1 a:x.test a:y.test -all")
    includes = " ".join(f"include:s{number}.test" for number in range(4))
    town.put("x.test", "A", "7.7.7.7")
    town.put("y.test", "A", "7.7.7.8")
    town.put("acme.test", "TXT", f"v=spf1 {includes} -all")
    finding = await town.about("acme.test")
    assert finding.code == "too_many_lookups"
    assert "needs 12 look-ups" in finding.problem
    assert "include:s0.test (3)" in finding.remedy
    assert finding.value == f"v=spf1 {includes} ip4:5.9.1.1 ip6:2a01:4f8::25 -all"


async def test_a_circle_of_includes_and_a_bomb_end() -> None:
    town = Town()
    town.put("a.test", "TXT", "v=spf1 include:b.test -all")
    town.put("b.test", "TXT", "v=spf1 include:a.test -all")
    town.put("acme.test", "TXT", "v=spf1 include:a.test -all")
    finding = await town.about("acme.test")
    assert "in a circle" in finding.problem
    fan = " ".join(f"include:f{n}.test" for n in range(50))
    for number in range(50):
        town.put(f"f{number}.test", "TXT", f"v=spf1 {fan} -all")
    town.put("acme.test", "TXT", f"v=spf1 {fan} -all")
    assert (await town.about("acme.test")).code == "too_many_lookups"


async def test_spf_that_dns_does_not_tell_about_is_unsure() -> None:
    town = Town()
    town.put("acme.test", "TXT", SPF)
    town.fail("_spf.host.test", "TXT")
    finding = await town.about("acme.test")
    assert (finding.state, finding.code) == (State.UNSURE, "no_answer")
    assert "_spf.host.test" in finding.problem


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("v=DMARC1; p=reject; rua=mailto:a@acme.test", "good"),
        ("v=DMARC1; p=none", "no_reports"),
        ("v=DMARC1; rua=mailto:a@acme.test", "bad_policy"),
        ("v=DMARC1; p=block; rua=mailto:a@acme.test", "bad_policy"),
        ("v=DMARC1; p=none; rua=a@acme.test", "bad_report_address"),
        ("v=DMARC1; p=none; rua=mailto:a@reports.test!10m", "reports_refused"),
        ("v=DMARC1; p=none; aspf=s; rua=mailto:a@acme.test", "strict_spf"),
        ("v=DMARC1; p=none; adkim=s; rua=mailto:a@acme.test", "strict_dkim"),
        ('"v=DMARC1; p=none"', "extra_quotes"),
        ("v=spf1 -all", "bad_version"),
        ("unrelated", "missing"),
    ],
)
async def test_dmarc(text: str, code: str) -> None:
    town = Town()
    town.put("_dmarc.acme.test", "TXT", text)
    assert (await town.about("_dmarc.acme.test")).code == code


async def test_dmarc_elsewhere() -> None:
    town = Town()
    del town.zone["_dmarc.acme.test", "TXT"]
    town.put("_dmarc.acme.test.acme.test", "TXT", "v=DMARC1; p=none")
    assert (await town.about("_dmarc.acme.test")).code == "doubled_name"
    town.put("acme.test", "TXT", "v=DMARC1; p=none")
    assert (await town.about("_dmarc.acme.test")).code == "wrong_name"
    good = "v=DMARC1; p=none; rua=mailto:a@acme.test"
    town.put("_dmarc.acme.test", "TXT", good, good + ";")
    assert (await town.about("_dmarc.acme.test")).code == "several_records"
    town.put("_dmarc.acme.test", "TXT", good.replace("a@acme", "a@reports"))
    town.put("acme.test._report._dmarc.reports.test", "TXT", "v=DMARC1")
    assert (await town.about("_dmarc.acme.test")).code == "good"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (["10 mx.google.test"], "mx_elsewhere"),
        (["10 mail.acme.test", "20 mx.google.test"], "mixed_mx"),
        (["10 mail.acme.test.reply.acme.test"], "doubled_name"),
        (["10 alias.acme.test"], "mx_to_cname"),
        (["0 ."], "null_mx"),
        ([], "missing"),
    ],
)
async def test_mx(values: list[str], code: str) -> None:
    town = Town()
    town.alias("alias.acme.test", "mail.acme.test")
    town.put("reply.acme.test", "MX", *values)
    finding = await town.about("reply.acme.test", "mx")
    assert finding.code == code
    assert finding.value == "10 mail.acme.test"


async def test_the_machine_itself() -> None:
    town = Town()
    town.put("mail.acme.test", "A", "10.0.0.5")
    assert (await town.about("mail.acme.test")).code == "private_address"
    town.alias("mail.acme.test", "vm7.cloud.test")
    assert (await town.about("mail.acme.test")).code == "host_is_cname"
    assert (await town.about("reply.acme.test", "mx")).code == "mx_is_cname"
    town.zone["mail.acme.test", "A"] = town.zone["mail.acme.test", "AAAA"] = Look()
    assert (await town.about("mail.acme.test")).code == "missing"
    assert (await town.about("reply.acme.test", "mx")).code == "mx_without_address"
    nowhere = await check_machine(Machine("mail.acme.test"), town)
    assert [f.code for f in nowhere] == ["missing"]


async def test_the_way_back_from_the_address() -> None:
    town, pointer = Town(), "1.1.9.5.in-addr.arpa"
    town.put(pointer, "PTR", "static-5-9-1-1.isp.test")
    assert (await town.about(pointer)).code == "wrong_reverse"
    town.put("static-5-9-1-1.isp.test", "A", "5.9.1.1")
    assert (await town.about(pointer)).code == "other_name"
    del town.zone[pointer, "PTR"]
    assert "refuse mail" in (await town.about(pointer)).problem


async def test_the_public_host() -> None:
    town = Town()
    town.zone["go.acme.test", "A"] = town.zone["go.acme.test", "AAAA"] = Look(exists=False)
    assert "no link in any mail works" in (await town.about("go.acme.test")).problem
    town.put("go.acme.test", "A", "9.9.9.9")
    finding = await town.about("go.acme.test")
    assert (finding.state, "in front" in finding.note) == (State.GOOD, True)
    town.zone["go.acme.test", "A"] = Look(alias="gone.test")
    assert (await town.about("go.acme.test")).code == "dead_alias"


async def test_transport_policies() -> None:
    town, name = Town(), "_mta-sts.reply.acme.test"
    town.put(name, "TXT", "v=STSv1; id=old1")
    assert (await town.about(name)).code == "old_id"
    town.put(name, "TXT", "v=STSv1; id=")
    assert (await town.about(name)).code == "bad_id"
    town.put(name, "TXT", "v=STSv1; id=1", "v=STSv1; id=2")
    assert (await town.about(name)).code == "several_records"
    town.put(name, "TXT", '"v=STSv1; id=1"')
    assert (await town.about(name)).code == "extra_quotes"
    town.put("_smtp._tls.reply.acme.test", "TXT", "v=TLSRPTv1; rua=tls@acme.test")
    assert (await town.about("_smtp._tls.reply.acme.test")).code == "bad_report_address"


async def test_no_answer_is_a_finding_of_its_own_everywhere() -> None:
    town = Town()
    for name, kind in list(town.zone):
        town.fail(name, kind)
    found = [*await town.findings(), *await check_machine(MACHINE, town)]
    assert {f.state for f in found} == {State.UNSURE}
    assert not is_ready(found)
    assert not is_published(found, PAIR)
    assert all("did not tell" in f.problem and f.remedy for f in found)


async def test_name_servers_that_never_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Town):
        async def look(self, name: str, kind: str) -> Look:
            if name.startswith("_dmarc"):
                await asyncio.sleep(30)
            return await super().look(name, kind)

    monkeypatch.setattr(check, "SECONDS", 0.05)
    found = await Slow().findings()
    unsure = [f.record.name for f in found if f.state is State.UNSURE]
    assert unsure == ["_dmarc.acme.test"]

    class Endless(Answers):
        def look(self, name: str, kind: str) -> Look:
            raise UnaskedError(name, kind)

    assert await settle(lambda a: a.look("x.test", "TXT"), Endless(), Town()) is None


async def test_a_change_made_lately_may_not_be_seen_yet() -> None:
    town = Town()
    town.put("_dmarc.acme.test", "TXT", "v=DMARC1; p=no", ttl=3541)
    note = (await town.about("_dmarc.acme.test")).note
    assert note.startswith("If you changed it lately")
    assert "60 minutes more" in note
    town.put("_dmarc.acme.test", "TXT", ttl=900)
    assert "added it lately" in (await town.about("_dmarc.acme.test")).note


async def test_a_cname_in_the_way_is_named() -> None:
    town = Town()
    town.zone["_dmarc.acme.test", "TXT"] = Look(alias="parking.test")
    finding = await town.about("_dmarc.acme.test")
    assert "is a CNAME to parking.test" in finding.problem
    assert "Remove the CNAME" in finding.remedy


async def test_findings_survive_being_stored() -> None:
    town = Town()
    town.zone.clear()
    for finding in await town.findings():
        assert Finding.from_json(finding.as_json()) == finding


def test_a_zone_file_is_read_back_as_it_was_meant() -> None:
    records = Town().records
    text = zone_file("acme\n.test", records)
    zone = dns.zone.from_text(text, origin="acme.test.", relativize=False, check_origin=False)
    for record in records:
        (found,) = list(zone.find_rdataset(f"{record.name}.", record.type))
        if record.type == "TXT":
            assert b"".join(found.strings).decode() == record.value
        else:
            assert found.to_text().rstrip(".") == record.value
    assert max(map(len, text.splitlines())) < 300


@given(st.text(max_size=600))
def test_text_strings_keep_every_byte(text: str) -> None:
    read: Any = dns.rdata.from_text("IN", "TXT", " ".join(text_strings(text)))
    assert b"".join(read.strings) == text.encode()


sign = st.sampled_from(["", "+", "-", "~", "?"])
mechanism = st.sampled_from(
    ["a", "mx", "a:x.test", "mx:y.test/24", "ip4:9.9.9.9", "ip6:2a01::/32", "include:z.test",
     "ptr", "exists:%{i}.x.test", "all", "foo:bar", "ip4:nonsense", "include:"]
)  # fmt: skip
modifier = st.sampled_from(["redirect=r.test", "exp=e.test", "unknown=1"])
terms = st.lists(st.tuples(sign, mechanism).map("".join) | modifier, max_size=8)
spf_records = st.lists(
    terms.map(lambda words: " ".join(["v=spf1", *words])), min_size=1, max_size=3
)


@given(spf_records, st.lists(st.sampled_from(["a:mail.acme.test", "ip4:5.9.1.1"]), unique=True))
def test_what_is_mended_is_one_record_that_can_be_read(texts: list[str], ours: list[str]) -> None:
    value = mend(texts, ours)
    spf = parse_spf(value)
    assert is_spf(value)
    assert spf.problems == ()
    words = value.split()
    assert set(ours) <= set(words)
    assert words.count("+all") == 0
    redirects = [term for term in spf.terms if term.name == "redirect"]
    assert bool(spf.all_sign) != bool(redirects)
    assert mend([value], ours) == value
    kept = {term.text for text in texts for term in parse_spf(text).terms if ":" in term.text}
    readable = {word for word in kept if not parse_spf(f"v=spf1 {word}").problems}
    assert {word.lower() for word in readable} <= {word.lower() for word in words}


WORDS = [
    "v=spf1", "v=DMARC1", "v=DKIM1", ";", " ", "p=", "p=none", "a:", "include:x.test", "mx/99",
    "ip4:1.2.3.4/99", "a//999", "redirect=acme.test", "%{i}", "=", '"', "\\", "rua=mailto:@",
    "exists:%{i}.x", "-all", "id=1", "v=STSv1", "\x00", "\ud800",
]  # fmt: skip
hostile = st.text(max_size=300) | st.lists(st.sampled_from(WORDS), max_size=12).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(hostile, max_size=3))
def test_nothing_that_stands_in_dns_breaks_a_check(texts: list[str]) -> None:
    town = Town()
    for name, kind in list(town.zone):
        if kind == "TXT":
            town.put(name, kind, *texts)
    found = asyncio.run(town.findings())
    assert len(found) == len(town.records)
    assert all((f.problem == "") == (f.state is State.GOOD) for f in found)

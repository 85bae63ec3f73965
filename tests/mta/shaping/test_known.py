"""The memory of which site a domain belongs to."""

from __future__ import annotations

from mta.shaping.files import shipped
from mta.shaping.known import KnownSites
from mta.shaping.shaper import Shaper


def test_a_domain_is_its_own_site_until_its_mail_servers_are_known() -> None:
    known = KnownSites(Shaper(shipped()).site_of)
    assert (known.site("firm.example"), known.knows("firm.example")) == ("firm.example", False)
    assert known.learn("firm.example", ["firm-example.mail.protection.outlook.com"]) == (
        "microsoft-business"
    )
    assert (known.site("firm.example"), known.knows("firm.example")) == ("microsoft-business", True)
    known.learn("firm.example", ["mx.firm.example"])
    assert known.site("firm.example") == "mx.firm.example", "it moved"


def test_the_domains_longest_not_asked_for_are_forgotten() -> None:
    known = KnownSites(Shaper(shipped()).site_of, most=3)
    for name in ("a.example", "b.example", "c.example"):
        known.learn(name, ["mx.host.example"])
    assert known.site("a.example") == "mx.host.example"
    known.learn("d.example", ["mx.host.example"])
    assert [known.knows(f"{name}.example") for name in "abcd"] == [True, False, True, True]

"""`waypost parse` answers each path with one line, whatever the file is."""

from __future__ import annotations

import io
import json
from pathlib import Path

from inbound.analysis import analyse
from inbound.contact_card import read_contact
from inbound.headers import Mailbox
from inbound.stream import explain, run
from tests.inbound.letters import letter, report


def test_each_path_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(letter("Fine.\n\n-- \nAnn Example\nSales Manager\n"))
    (tmp_path / "b.eml").write_bytes(b"\xff\x00" * 500)
    status = "Final-Recipient: rfc822; carl@there.test\nAction: failed\nStatus: 5.1.1\n"
    (tmp_path / "c.eml").write_bytes(report("Reporting-MTA: dns; x\n\n" + status))
    names = ["a.eml", "missing.eml", "b.eml", "c.eml"]
    out = io.StringIO()
    run([f"{tmp_path / name}\n" for name in names] + ["\n"], out)
    first, missing, odd, bounced = [json.loads(line) for line in out.getvalue().splitlines()]
    assert list(first) == [
        "kind", "reply_text", "signature", "forward", "bounces", "complaint", "auto_reply",
        "unsubscribe", "contact",
    ]  # fmt: skip
    assert (first["kind"], first["reply_text"]) == ("reply", "Fine.")
    assert first["contact"]["title"] == "Sales Manager"
    assert "missing.eml" in missing["error"]
    assert odd["kind"] == "other"
    assert bounced["bounces"] == [
        {"recipient": "carl@there.test", "status": "5.1.1", "code": None,
         "class": "bad_mailbox", "hard": True}
    ]  # fmt: skip


def test_a_person_can_read_why() -> None:
    text = explain(analyse(letter("Fine.\n\nOn 16 Dec 2024 09:00, Bo wrote:\n> Hi\n")))
    assert "Kind        reply" in text
    assert "attribution above quoted lines" in text
    assert "--- Cut as older text" in text


def test_a_signature_becomes_a_contact() -> None:
    card = read_contact(
        "Best regards\nAnn Example\nHead of Sales\nExample GmbH\nTel.: +49 (0)30 901820\n"
        "ann@example.test | www.example.test",
        Mailbox("Ann Example", "ann@example.test"),
    )
    assert (card.name, card.title, card.company) == ("Ann Example", "Head of Sales", "Example GmbH")
    assert card.phones == ("+4930901820",)
    assert card.emails == ("ann@example.test",)
    assert card.urls == ("www.example.test",)


def test_position_and_firm_may_share_a_line() -> None:
    card = read_contact(
        "Thanks,\nAnn Example | Engineer | Example Ltd\n+44 20 7946 0018",
        Mailbox("", "ann@example.test"),
    )
    assert (card.name, card.title, card.company) == ("Ann Example", "Engineer", "Example Ltd")
    assert card.phones == ("+442079460018",)

"""A message passed on is recognised with everything it carries; an answer is not."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage

import pytest

from inbound.analysis import analyse
from tests.inbound.letters import letter
from tests.inbound.test_quoting import HEADERS

SEPARATORS = [
    "---------- Forwarded message ---------",
    "-------- Weitergeleitete Nachricht --------",
    "-------- Message transféré --------",
    "---------- Mensaje reenviado ----------",
    "---------- Messaggio inoltrato ----------",
    "-------- Doorgestuurd bericht --------",
    "---------- Mensagem encaminhada ----------",
    "Begin forwarded message:",
    "Anfang der weitergeleiteten Nachricht:",
    "Début du message transféré :",
    "-------- Пересылаемое сообщение --------",
]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("mark", ["", "> "])
def test_an_inline_forward_gives_all_its_fields(separator: str, mark: str) -> None:
    block = [
        "From: Carl Third <carl@there.test>",
        "Date: Mon, 16 Dec 2024 09:00",
        "Subject: Engines",
        "To: Ann <ann@example.test>, dora@there.test",
        "Cc: Emil <emil@there.test>",
        "",
        "Dear Ann,",
        "see our engines.",
    ]
    text = f"Interesting?\n\n{separator}\n" + "\n".join(mark + line for line in block)
    found = analyse(letter(text, subject="Engines"))
    assert found.verdict.kind == "forward"
    passed_on = found.forward
    assert passed_on is not None
    assert passed_on.sender is not None
    assert (passed_on.sender.name, passed_on.sender.address) == ("Carl Third", "carl@there.test")
    assert [box.address for box in passed_on.to] == ["ann@example.test", "dora@there.test"]
    assert [box.address for box in passed_on.cc] == ["emil@there.test"]
    assert (passed_on.subject, passed_on.date) == ("Engines", "Mon, 16 Dec 2024 09:00")
    assert (passed_on.body, passed_on.comment) == ("Dear Ann,\nsee our engines.", "Interesting?")


@pytest.mark.parametrize("labels", HEADERS)
def test_outlook_forwards_are_told_by_the_subject(labels: tuple[str, str, str, str]) -> None:
    sender, date, to, subject = labels
    text = (
        f"For you.\n\n{sender}: Carl <carl@there.test>\n{date}: 16.12.2024 09:00\n"
        f"{to}: Doe, Ann <ann@example.test>; dora@there.test\n{subject}: Engines\n\nNew ones."
    )
    passed_on = analyse(letter(text, subject="FW: Engines")).forward
    assert passed_on is not None
    assert passed_on.sender is not None
    assert passed_on.sender.address == "carl@there.test"
    assert [box.address for box in passed_on.to] == ["ann@example.test", "dora@there.test"]
    assert (passed_on.subject, passed_on.body) == ("Engines", "New ones.")
    assert analyse(letter(text, subject="Re: Engines")).verdict.kind == "reply"


def test_a_forward_as_attachment_is_opened() -> None:
    outer = EmailMessage()
    outer["From"], outer["To"], outer["Subject"] = "ann@example.test", "bo@ours.test", "Look"
    outer.set_content("What do you think?")
    outer.add_attachment(message_from_bytes(letter("Engines!", subject="Engines")))
    found = analyse(outer.as_bytes())
    assert found.verdict.kind == "forward"
    assert found.forward is not None
    assert found.forward.attached
    assert (found.forward.subject, found.forward.body) == ("Engines", "Engines!")
    assert found.forward.comment == "What do you think?"


def test_an_answer_that_quotes_our_mail_is_no_forward() -> None:
    text = (
        "Yes.\n\n-----Original Message-----\nFrom: Bo <bo@ours.test>\n"
        "Sent: Monday\nTo: Ann\nSubject: Offer\n\nHi"
    )
    found = analyse(
        letter(text, subject="Offer"), own_addresses=lambda address: address.endswith("@ours.test")
    )
    assert found.forward is None
    assert found.verdict.kind == "reply"

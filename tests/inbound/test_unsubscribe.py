"""A wish to stop counts in the author's own words, and nothing else does."""

from __future__ import annotations

import pytest

from inbound.analysis import analyse
from inbound.unsubscribe import wants_to_stop
from tests.inbound.letters import letter


@pytest.mark.parametrize(
    "text",
    [
        "Please remove me from your list.", "STOP", "please stop", "Unsubscribe.",
        "Can you take me off your list?", "I do not wish to receive these mails.",
        "Bitte keine weiteren E-Mails mehr.", "Nehmen Sie mich aus dem Verteiler.", "Abmelden",
        "Merci de me désinscrire.", "Ne m'écrivez plus.", "No deseo recibir más correos.",
        "Por favor, quiero darme de baja.", "Non voglio più ricevere le vostre mail.",
        "Schrijf mij uit aub", "Me remova da lista por favor", "Ta bort mig från listan.",
        "Proszę mnie wypisać z listy.", "Отпишите меня от рассылки", "配信停止してください",
        "请退订",
    ],
)  # fmt: skip
def test_who_wants_no_more_mail_is_understood(text: str) -> None:
    assert wants_to_stop(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        "How do I unsubscribe people from my list?", "I don't want to unsubscribe.",
        "Our customers want to unsubscribe easily.", "Does your tool handle unsubscribes?",
        "Stop by our office on Monday.", "Please remove the attachment next time.",
        "Wie kann ich mich abmelden?", "Ich möchte mich nicht abmelden.",
        "Comment se désinscrire ?", "¿Cómo puedo darme de baja?", "Sounds great, send the offer.",
        "Why was I removed from your list?", "Non voglio cancellarmi.",
    ],
)  # fmt: skip
def test_questions_negations_and_other_peoples_wishes_are_none(text: str) -> None:
    assert not wants_to_stop(text)[0]


def test_our_own_footer_in_the_quotation_is_no_wish() -> None:
    text = (
        "Tell me more.\n\nOn 16 Dec 2024 09:00, Bo wrote:\n> Offer\n> Unsubscribe me: remove me\n"
    )
    found = analyse(letter(text))
    assert (found.unsubscribe, found.verdict.kind) == (False, "reply")


def test_a_wish_is_the_kind_of_the_mail() -> None:
    found = analyse(letter("Please take me off your list.\n\nOn 16 Dec 2024, Bo wrote:\n> Hi\n"))
    assert (found.unsubscribe, found.verdict.kind) == (True, "unsubscribe")

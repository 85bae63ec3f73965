"""Absence notes give the day of return; a person is never taken for a machine."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from inbound.analysis import analyse
from inbound.auto_reply import return_date
from tests.inbound.letters import letter

WRITTEN = datetime(2024, 12, 16, 9, tzinfo=UTC)  # A Monday.


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("I am out of the office until January 3rd with limited access.", (2025, 1, 3)),
        ("I will be back on Monday, 6 January 2025.", (2025, 1, 6)),
        ("I am away and back on 27 December 2024.", (2024, 12, 27)),
        ("I'm away from 12/20/2024 through 1/2/2025.", (2025, 1, 3)),
        ("I am on leave from 20 to 30 December and return on 2 January.", (2025, 1, 2)),
        ("Out of office, back on Thursday.", (2024, 12, 19)),
        ("Ich bin vom 20.12.2024 bis einschließlich 06.01.2025 nicht im Büro.", (2025, 1, 7)),
        ("Ich bin ab dem 7. Januar wieder erreichbar.", (2025, 1, 7)),
        ("Ich bin im Urlaub und am 02.01. wieder da.", (2025, 1, 2)),
        ("Je suis absent du 20 décembre au 3 janvier inclus.", (2025, 1, 4)),
        ("Je suis en congé et serai de retour le 6 janvier.", (2025, 1, 6)),
        ("Estaré fuera de la oficina hasta el 7 de enero. Vuelvo el 8 de enero.", (2025, 1, 8)),
        ("Sono in ferie fino al 6 gennaio compreso.", (2025, 1, 7)),
        ("Ik ben afwezig van 20 december t/m 3 januari.", (2025, 1, 4)),
        ("Estou de férias de 20/12 a 05/01/2025. Retorno dia 06/01/2025.", (2025, 1, 6)),
        ("Jestem na urlopie do 3 stycznia.", (2025, 1, 3)),
        ("Olen lomalla 3.1.2025 asti.", (2025, 1, 3)),
        ("I am on holiday until 2025-01-08.", (2025, 1, 8)),
    ],
)
def test_the_day_of_return(text: str, day: tuple[int, int, int]) -> None:
    assert return_date(text, WRITTEN)[0] == date(*day)


def test_no_day_no_date() -> None:
    assert return_date("I am away. In urgent cases call +49 30 123456.", WRITTEN)[0] is None
    assert return_date("Back on 6 January.", None)[0] is None


@pytest.mark.parametrize(
    ("subject", "headers"),
    [
        ("Automatic reply: Your offer", {}),
        ("Automatische Antwort: Ihr Angebot", {}),
        ("Réponse automatique : Offre", {}),
        ("Out of Office: Your offer", {}),
        ("Abwesenheitsnotiz", {}),
        ("Fuera de la oficina", {}),
        ("Re: Your offer", {"Auto_Submitted": "auto-replied"}),
        ("Re: Your offer", {"X_Autoreply": "yes"}),
        ("Re: Your offer", {"Precedence": "auto_reply"}),
    ],
)
def test_an_absence_note_is_known(subject: str, headers: dict[str, str]) -> None:
    text = "I am out of the office and will be back on 6 January."
    found = analyse(letter(text, subject=subject, **headers))
    assert found.verdict.kind == "auto_reply"
    assert found.auto_reply is not None
    assert found.auto_reply.return_date == date(2025, 1, 6)


@pytest.mark.parametrize(
    ("text", "subject", "headers"),
    [
        ("I'm on vacation until Monday, let us talk then.", "Re: Your offer", {}),
        ("Sounds good.", "Re: Out of office hours support", {}),
        ("Sounds good.", "Re: Offer", {"X_Auto_Response_Suppress": "All"}),
        ("Who gets the automatic reply?", "Re: Offer", {"Auto_Submitted": "no"}),
    ],
)
def test_a_person_is_a_person(text: str, subject: str, headers: dict[str, str]) -> None:
    assert analyse(letter(text, subject=subject, **headers)).verdict.kind == "reply"

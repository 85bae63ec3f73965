"""The author's words are kept, what the mail program copied is not."""

from __future__ import annotations

import pytest

from inbound.analysis import analyse
from inbound.quoting import split_message
from tests.inbound.letters import letter

ATTRIBUTIONS = [
    "On Mon, Dec 16, 2024 at 9:00 AM Bo Ours <bo@ours.test> wrote:",
    "On 16/12/2024 09:00, Bo Ours wrote:",
    "Am 16.12.2024 um 09:00 schrieb Bo Ours:",
    "Am Mo., 16. Dez. 2024 um 09:00 Uhr schrieb Bo <bo@ours.test>:",
    "Le lun. 16 déc. 2024 à 09:00, Bo Ours <bo@ours.test> a écrit :",
    "El lun, 16 dic 2024 a las 9:00, Bo (<bo@ours.test>) escribió:",
    "Il giorno lun 16 dic 2024 alle ore 09:00 Bo <bo@ours.test> ha scritto:",
    "Op ma 16 dec 2024 om 09:00 schreef Bo <bo@ours.test>:",
    "Em seg., 16 de dez. de 2024 às 09:00, Bo <bo@ours.test> escreveu:",
    "Den mån 16 dec. 2024 kl 09:00 skrev Bo <bo@ours.test>:",
    "W dniu 16.12.2024 o 09:00, Bo Ours pisze:",
    "pon., 16 gru 2024 o 09:00 Bo <bo@ours.test> napisał(a):",
    "Dne 16.12.2024 v 9:00 Bo Ours napsal(a):",
    "16 дек. 2024 г., в 09:00, Bo <bo@ours.test> написал(а):",
    "16 Ara 2024 Pzt 09:00 tarihinde Bo <bo@ours.test> şunu yazdı:",
    "ma 16. jouluk. 2024 klo 9.00 Bo (bo@ours.test) kirjoitti:",
    "Bo <bo@ours.test> ezt írta (időpont: 2024. dec. 16., H, 9:00):",
    "2024年12月16日(月) 9:00 Bo <bo@ours.test>:",
    "在 2024年12月16日 09:00，Bo <bo@ours.test> 写道：",
    "2024년 12월 16일 (월) 오전 9:00, Bo <bo@ours.test>님이 작성:",
    "Στις Δευ 16 Δεκ 2024 στις 9:00 π.μ., ο χρήστης Bo <bo@ours.test> έγραψε:",
    "În lun., 16 dec. 2024 la 09:00, Bo <bo@ours.test> a scris:",
]


@pytest.mark.parametrize("line", ATTRIBUTIONS)
@pytest.mark.parametrize("mark", ["> ", ""])
def test_an_attribution_in_any_language_ends_the_reply(line: str, mark: str) -> None:
    text = f"Sounds good.\n\nTell me more.\n\n{line}\n\n{mark}Our engine is new.\n{mark}Shall we?\n"
    assert split_message(text, "").reply == "Sounds good.\n\nTell me more."


HEADERS = [
    ("From", "Sent", "To", "Subject"),
    ("Von", "Gesendet", "An", "Betreff"),
    ("De", "Envoyé", "À", "Objet"),
    ("De", "Enviado el", "Para", "Asunto"),
    ("Da", "Inviato", "A", "Oggetto"),
    ("Van", "Verzonden", "Aan", "Onderwerp"),
    ("De", "Enviada em", "Para", "Assunto"),
    ("Od", "Wysłano", "Do", "Temat"),
    ("Från", "Skickat", "Till", "Ämne"),
    ("Fra", "Sendt", "Til", "Emne"),
    ("Lähettäjä", "Lähetetty", "Vastaanottaja", "Aihe"),
    ("Od", "Odesláno", "Komu", "Předmět"),
    ("От", "Отправлено", "Кому", "Тема"),
    ("Kimden", "Gönderildi", "Kime", "Konu"),
    ("发件人", "发送时间", "收件人", "主题"),
    ("差出人", "送信日時", "宛先", "件名"),
    ("Feladó", "Küldve", "Címzett", "Tárgy"),
]


@pytest.mark.parametrize("labels", HEADERS)
def test_copied_headers_end_the_reply(labels: tuple[str, str, str, str]) -> None:
    sender, date, to, subject = labels
    text = (
        f"Fine by me.\n\n{sender}: Bo <bo@ours.test>\n{date}: 16.12.2024 09:00\n"
        f"{to}: ann@example.test\n{subject}: Offer\n\nOur engine is new."
    )
    split = split_message(text, "")
    assert split.reply == "Fine by me."
    assert "Our engine" in split.removed
    assert split.certainty > 0.9


HTML = [
    '<div>Yes!</div><div class="gmail_quote"><div class="gmail_attr">zz<br></div>'
    '<blockquote class="gmail_quote">Old</blockquote></div>',
    '<p>Yes!</p><div style="border:none;border-top:solid #E1E1E1 1.0pt">'
    "<p><b>From:</b> Bo<br>"
    "<b>Sent:</b> Monday<br><b>To:</b> Ann<br><b>Subject:</b> Offer</p></div><p>Old</p>",
    '<div>Yes!</div><div id="appendonsend"></div><hr>'
    '<div id="divRplyFwdMsg"><b>Qq:</b> Bo</div>Old',
    '<p>Yes!</p><div class="moz-cite-prefix">Zz Bo:</div><blockquote type="cite">Old</blockquote>',
    '<div>Yes!</div><div class="yahoo_quoted" id="yahoo_quoted_1">Zz Bo<br>Old</div>',
    "<div>Yes!</div><div class='protonmail_quote'>Zz<blockquote>Old</blockquote></div>",
]


@pytest.mark.parametrize("html", HTML)
def test_html_shows_the_quotation_by_its_structure(html: str) -> None:
    assert split_message("", f"<html><body>{html}</body></html>").reply == "Yes!"


def test_answers_between_quoted_lines_stay_with_what_they_answer() -> None:
    text = (
        "On 16 Dec 2024 09:00, Bo wrote:\n> What is the price?\n500 euros.\n"
        "> When?\nOn Monday.\n> Regards, Bo\n"
    )
    split = split_message(text, "")
    assert split.reply == "> What is the price?\n500 euros.\n> When?\nOn Monday."
    assert split.own_words == "500 euros.\nOn Monday."


def test_an_answer_below_the_quotation_is_kept() -> None:
    text = "On 16 Dec 2024 09:00, Bo wrote:\n> What is the price?\n> Tell me.\n\n500 euros."
    assert split_message(text, "").reply == "500 euros."


def test_our_own_words_are_found_without_any_marks() -> None:
    sent = "Dear Ann,\nour new engine needs half the fuel of the old one.\nRegards\nBo"
    text = f"Tell me the price\n\nXyzzy Bo 16/12/2024:\n{sent}"
    assert split_message(text, "", sent_text=sent).reply == "Tell me the price"


def test_an_attribution_alone_at_the_top_keeps_the_text_and_says_it_is_unsure() -> None:
    split = split_message("On 16 Dec 2024 09:00, Bo <bo@ours.test> wrote:\n\nWhich is which?", "")
    assert split.reply == "Which is which?"
    assert split.certainty < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "I wrote to Bo on Monday.\nHe said: no.\nShall I go on?",
        "Options:\n\n1. red\n2. blue\n\n_____________\n\nThe second, please.",
        "From: here to there is far.\nWe walk.",
        "To: do\nSubject: to change",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert split_message(text, "").reply == text


def test_a_signature_is_split_and_a_closing_stays() -> None:
    found = analyse(letter("See you Monday.\n\n-- \nAnn Example\nSales\n+49 30 1234567\n"))
    assert found.reply_text == "See you Monday."
    assert "Ann Example" in found.signature
    found = analyse(letter("See you Monday.\n\nBest regards,\nAnn\n"))
    assert found.reply_text == "See you Monday.\n\nBest regards,\nAnn"
    assert found.signature == "Best regards,\nAnn"


@pytest.mark.parametrize(
    "footer",
    [
        "Sent from my iPhone",
        "Von meinem iPhone gesendet",
        "Envoyé de mon iPhone",
        "Enviado desde mi X",
    ],
)
def test_a_telephones_footer_is_no_reply(footer: str) -> None:
    assert analyse(letter(f"Fine.\n\n{footer}\n")).reply_text == "Fine."


def test_a_drawn_line_between_paragraphs_cuts_nothing() -> None:
    text = "First, the price.\n\n---\n\nSecond, the date, which matters as much to us."
    assert analyse(letter(text)).reply_text == text


def test_a_name_above_contact_details_begins_the_signature() -> None:
    found = analyse(letter("Works for us.\n\nAnn Example\nCEO, Example Inc\n+1 555-123-4567\n"))
    assert found.reply_text == "Works for us."
    assert found.signature == "Ann Example\nCEO, Example Inc\n+1 555-123-4567"


def test_small_print_is_no_reply() -> None:
    print_ = (
        "This e-mail and any attachments is confidential and intended solely for the addressee."
    )
    found = analyse(letter(f"Fine.\n\n{print_}\n"))
    assert found.reply_text == "Fine."
    assert found.disclaimer == print_

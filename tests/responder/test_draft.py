"""Drafts say only what the library, a template or a typed slot says, and leave gaps in sight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.approval import Wish, read_answer
from responder.draft import Composed, Wanted, compose, reply_subject, sentences_of


@dataclass
class Passage:
    key: str
    text: str
    need: str
    asks: list[str]
    language: str = "en"
    version: int = 1
    title: str = ""

    @property
    def descriptors(self) -> dict[str, Any]:
        return {"need": self.need}


LIBRARY = [
    Passage("price", "It costs 14,900 euros.", "question_pricing", ["How much does it cost?"]),
    Passage("noise", "It makes 38 decibels.", "question_product", ["How loud is it?"]),
    Passage("visit", "A visit takes an hour.", "meeting_request", ["Can we meet?"]),
    Passage("preis", "Es kostet 14.900 Euro.", "question_pricing", ["Was kostet es?"], "de"),
]


def draft(needs: list[str], *questions: str, **more: Any) -> Composed:
    values: dict[str, Any] = {
        "needs": needs,
        "text": " ".join(questions) or "Please send me more.",
        "questions": questions,
        "subject": "Re: AW: Offer",
        "language": "en",
        "first_name": "Pat",
        "rep_name": "Ann",
        "company_name": "Acme",
    } | more
    return compose(Wanted(**values), LIBRARY)


def test_every_question_is_answered_from_its_passage() -> None:
    made = draft(["question_pricing", "question_product"], "How much is it?", "How loud is it?")
    assert made.gaps == []
    assert made.text.index("14,900") < made.text.index("38 decibels")
    by_source = {sentence.source: sentence.text for sentence in made.sentences}
    assert by_source["content:price@1"] == "It costs 14,900 euros."
    assert all(sentence.source for sentence in made.sentences)


def test_a_wish_without_a_question_mark_is_answered_too() -> None:
    made = draft(["question_pricing"], text="Please send me your price list.")
    assert "14,900" in made.text
    assert made.gaps == []


def test_a_question_about_something_else_is_a_gap_and_not_a_guess() -> None:
    made = draft(["question_product"], "Which colours does it come in?")
    assert made.gaps == ["Which colours does it come in?"]
    assert "decibels" not in made.text
    assert "[not in the library: Which colours does it come in?]" in made.text


def test_a_meeting_is_answered_although_it_names_a_time() -> None:
    made = draft(["meeting_request"], "Does next Tuesday at 10 suit you?")
    assert made.gaps == []
    assert "A visit takes an hour." in made.text
    assert "Which times suit you best?" in made.text


def test_the_language_is_that_of_the_reply_if_the_library_has_it() -> None:
    german = draft(["question_pricing"], "Was kostet das?", language="de")
    assert german.text.startswith("Guten Tag Pat,\n\nVielen Dank")
    assert "Es kostet 14.900 Euro." in german.text
    assert draft(["question_pricing"], "Combien?", language="fr").language == "en"


def test_nothing_sent_before_is_repeated() -> None:
    first = draft(["question_pricing"], "How much is it?")
    second = draft(["question_pricing"], "How much is it?", sent_before=[first.text])
    assert not set(sentences_of(first.text)[1:4]) & set(sentences_of(second.text))
    assert second.gaps


@given(st.text(max_size=80), st.lists(st.text(max_size=60), max_size=4))
def test_whatever_is_asked_no_number_appears_that_the_library_does_not_have(
    name: str, questions: list[str]
) -> None:
    made = draft(["question_pricing"], *questions, first_name="", subject=name)
    known = {"14,900", "10"}
    said = [s.text for s in made.sentences if s.source.startswith(("content:", "template:"))]
    numbers = {word.strip(".") for text in said for word in text.split() if word[0].isdigit()}
    assert numbers <= known
    assert made.text.count("It costs 14,900 euros.") <= 1


@pytest.mark.parametrize(
    ("subject", "answered"),
    [
        ("Hello", "Re: Hello"),
        ("RE: AW: Fwd: Hello", "Re: Hello"),
        ("Re[2]: Re: price\r\nBcc: x", "Re: price Bcc: x"),
        ("", "Re:"),
        ("Regarding it", "Re: Regarding it"),
    ],
)
def test_the_subject_has_one_re(subject: str, answered: str) -> None:
    assert reply_subject(subject) == answered


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ("ok", Wish.APPROVE),
        ("Yes, please send it.\n\nAnn", Wish.APPROVE),
        (" *OK* thanks", Wish.APPROVE),
        ("ok, but change the price", Wish.UNCLEAR),
        ("Yes " + "word " * 30, Wish.UNCLEAR),
        ("", Wish.UNCLEAR),
        ("...", Wish.UNCLEAR),
        ("no", Wish.REJECT),
        ("Reject: wrong tone", Wish.REJECT),
        ("Dear Pat, it is ok.", Wish.EDIT),
        ("Okonomiyaki is fine.", Wish.EDIT),
        ("Nothing to add.", Wish.EDIT),
    ],
)
def test_what_a_rep_wants(words: str, wish: Wish) -> None:
    assert read_answer(words).wish is wish


@given(st.text(max_size=400))
def test_any_answer_of_a_rep_has_a_meaning(words: str) -> None:
    answer = read_answer(words)
    assert (answer.wish is Wish.EDIT) <= bool(answer.text.strip())

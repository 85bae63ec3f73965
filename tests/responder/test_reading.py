"""Readings: the shipped model with its lexicon, on replies it was not trained on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.errors import ConfigError
from responder.entities import find_entities
from responder.reading import corpus, encoder, lexicon
from responder.reading.head import Head
from responder.reading.labels import LABELS
from responder.reading.reader import Reader

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def reader() -> Reader:
    """The shipped reader."""
    return Reader.load()


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("We would be delighted to hear more about what you do.", "interested"),
        ("Can you ring me on Friday at 11?", "meeting_request"),
        ("And how much is that per year for eight people?", "question_pricing"),
        ("Is there a loud noise when it runs at night? How loud is it?", "question_product"),
        ("Do you have a GDPR data processing agreement?", "question_legal"),
        ("This is far too expensive for a school.", "objection_price"),
        ("Not now, ask me again in spring.", "objection_timing"),
        ("We already work with another supplier and are happy.", "objection_competitor"),
        ("We are not interested, thank you.", "not_interested"),
        ("Take me off your list", "unsubscribe"),
        ("Kindly stop sending me these letters", "unsubscribe"),
        ("This is spam, my lawyer will be in touch.", "complaint"),
        ("I am on annual leave until 4 January and will answer then.", "out_of_office"),
        ("Mr Baker has left the company.", "left_company"),
        ("You have the wrong person, I do not deal with this.", "wrong_person"),
        ("Thanks a lot!", "acknowledgement"),
        ("Bitte nehmen Sie mich aus dem Verteiler.", "unsubscribe"),
        ("Wir haben leider kein Interesse.", "not_interested"),
        ("C'est trop cher pour nous.", "objection_price"),
        ("No estamos interesados, gracias.", "not_interested"),
    ],
)
def test_a_reply_is_understood(reader: Reader, text: str, intent: str) -> None:
    reading = reader.read(text, now=NOW)
    assert reading.top == intent
    assert not reading.abstain


def test_several_meanings_are_all_there(reader: Reader) -> None:
    reading = reader.read("Sounds great, tell me more. How much does it cost?", now=NOW)
    assert reading.intents["interested"] > 0.4
    assert reading.intents["question_pricing"] > 0.4


def test_headers_outrank_the_words(reader: Reader) -> None:
    reading = reader.read("Yes, we are interested!", now=NOW, headers_hint="auto_reply")
    assert reading.top == "out_of_office"
    assert reading.evidence[0].source == "header"


def test_what_says_nothing_is_not_guessed(reader: Reader) -> None:
    for text in ("", "   ", "qzx vbn wkjh plmt"):
        reading = reader.read(text, now=NOW)
        assert reading.abstain
        assert reading.why_abstain


def test_many_are_read_as_one_by_one(reader: Reader) -> None:
    texts = ["How much is it?", "No thanks.", "Call me tomorrow."]
    together = reader.read_many(texts, now=NOW)
    assert [r.top for r in together] == [reader.read(text, now=NOW).top for text in texts]


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300))
def test_no_text_raises_and_certainties_are_certainties(reader: Reader, text: str) -> None:
    reading = reader.read(text, now=NOW)
    assert set(reading.intents) == set(LABELS)
    assert all(0 <= value <= 1 for value in reading.intents.values())
    for one in reading.evidence:
        if one.span is not None:
            assert 0 <= one.span[0] < one.span[1] <= max(len(text), 1)


def test_the_shipped_figures_are_those_of_the_shipped_replies() -> None:
    """The head was made from these replies: training again would give the same version."""
    import hashlib
    import json

    texts = [example.text for example in corpus.shipped()]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    card = json.loads((Path(corpus.__file__).parent / "model" / "card.json").read_text())
    assert card["version"].startswith(f"head-{digest}+")
    assert card["replies"] == len(texts) >= 400
    per_label = dict.fromkeys(LABELS, 0)
    for example in corpus.shipped():
        per_label[example.labels[0]] += 1
    assert min(per_label.values()) >= 15


def test_a_wrong_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"model\.onnx is missing"):
        Reader.load(tmp_path)
    monkeypatch.setitem(encoder.SHA256, "tokenizer.json", "0" * 64)
    with pytest.raises(ConfigError, match="not the language model"):
        encoder.Encoder.load()


def test_a_head_for_other_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    np.savez(path, weights=np.zeros((1, 1)), bias=np.zeros(1), temperature=1.0, labels=["x"])
    with pytest.raises(ValueError, match="other labels"):
        Head.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "I did not unsubscribe, I still want your letters.",
        "How can I unsubscribe people from my own list with your tool?",
        "Please don't remove me from your list!",
        "Does your tool add unsubscribe links?",
    ],
)
def test_talk_about_unsubscribing_is_no_wish_to_stop(text: str) -> None:
    assert not [hit for hit in lexicon.hits(text) if hit.intent == "unsubscribe"]


def test_a_denied_meaning_does_not_count() -> None:
    assert not [
        hit for hit in lexicon.hits("We are not very interested.") if hit.intent == "interested"
    ]
    assert [hit.phrase for hit in lexicon.hits("This is NOT SPAM, sorry")] == []


def test_entities_are_found_with_their_plain_form() -> None:
    text = (
        "Please contact Maria Lopez (maria@cedar.example, +43 1 5850123) about 14,900 euros for "
        "25 users, see https://cedar.example/a?b=1, on Tuesday at 10."
    )
    found = {(entity.kind, entity.value) for entity in find_entities(text, NOW)}
    assert {
        ("person", "Maria Lopez"),
        ("email", "maria@cedar.example"),
        ("phone", "+4315850123"),
        ("amount", "14900 euros"),
        ("seats", "25"),
        ("url", "https://cedar.example/a?b=1"),
        ("time", "2026-11-24T10:00:00+00:00/minute"),
    } <= found
    for entity in find_entities(text, NOW):
        assert text[slice(*entity.span)] == entity.text


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_entities_of_any_text_have_true_places(text: str) -> None:
    for entity in find_entities(text, NOW):
        assert text[slice(*entity.span)] == entity.text


@pytest.mark.parametrize(
    "text",
    [
        "Please don't remove me from the list, I enjoy reading these.",
        "I clicked unsubscribe by accident. Please put me back on.",
        "Does it stop sending when somebody answers?",
        "No need to stop writing, just do it after the summer.",
        "What does it cost to cancel my subscription early?",
        "Can readers unsubscribe from the newsletters we send with your tool?",
    ],
)
def test_who_only_mentions_stopping_is_not_taken_to_ask_for_it(reader: Reader, text: str) -> None:
    """Each of these was once read as a request to stop, and its author suppressed."""
    reading = reader.read(text, now=NOW)
    assert reading.intents["unsubscribe"] < 0.5
    assert not [one for one in reading.evidence if one.intent == "unsubscribe" and one.phrase]


@pytest.mark.parametrize(
    "text",
    [
        "I no longer wish to hear from your firm.",
        "Under article 17 GDPR I ask you to erase my data.",
        "Leave me alone.",
        "Plz unsuscribe",
        "Could you stop with these? Thanks.",
        "How do I unsubscribe?",
        "Streichen Sie mich von der Liste.",
        "Veuillez supprimer mon adresse de vos fichiers.",
        "Quítenme de su lista de correo.",
    ],
)
def test_who_asks_to_stop_is_heard(reader: Reader, text: str) -> None:
    assert reader.read(text, now=NOW).intents["unsubscribe"] >= 0.5


def test_a_star_in_a_phrase_stands_for_a_few_words_and_the_hit_has_its_place() -> None:
    text = "Kindly strike my old address from your records."
    (hit,) = lexicon.hits(text)
    assert (hit.intent, text[slice(*hit.span)]) == (
        "unsubscribe",
        "strike my old address from your",
    )


def test_no_reply_is_in_two_sets_and_a_mistake_in_one_names_its_line() -> None:
    names = ("replies", "tuning", "held_out")
    texts = [example.text for name in names for example in corpus.shipped(name)]
    assert len(texts) == len(set(texts)) >= 1300
    groups = [{example.group for example in corpus.shipped(name)} for name in names]
    assert len(set.union(*groups)) == sum(len(group) for group in groups)
    with pytest.raises(ValueError, match=r"line 2: .*unknown"):
        list(
            corpus.read(
                '{"text": "Hi", "labels": ["other"], "lang": "en", "group": "a"}\n'
                '{"text": "Hi", "labels": ["hello"], "lang": "en", "group": "a"}'
            )
        )
    with pytest.raises(ValueError, match="line 1: expected text"):
        list(corpus.read("Hi"))

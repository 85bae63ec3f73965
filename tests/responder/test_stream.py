"""`waypost read --stream` answers every line and survives all of them."""

from __future__ import annotations

import json
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

from responder import stream
from responder.reading.reader import Reader
from tests.responder.house import OPINIONS, PlayedReader


def answers(lines: str | bytes, reader: Any) -> list[dict[str, Any]]:
    out = StringIO()
    raw = lines if isinstance(lines, bytes) else lines.encode()
    stream.run(TextIOWrapper(BytesIO(raw), encoding="utf-8"), out, reader)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_reply_is_answered_with_all_that_was_found() -> None:
    (answer,) = answers(json.dumps({"text": "How much is it?"}), PlayedReader(OPINIONS))
    assert answer["decision"] == "answer"
    assert answer["intents"] == {"question_pricing": 0.95}
    assert answer["top"] == "question_pricing"
    assert answer["abstain"] is False
    assert [rule["rule"] for rule in answer["rules"]][-1] == "question-answer"
    assert {fact["fact"] for fact in answer["facts"]} == {"setting", "evidence"}


def test_no_line_ends_the_stream_and_each_has_its_answer() -> None:
    class Broken(PlayedReader):
        def read(self, text: str, **more: Any) -> Any:
            if text == "boom":
                raise ValueError("boom")
            return super().read(text, **more)

    lines = [
        b"not json",
        b"[1, 2]",
        b'{"subject": "x"}',
        b'{"text": 7}',
        b'{"text": "\\ud800 sounds good"}',
        b'{"text": "boom"}',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"text": "' + b"x" * (2 << 20) + b'"}',
        b"",
        b'{"text": "sounds good", "subject": null}',
    ]
    found = answers(b"\n".join(lines), Broken(OPINIONS))
    assert len(found) == len(lines)
    assert ["error" in one for one in found] == [True] * 4 + [False] + [True] * 5 + [False]
    assert found[-1]["decision"] == "answer"


def test_with_the_real_model() -> None:
    reader = Reader.load(None)
    texts = {
        "How much does it cost for twenty users?": {"answer"},
        "Please take me off your list and do not write to me again.": {"suppress"},
        "Could we meet next Tuesday at 10 and talk about it?": {"answer"},
        "This is spam. I am reporting you, and my lawyer will be in touch.": {
            "suppress",
            "escalate",
        },
        "I am not the right person. Please talk to Maria Lopez (maria@cedar.example).": {"refer"},
    }
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    found = [answer["decision"] for answer in answers(lines, reader)]
    assert all(one in allowed for one, allowed in zip(found, texts.values(), strict=True)), found
    words = stream.explain("How much does it cost?", reader)
    assert "question_pricing" in words
    assert "So: answer. [question-answer]" in words

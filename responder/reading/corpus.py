"""Reads the labelled replies: one JSON object a line, `{"text", "labels", "lang", "group"}`.

Replies of one `group` share a scene or a way of speaking, so a test never splits a group. Of the
files in `data/`, the head learns from `replies`, phrases and settings were chosen on `tuning`, and
`held_out` is only for judging: whoever tunes on it must write a new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from responder.reading.labels import LABELS


@dataclass(frozen=True, slots=True)
class Example:
    """A reply with its labels, the main one first."""

    text: str
    labels: tuple[str, ...]
    language: str = "en"
    group: str = ""


def read(source: str) -> Iterator[Example]:
    """The examples of a file. Raises `ValueError` with the line number of a mistake."""
    for number, line in enumerate(source.split("\n"), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            text, labels = str(given["text"]), tuple(str(label) for label in given["labels"])
            language, group = str(given["lang"]), str(given["group"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number}: expected text, labels, lang and group as one JSON object ({error})"
            ) from None
        unknown = set(labels) - set(LABELS)
        if unknown or not labels or not text.strip():
            raise ValueError(f"line {number}: no text, no label or unknown labels {unknown or ''}")
        yield Example(text, labels, language, group)


def shipped(name: str = "replies") -> list[Example]:
    """The examples of one of the shipped files."""
    path = resources.files("responder.reading").joinpath("data", f"{name}.jsonl")
    return list(read(path.read_text(encoding="utf-8")))

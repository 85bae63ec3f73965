"""Reads the training replies (`data/replies.txt`)."""

from __future__ import annotations

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


def read(source: str) -> Iterator[Example]:
    """The examples of a file. Raises `ValueError` with the line number of a mistake."""
    label = ""
    for number, line in enumerate(source.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            label = line.strip("[]")
            if label not in LABELS:
                raise ValueError(f"line {number}: {label} is not a label")
            continue
        labels, language, rest = [label], "en", line
        while rest[:1] in "+~" and rest[1:].partition(" ")[0]:
            mark, _, text = rest.partition(" ")
            if mark[0] == "+" and mark[1:] in LABELS:
                labels.append(mark[1:])
            elif mark[0] == "~" and len(mark) == 3:
                language = mark[1:]
            else:
                break
            rest = text
        yield Example(rest, tuple(labels), language)


def shipped() -> list[Example]:
    """All replies that ship with the project."""
    path = resources.files("responder.reading").joinpath("data", "replies.txt")
    return list(read(path.read_text(encoding="utf-8")))

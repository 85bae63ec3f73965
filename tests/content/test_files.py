"""A file of content items is read whole, or refused with item, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.files import read_items
from mail.errors import PermanentError

ITEM = "- key: price\n  kind: passage\n  title: Price\n  text: It costs 5 euros.\n"


def refused(source: str) -> str:
    with pytest.raises(PermanentError) as error:
        read_items(source, "items.yaml")
    return error.value.public


def test_items_are_read() -> None:
    (item,) = read_items(ITEM + "  asks: ['How much?']\n  descriptors: {need: price}\n", "x")
    assert item["asks"] == ["How much?"]
    assert item["descriptors"] == {"need": "price"}


def test_the_demos_items_are_right() -> None:
    path = Path("waypost/demo/data/content.yaml")
    assert len(read_items(path.read_text(encoding="utf-8"), str(path))) >= 8


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("", ["not a list of items"]),
        ("key: price", ["not a list of items"]),
        ("- 5", ["item 1", "not a set of fields"]),
        (ITEM.replace("title", "titel"), ['item 1 ("price")', "titel", '"title"?']),
        (ITEM.replace("  text: It costs 5 euros.\n", ""), ["text is missing"]),
        (ITEM.replace("It costs 5 euros.", "5"), ["text is not text", "quotes"]),
        (ITEM.replace("passage", "song"), ['kind "song"', "mail, passage"]),
        (ITEM + "  asks: How much?\n", ["asks is not a list"]),
        (ITEM + "  descriptors: [1]\n", ["descriptors is not a set"]),
        (ITEM + "  oops: [\n", ["items.yaml:", "is not YAML"]),
        (ITEM + "  zzz: 1\n", ["zzz is not a field", "Known:"]),
        ("- &a {key: b}\n- *a\n", ["aliases"]),
        (ITEM * 5001, ["5000 fit"]),
        ("#" * (5 << 20), ["larger than 4 MiB"]),
        ("- \x00", ["is not YAML"]),
    ],
)
def test_a_mistake_is_named_with_its_place(source: str, parts: list[str]) -> None:
    message = refused(source)
    assert message.startswith("items.yaml")
    for part in parts:
        assert part in message


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(source: str) -> None:
    try:
        read_items(source, "x")
    except PermanentError as error:
        assert error.public.startswith("x")  # noqa: PT017

"""A YAML document whose every value knows its line and column, with bounded size and depth.

Aliases are refused: with them a page of text can stand for gigabytes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 256 << 10
MAX_DEPTH = 20
MAX_VALUES = 20_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a file that can't stay as it is: where, what, and how to mend it."""

    path: str
    line: int
    column: int
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.what}\n  {self.mend}"


@dataclass(frozen=True, slots=True)
class Item:
    """One value and its place: a dict of key items and items, a list, text, number, truth, None."""

    value: Any
    line: int
    column: int

    def entries(self) -> Iterator[tuple[str, Item, Item]]:
        """Key as text, key with its place, value; nothing if this is no mapping."""
        if isinstance(self.value, tuple):
            for key, value in self.value:
                yield str(key.value), key, value


class _Refused(Exception):  # noqa: N818 - carries what is wrong with the document.
    def __init__(self, mark: Any, what: str, mend: str) -> None:
        self.mark, self.what, self.mend = mark, what, mend


class _Loader(yaml.SafeLoader):
    """Composes nodes, within bounds; constructs nothing."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(event.start_mark, "Aliases (*) are not used here.", "Write it out.")
        self._depth += 1
        self._values += 1
        if self._depth > MAX_DEPTH:
            what = f"This is nested more than {MAX_DEPTH} deep."
            raise _Refused(event.start_mark, what, "Make it flatter.")
        if self._values > MAX_VALUES:
            what = f"The document has more than {MAX_VALUES} values."
            raise _Refused(event.start_mark, what, "Split it.")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_document(source: str, path: str) -> Item | Problem:
    """The document as items, or the first thing that makes it none."""
    if len(source) > MAX_BYTES or len(source.encode("utf-8", "replace")) > MAX_BYTES:
        what = f"The document is larger than {MAX_BYTES >> 10} KiB."
        return Problem(path, 1, 1, what, "Split it into several.")
    try:
        loader = _Loader(source)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if node is None:
            return Problem(path, 1, 1, "The document is empty.", 'Begin with "sequence: <name>".')
        return _item(node, loader)
    except _Refused as refused:
        return _at(path, refused.mark, refused.what, refused.mend)
    except yaml.reader.ReaderError as error:
        before = source[: error.position]
        line = before.count("\n") + 1
        column = error.position - (before.rfind("\n") + 1) + 1
        return Problem(path, line, column, "This character can't be in YAML.", "Take it out.")
    except yaml.MarkedYAMLError as error:
        what = f"This is not YAML: {error.problem or error.context or 'unreadable'}."
        mend = "Check indentation, colons, brackets and quotation marks."
        return _at(path, error.problem_mark or error.context_mark, what, mend)
    except (ValueError, yaml.YAMLError) as error:  # Such as a date with a 13th month.
        return Problem(path, 1, 1, f"This is not YAML: {error}.", "Put odd values in quotes.")


def _at(path: str, mark: Any, what: str, mend: str) -> Problem:
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Problem(path, line, column, what, mend)


def _item(node: yaml.Node, loader: _Loader) -> Item:
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    if isinstance(node, yaml.MappingNode):
        pairs: list[tuple[Item, Item]] = []
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(key.start_mark, "A field's name is a word.", "Write it plainly.")
            if key.value in seen:
                what = f'"{key.value}" is here twice.'
                raise _Refused(key.start_mark, what, "Take one of them out.")
            seen.add(key.value)
            # A plain `on` is a truth value in YAML 1.1; as a field's name it is the word.
            name = Item(key.value, key.start_mark.line + 1, key.start_mark.column + 1)
            pairs.append((name, _item(value, loader)))
        return Item(tuple(pairs), line, column)
    if isinstance(node, yaml.SequenceNode):
        return Item([_item(part, loader) for part in node.value], line, column)
    quoted = getattr(node, "style", None) in ("'", '"')
    return Item(_scalar(node), line, column + quoted)


def _scalar(node: yaml.Node) -> Any:
    kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    if kind == "int" and text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    if kind not in ("str", "int", "float", "timestamp"):
        raise _Refused(node.start_mark, f'"{node.tag}" is not used here.', "Write plain text.")
    return text

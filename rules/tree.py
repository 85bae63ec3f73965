"""The parts of a criterion. Frozen, so that one tree serves all threads and can be kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mail.errors import PermanentError


class RuleError(PermanentError):
    """A criterion that can't be read: where (from 1), what is wrong, how to mend it."""

    def __init__(self, line: int, column: int, what: str, mend: str) -> None:
        super().__init__(f"line {line}, column {column}: {what} {mend}".rstrip())
        self.line = line
        self.column = column
        self.what = what
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Node:
    """Any part; `start` and `end` are its place in the source."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, text, true, false or null (None)."""

    value: int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A value of the data, such as `reply.certainty`."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """A list that is written out."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Index(Node):
    """One item of a list or of a map."""

    of: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`!` or `-`."""

    operator: str
    of: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """A comparison, `in` or arithmetic."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Two or more criteria that are all wanted (`&&`), or one of them (`||`)."""

    operator: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function; a method's subject is its first argument."""

    function: str
    arguments: tuple[Node, ...]


def children(node: Node) -> tuple[Node, ...]:
    """The parts directly below."""
    match node:
        case ListOf(items=parts) | Chain(parts=parts) | Call(arguments=parts):
            return parts
        case Index(of=of, key=key):
            return (of, key)
        case Unary(of=of):
            return (of,)
        case Binary(left=left, right=right):
            return (left, right)
    return ()


def names_in(tree: Node) -> Iterator[Name]:
    """All values of the data that a criterion looks at, in the order of the source."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Name):
            yield node
        waiting += reversed(children(node))

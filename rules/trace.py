"""Computes a criterion and says why: which parts decided, and the values that they saw.

reply.certainty >= 0.8 is false: reply.certainty is 0.42
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from rules.to_python import Data, to_python
from rules.tree import Chain, Node, Unary, names_in
from rules.values import MISSING, Value, every, look_up, negate, some

MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Trace:
    """One part with its value; `sentence` is empty for `&&`, `||` and `!`, whose parts speak."""

    value: Value
    sentence: str
    parts: tuple[Trace, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it is true; unknown is not."""
        return self.value is True

    def reasons(self) -> list[str]:
        """The sentences that decided: of a false `&&` only those that were false."""
        return list(dict.fromkeys(self._decided()))

    def _decided(self) -> Iterator[str]:
        if not self.parts:
            yield self.sentence
        same = [part for part in self.parts if part.value is self.value]
        for part in same or self.parts:
            yield from part._decided()


def trace(source: str, tree: Node, data: Data) -> Trace:
    """The value of a criterion, the same as that of its function, and why; `source` is its text."""
    match tree:
        case Chain(operator=operator, parts=nodes):
            parts = tuple(trace(source, node, data) for node in nodes)
            join = every if operator == "&&" else some
            return Trace(join(part.value for part in parts), "", parts)
        case Unary(operator="!", of=of):
            inner = trace(source, of, data)
            return Trace(negate(inner.value), "", (inner,))
    value = to_python(tree)(data)
    text = " ".join(source[tree.start : tree.end].split())
    seen = {".".join(name.path): look_up(data, name.path) for name in names_in(tree)}
    values = ", ".join(f"{name} is {show(found)}" for name, found in seen.items())
    said = "unknown" if value is MISSING else show(value)
    return Trace(value, f"{text} is {said}" + (f": {values}" if values else ""))


def show(value: Value) -> str:
    """A value as people read it."""
    if value is MISSING:
        return "missing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return f"{value}"
    if isinstance(value, datetime):
        return value.isoformat(" ", "minutes")
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"

"""Makes a function of a criterion: closures built once, computed for each contact or event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rules.tree import Binary, Call, Chain, Index, ListOf, Literal, Name, Node, Unary
from rules.values import MISSING, Value, call, every, look_up, minus, negate, operate, some

Data = Mapping[str, Any]
Function = Callable[[Data], Value]


def to_python(tree: Node) -> Function:
    """A function from data (mappings within mappings) to a value, `MISSING` if it is unknown.

    It never raises, whatever the data is.
    """
    match tree:
        case Literal(value=value):
            fixed = MISSING if value is None else value
            return lambda data: fixed
        case Name(path=path):
            return lambda data: look_up(data, path)
        case ListOf(items=items):
            parts = [to_python(item) for item in items]
            return lambda data: [part(data) for part in parts]
        case Index(of=of, key=key):
            whole, which = to_python(of), to_python(key)
            return lambda data: look_up(whole(data), (which(data),))
        case Unary(operator=operator, of=of):
            inner, change = to_python(of), negate if operator == "!" else minus
            return lambda data: change(inner(data))
        case Chain(operator=operator, parts=nodes):
            links, join = [to_python(node) for node in nodes], every if operator == "&&" else some
            return lambda data: join(link(data) for link in links)
        case Binary(operator=operator, left=left, right=right):
            first, second, mark = to_python(left), to_python(right), operator
            return lambda data: operate(mark, first(data), second(data))
        case Call(function="has", arguments=(node,)):
            asked = to_python(node)
            return lambda data: asked(data) is not MISSING
        case Call(function=function, arguments=nodes):
            arguments, name = [to_python(node) for node in nodes], function
            return lambda data: call(name, [argument(data) for argument in arguments])
    raise TypeError(f"{type(tree).__name__} is no part of a criterion")


def holds(tree: Node, data: Data) -> bool:
    """Whether a criterion is true; unknown is not."""
    return to_python(tree)(data) is True

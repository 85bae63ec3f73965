"""Checks that a criterion asks for values that there are, and compares what can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from rules.tree import Binary, Call, Chain, Index, ListOf, Literal, Name, Node, RuleError, Unary

Error = Callable[[int, str, str], RuleError]

_SORTS = {bool: "truth", int: "number", float: "number", str: "text"}


def check(tree: Node, names: Mapping[str, str], error: Error) -> None:
    """Raises the `RuleError` of the first part that can't be; a criterion has to say yes or no."""
    found = _type(tree, names, error)
    if found not in ("truth", "any"):
        mend = "Compare it with something, for example with ==."
        raise error(tree.start, f"This is a {found} and says neither yes nor no.", mend)


def _type(node: Node, names: Mapping[str, str], error: Error) -> str:
    match node:
        case Literal(value=value):
            return _SORTS.get(type(value), "any")
        case Name():
            return _name(node, names, error)
        case ListOf(items=items):
            for item in items:
                _type(item, names, error)
            return "list"
        case Index(of=of, key=key):
            _type(of, names, error)
            _type(key, names, error)
            return "any"
        case Unary(operator=operator, of=of):
            found = _type(of, names, error)
            _want(of, found, ("truth",) if operator == "!" else ("number", "duration"), error)
            return found
        case Chain(parts=parts):
            for part in parts:
                _want(part, _type(part, names, error), ("truth",), error)
            return "truth"
        case Binary():
            return _binary(node, names, error)
        case Call(function=function, arguments=arguments):
            kinds = [_type(argument, names, error) for argument in arguments]
            if function == "has":
                return "truth"
            if function == "size":
                _want(arguments[0], kinds[0], ("text", "list"), error)
                return "number"
            for argument, kind in zip(arguments, kinds, strict=True):
                _want(argument, kind, ("text",), error)
            return {"lower": "text", "duration": "duration"}.get(function, "truth")
    return "any"


def _name(node: Name, names: Mapping[str, str], error: Error) -> str:
    dotted = ".".join(node.path)
    if dotted in names:
        return names[dotted]
    for length in range(len(node.path) - 1, 0, -1):
        below = ".".join(node.path[:length]) + ".*"
        if below in names:
            return names[below]
    near = get_close_matches(dotted, names, 1, 0.5)
    mend = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(sorted(names))}."
    raise error(node.start, f'There is no "{dotted}".', mend)


def _want(node: Node, found: str, wanted: tuple[str, ...], error: Error) -> None:
    if found != "any" and found not in wanted:
        what = f"Here a {' or '.join(wanted)} is needed, this is a {found}."
        raise error(node.start, what, "Compare or convert it.")


def _binary(node: Binary, names: Mapping[str, str], error: Error) -> str:
    left = _type(node.left, names, error)
    right = _type(node.right, names, error)
    unsure = "any" in (left, right)
    if node.operator == "in":
        _want(node.right, right, ("list",), error)
        return "truth"
    if node.operator in ("==", "!=", "<", "<=", ">", ">="):
        ordered = node.operator not in ("==", "!=")
        if not unsure and left != right:
            what = f"A {left} is compared with a {right}."
            raise error(node.start, what, "Compare values of the same type.")
        if ordered and left in ("truth", "list"):
            raise error(node.start, f"A {left} has no order.", "Use == or !=.")
        return "truth"
    if unsure:
        return "any"
    result = _ARITHMETIC.get((left, node.operator, right))
    if result is None:
        what = f'"{node.operator}" can\'t be used with a {left} and a {right}.'
        raise error(node.start, what, "Use numbers, durations and times.")
    return result


_ARITHMETIC = {
    **{("number", operator, "number"): "number" for operator in "+-*/%"},
    ("text", "+", "text"): "text",
    ("list", "+", "list"): "list",
    ("duration", "+", "duration"): "duration",
    ("duration", "-", "duration"): "duration",
    ("duration", "*", "number"): "duration",
    ("number", "*", "duration"): "duration",
    ("duration", "/", "number"): "duration",
    ("time", "+", "duration"): "time",
    ("duration", "+", "time"): "time",
    ("time", "-", "duration"): "time",
    ("time", "-", "time"): "duration",
}

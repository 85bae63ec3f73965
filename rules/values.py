"""What the operators do. Both the closure and the trace compute with these, so they agree.

There are three truth values: true, false, and unknown (`MISSING`). A value that the data does not
have, null, and whatever can't be computed (text less than a number, a division by zero) is unknown,
and so is what is computed from it, with Kleene's exceptions: `false && unknown` is false and
`true || unknown` is true. `has(x)` asks whether x is known. A criterion holds only if it is true:
unknown is never taken for yes, and `!unknown` is unknown too.

Values of different types are never equal; whole numbers and decimals are one type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final


class _Missing(Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = _Missing.MISSING

Value = Any
"""bool, int, float, str, timedelta, datetime, list, a mapping, or MISSING."""

MAX_TEXT = 1 << 20

_DURATION = re.compile(r"(\d{1,6})([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_duration(text: str) -> timedelta | None:
    """`5d` → five days; None if it is not a duration."""
    found = _DURATION.match(text)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None


def known(value: object) -> Value:
    """A value of the data as we compute with it; what has no type here is missing."""
    if isinstance(value, float) and math.isnan(value):
        return MISSING
    if isinstance(value, bool | int | float | str | timedelta | datetime | list | Mapping):
        return value
    return list(value) if isinstance(value, tuple | set | frozenset) else MISSING


def look_up(data: object, path: Iterable[object]) -> Value:
    """The value at a path of keys (and places in lists)."""
    here = data
    for key in path:
        if isinstance(here, Mapping):
            here = here.get(key) if isinstance(key, str) else None
        elif isinstance(here, list) and _type(key) == "number" and isinstance(key, int):
            here = here[key] if 0 <= key < len(here) else None
        else:
            return MISSING
    return known(here)


def negate(value: Value) -> Value:
    """`!`"""
    return not value if isinstance(value, bool) else MISSING


def minus(value: Value) -> Value:
    """`-x`"""
    return -value if _type(value) in ("number", "duration") else MISSING


def every(values: Iterable[Value]) -> Value:
    """`&&`"""
    result: Value = True
    for value in values:
        if value is False:
            return False
        if value is not True:
            result = MISSING
    return result


def some(values: Iterable[Value]) -> Value:
    """`||`"""
    result: Value = False
    for value in values:
        if value is True:
            return True
        if value is not False:
            result = MISSING
    return result


def operate(operator: str, left: Value, right: Value) -> Value:
    """A comparison, `in`, or arithmetic."""
    if left is MISSING or right is MISSING:
        return MISSING
    try:
        if operator == "in":
            return _is_in(left, right)
        if operator in ("==", "!="):
            if _has_gaps(left) or _has_gaps(right):
                return MISSING
            return _same(left, right) == (operator == "==")
        if operator in ("<", "<=", ">", ">="):
            return _ordered(operator, left, right)
        return known(_reckon(operator, left, right))
    except (ArithmeticError, TypeError, ValueError, RecursionError):
        return MISSING


def call(function: str, arguments: list[Value]) -> Value:
    """A function of the language, apart from `has`, which is about names."""
    if any(argument is MISSING for argument in arguments):
        return MISSING
    first = arguments[0]
    if function == "size":
        return len(first) if isinstance(first, str | list | Mapping) else MISSING
    if not all(isinstance(argument, str) for argument in arguments):
        return MISSING
    match function:
        case "duration":
            found = read_duration(first)
            return MISSING if found is None else found
        case "lower":
            return first.lower()
        case "contains":
            return arguments[1] in first
        case "startsWith":
            return first.startswith(arguments[1])
        case "endsWith":
            return first.endswith(arguments[1])
    return MISSING


def _type(value: object) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    for kind, name in (
        (str, "text"), (timedelta, "duration"), (datetime, "time"), (list, "list"), (Mapping, "map")
    ):  # fmt: skip
        if isinstance(value, kind):
            return name
    return "missing"


def _same(left: Value, right: Value) -> bool:
    return _type(left) == _type(right) and bool(left == right)


def _has_gaps(value: Value) -> bool:
    return isinstance(value, list) and any(item is MISSING for item in value)


def _is_in(left: Value, right: Value) -> Value:
    if isinstance(right, list):
        if any(_same(left, item) for item in right):
            return True
        return MISSING if _has_gaps(right) else False
    if isinstance(right, Mapping):
        return isinstance(left, str) and left in right
    return MISSING


def _ordered(operator: str, left: Value, right: Value) -> Value:
    kind = _type(left)
    if kind != _type(right) or kind not in ("number", "text", "duration", "time"):
        return MISSING
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    return bool(left > right) if operator == ">" else bool(left >= right)


def _reckon(operator: str, left: Value, right: Value) -> object:
    kinds = (_type(left), _type(right))
    numbers = kinds == ("number", "number")
    if operator == "+":
        if kinds == ("text", "text") and len(left) + len(right) > MAX_TEXT:
            return MISSING
        same = kinds[0] == kinds[1] and kinds[0] in ("number", "text", "duration", "list")
        return left + right if same or set(kinds) == {"time", "duration"} else MISSING
    if operator == "-":
        fits = numbers or kinds in (("duration",) * 2, ("time",) * 2, ("time", "duration"))
        return left - right if fits else MISSING
    if operator == "*":
        return left * right if numbers or set(kinds) == {"number", "duration"} else MISSING
    if operator == "/":
        return left / right if numbers or kinds == ("duration", "number") else MISSING
    return left % right if numbers else MISSING

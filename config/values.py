"""Kinds of values that settings have, and how they are written in the file."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,6})([smhd])\Z")
_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d{1,6})(KiB|MiB|GiB)\Z")


class Section(BaseModel):
    """One table of the file. Unknown keys are refused; values can't be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def parse_duration(value: object) -> object:
    """`"5d"` → five days; anything that is not text is left to the type check."""
    if not isinstance(value, str):
        if isinstance(value, timedelta):
            return value
        raise ValueError('has no unit. Write a whole number with s, m, h or d, for example "5d"')
    found = _DURATION.match(value)
    if not found:
        raise ValueError(
            f'"{value}" has no unit that we know. '
            'Write a whole number with s, m, h or d, for example "5d"'
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def write_duration(value: timedelta) -> str:
    """The shortest way to write a duration in the file."""
    seconds = int(value.total_seconds())
    for unit, length in reversed(_UNITS.items()):
        if seconds % length == 0 and (seconds or unit == "s"):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def parse_size(value: object) -> object:
    """`"25MiB"` → bytes; a whole number is bytes already."""
    if not isinstance(value, str):
        return value
    found = _SIZE.match(value)
    if not found:
        raise ValueError(f'"{value}" is not a size. Write for example "25MiB" or a number of bytes')
    return int(found[1]) * _SIZES[found[2]]


def write_size(value: int) -> str | int:
    """The shortest way to write a size in the file."""
    for unit, length in reversed(_SIZES.items()):
        if value and value % length == 0:
            return f"{value // length}{unit}"
    return value


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(write_duration, when_used="json")
]
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(write_size, when_used="json")]

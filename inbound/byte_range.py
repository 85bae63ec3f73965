"""The `Range` field of a request for a part of a file (RFC 9110 §14). Pure."""

from __future__ import annotations

import re

_ONE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


class Unsatisfiable(ValueError):  # noqa: N818  (RFC 9110 §15.5.17 calls it so)
    """The range begins after the end of the file."""


def part_of(field: str, size: int) -> tuple[int, int] | None:
    """First byte and length of what is asked for; None for the whole file.

    Several ranges at once, other units and nonsense are answered with the whole, as §14.2 allows.
    Raises `Unsatisfiable`.
    """
    found = _ONE.fullmatch(field.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        if not length:
            raise Unsatisfiable
        return size - length, length
    start = int(found[1])
    end = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, end - start + 1

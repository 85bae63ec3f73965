"""What a program sent, read within bounds: JSON, or JSON lines where a list may be long.

Whatever can be written in JSON and not be kept as text is refused with its place (RFC 6901).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from console.api.problems import ApiError
from console.desk import Call

MAX_DEPTH = 32
MAX_LINE_BYTES = 1 << 20
"""Of one line of JSON lines; the first has the texts."""

LINES = "application/x-ndjson"

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


async def read_object(call: Call) -> dict[str, Any]:
    """The JSON object that is the body. Raises `ApiError` with what is wrong and where."""
    body = _parsed(await call.body())
    _check(body, "")
    return body


async def read_lines(call: Call, *, limit: int) -> tuple[dict[str, Any], list[Any]]:
    """The first object of JSON lines, and the values after it, `limit` at the most.

    Lines are parsed as they come in, so that a long list is never there as text and as values.
    """
    head: dict[str, Any] | None = None
    rows: list[Any] = []
    rest = b""
    async for chunk in call.stream():
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > MAX_LINE_BYTES:
            lines, rest = [rest], b""
        for line in lines:
            head = _take(line, head, rows, limit)
    head = _take(rest, head, rows, limit)
    if head is None:
        raise ApiError(400, "This is not JSON", "The first line is an object: the message.")
    return head, rows


def _take(
    line: bytes, head: dict[str, Any] | None, rows: list[Any], limit: int
) -> dict[str, Any] | None:
    if not line.strip():
        return head
    number = len(rows) + (head is not None) + 1
    if len(line) > MAX_LINE_BYTES:
        raise ApiError(413, f"Line {number} is too long", f"{MAX_LINE_BYTES} bytes at most.")
    try:
        value = _parsed(line)
    except ApiError as error:
        raise ApiError(400, error.title, f"Line {number}: {error.detail}") from None
    if head is None:
        _check(value, "")
        return value
    if len(rows) >= limit:
        raise ApiError(422, "Too many recipients", f"{limit} fit into a request.", "/recipients")
    _check(value, f"/recipients/{len(rows)}")
    rows.append(value)
    return head


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw.decode(), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "This is not JSON", str(error)[:200]) from None
    if not isinstance(body, dict):
        raise ApiError(400, "This is not a JSON object", "Begin with { and end with }.")
    return body


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON (RFC 8259 §6)")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits[:40])


def _check(body: dict[str, Any], at: str) -> None:
    waiting: list[tuple[str, Any]] = [(at, body)]
    while waiting:
        at, value = waiting.pop()
        if isinstance(value, str):
            if not _keepable(value):
                raise ApiError(422, "Text has a NUL or half a character", "Take it out.", at)
        elif isinstance(value, (dict, list)):
            if at.count("/") >= MAX_DEPTH:
                raise ApiError(422, "Nested too deep", f"{MAX_DEPTH} levels are enough.", at)
            for name, inner in _pairs(value):
                if isinstance(name, str) and not _keepable(name):
                    raise ApiError(422, "A name has a NUL or half a character", "", at)
                if isinstance(inner, (str, dict, list)):
                    waiting.append((f"{at}/{_escaped(str(name))}", inner))


def _pairs(value: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    return iter(value.items() if isinstance(value, dict) else enumerate(value))


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _keepable(text: str) -> bool:
    return (text.isascii() and "\0" not in text) or not _NOT_TEXT.search(text)


def only(body: dict[str, Any], names: Collection[str], at: str = "") -> None:
    """Raises `ApiError` if there is something that we would not know what to do with."""
    for name in body:
        if name not in names:
            known = ", ".join(sorted(names))
            place = f"{at}/{_escaped(name)}"
            raise ApiError(422, f'"{name[:60]}" is no field here', f"There are: {known}.", place)


def text(
    body: dict[str, Any], name: str, *, needed: bool = True, at: str = "", longest: int = 1 << 20
) -> str:
    """A field that is text. Raises `ApiError` with its place."""
    value = body.get(name, "")
    if not isinstance(value, str):
        raise ApiError(422, f"{name} is not text", "Put it in quotes.", f"{at}/{name}")
    if needed and not value.strip():
        raise ApiError(422, f"{name} is missing", f"Give the field {name}.", f"{at}/{name}")
    if len(value) > longest:
        raise ApiError(422, f"{name} is too long", f"{longest} characters at most.", f"{at}/{name}")
    return value


def instant(body: dict[str, Any], name: str) -> datetime | None:
    """A field that is an instant with its zone (RFC 3339), if it is there."""
    if body.get(name) is None:
        return None
    written = text(body, name, longest=40)
    try:
        found = datetime.fromisoformat(written)
        if found.tzinfo is None or not 1970 < found.year < 9000:
            raise ValueError
    except ValueError:
        remedy = "Write it like 2026-12-24T18:00:00Z (RFC 3339), with its zone."
        raise ApiError(422, f"{name} is not an instant", remedy, f"/{name}") from None
    return found


def switch(body: dict[str, Any], name: str) -> bool:
    """A field that is true or false; false if it is not there."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ApiError(422, f"{name} is neither true nor false", "", f"/{name}")
    return value


def key_in_path(call: Call) -> UUID:
    """The id in the path. Raises `ApiError` if it is none."""
    try:
        return UUID(str(call.path_params["id"]))
    except ValueError:
        raise ApiError(404, "There is no such thing", "The id is not one of ours.") from None


def after_id(call: Call) -> UUID | None:
    """Where a page begins: the `cursor` of the page before."""
    written = call.query_params.get("after", "")
    try:
        return UUID(written) if written else None
    except ValueError:
        raise ApiError(400, "`after` is not one of ours", "Take it from an answer.") from None

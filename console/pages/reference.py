"""/api: the API's description for people, drawn by ourselves: no script, nothing from elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from litestar import Response

from console.api.description import DESCRIPTION
from console.api.schemas import SCHEMAS
from console.desk import Call, Desk

_METHODS = ("get", "post", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Field:
    """A line of a table: a parameter, or a property of a shape."""

    name: str
    type: str
    needed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One call."""

    anchor: str
    method: str
    path: str
    summary: str
    words: str
    parameters: list[Field]
    body: list[Field]
    example: str
    answers: list[tuple[str, str, str]]


async def show(desk: Desk, call: Call) -> Response[Any]:
    """Every call with its fields, and the shapes they refer to. Open to everybody."""
    return desk.page(
        "reference.html",
        None,
        about=DESCRIPTION["info"]["description"].split("\n\n"),
        entries=ENTRIES,
        shapes=SHAPES,
    )


def _entries() -> list[Entry]:
    return [
        _entry(method, path, calls[method])
        for path, calls in DESCRIPTION["paths"].items()
        for method in _METHODS
        if method in calls
    ]


def _entry(method: str, path: str, call: dict[str, Any]) -> Entry:
    content = call.get("requestBody", {}).get("content", {})
    body = _resolved(content.get("application/json", {}).get("schema", {}))
    answers = []
    for status, answer in call["responses"].items():
        if "$ref" in answer:
            answer = DESCRIPTION["components"]["responses"][status]
        schemas = [one["schema"] for one in answer.get("content", {}).values()]
        name = schemas[0].get("$ref", "").rpartition("/")[2] if schemas else ""
        answers.append((status, answer["description"], name))
    return Entry(
        anchor=f"{method}-{path.strip('/').translate(str.maketrans('/.', '--', '{}'))}",
        method=method.upper(),
        path=path,
        summary=call["summary"],
        words=call["description"],
        parameters=[
            Field(
                one["name"],
                f"{one['in']}, {_type(one['schema'])}",
                bool(one.get("required")),
                one["description"],
            )
            for one in call.get("parameters", [])
        ],
        body=_fields(body),
        example=json.dumps(_example(body), indent=2, ensure_ascii=False) if body else "",
        answers=answers,
    )


def _fields(schema: dict[str, Any]) -> list[Field]:
    needed = schema.get("required", [])
    return [
        Field(name, _type(one), name in needed, one.get("description", ""))
        for name, one in schema.get("properties", {}).items()
    ]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = SCHEMAS[name] if name else schema
    return found


def _type(schema: dict[str, Any]) -> str:
    """A schema in few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    kind = schema.get("type", "")
    names = [kind] if isinstance(kind, str) else list(kind)
    said = " or ".join(filter(None, names))
    if "array" in names:
        said += f" of {_type(schema.get('items', {})) or 'anything'}"
    if "enum" in schema and len(schema["enum"]) < 8:
        said += ": " + ", ".join(map(str, schema["enum"]))
    if schema.get("format"):
        said += f" ({schema['format']})"
    return said


def _example(schema: dict[str, Any]) -> Any:
    """Something that fits, made of the examples that stand beside the fields."""
    schema = _resolved(schema)
    if "examples" in schema:
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "object":
        inner = schema.get("properties", {})
        chosen = list(inner)[: schema.get("maxProperties", len(inner))]
        return {name: _example(inner[name]) for name in chosen}
    if kind == "array":
        return [_example(schema.get("items", {}))]
    return {"integer": 1, "number": 1.5, "boolean": True}.get(kind, "")


ENTRIES = _entries()
SHAPES = [
    (name, schema.get("description", ""), _fields(schema)) for name, schema in SCHEMAS.items()
]

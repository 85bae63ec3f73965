"""Content items written as one YAML file: a list of items, checked field by field.

Pure: takes the text, gives the arguments of `content.library.add_item` for each item.
"""

from __future__ import annotations

import difflib
from typing import Any

import yaml

from mail.errors import PermanentError

MAX_FILE_BYTES = 4 << 20
MAX_ITEMS = 5000
REQUIRED = ("key", "kind", "title", "text")
TEXTS = (*REQUIRED, "subject", "html", "language", "theme")
FIELDS = (*TEXTS, "descriptors", "asks")
KINDS = ("mail", "passage")


def read_items(source: str, path: str) -> list[dict[str, Any]]:
    """The items of a file. Raises `PermanentError` naming file, item, field and remedy."""
    if len(source) > MAX_FILE_BYTES:
        raise PermanentError(f"{path}: is larger than 4 MiB. Split it into several files.")
    if "&" in source and "*" in source and _has_alias(source):
        raise PermanentError(f"{path}: uses YAML aliases. Write each item out.")
    try:
        document = yaml.safe_load(source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise PermanentError(f"{path}:{line}: is not YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PermanentError(f"{path}: is not YAML: {str(error)[:200]}.") from None
    if not isinstance(document, list) or not document:
        raise PermanentError(f"{path}: is not a list of items. Begin each item with `- key: …`.")
    if len(document) > MAX_ITEMS:
        raise PermanentError(f"{path}: has {len(document)} items; {MAX_ITEMS} fit into one file.")
    return [_item(path, number, item) for number, item in enumerate(document, 1)]


def _has_alias(source: str) -> bool:
    try:
        return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(source))
    except yaml.YAMLError:
        return False  # The error is told when the document is read.


def _item(path: str, number: int, item: object) -> dict[str, Any]:
    where = f"{path}: item {number}"
    if not isinstance(item, dict):
        raise PermanentError(f"{where}: is not a set of fields. Begin it with `- key: …`.")
    if isinstance(item.get("key"), str):
        where = f'{where} ("{item["key"]}")'
    for field in item:
        if field not in FIELDS:
            near = difflib.get_close_matches(str(field), FIELDS, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else f" Known: {', '.join(FIELDS)}."
            raise PermanentError(f"{where}: {field} is not a field.{hint}")
    for field in REQUIRED:
        if not item.get(field):
            raise PermanentError(f"{where}: {field} is missing.")
    for field in TEXTS:
        if not isinstance(item.get(field, ""), str):
            raise PermanentError(f"{where}: {field} is not text. Put it in quotes.")
    if item["kind"] not in KINDS:
        raise PermanentError(f'{where}: kind "{item["kind"]}" is not one of {", ".join(KINDS)}.')
    asks = item.get("asks", [])
    if not isinstance(asks, list) or not all(isinstance(ask, str) for ask in asks):
        raise PermanentError(f"{where}: asks is not a list of questions.")
    if not isinstance(item.get("descriptors", {}), dict):
        raise PermanentError(f"{where}: descriptors is not a set of fields.")
    return dict(item)

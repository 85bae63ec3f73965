"""Reads the file and says where it is wrong and how to mend it."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.settings import ENV_PREFIX, Settings
from config.values import Section
from mail.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
NOT_SETTINGS = frozenset({f"{ENV_PREFIX}CONFIG"})
"""Variables of ours that are no settings."""


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the file at `path`; relative folders in it are relative to its folder.

    Raises `ConfigError` naming the file, the key, what is wrong and what to write instead.
    """
    environ = os.environ if environ is None else environ
    tables = _tables(path)
    _refuse_unknown_variables(environ)
    try:
        settings = Settings(**tables)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, tables, e) for e in error.errors())) from None
    return _anchored(settings, path.resolve().parent)


def _tables(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: is larger than 1 MiB. This is not a configuration file.")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read: {error.strerror}.\n"
            "  `waypost init DIR --domain …` makes a new one; `--config FILE` names another."
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8. Save the file as UTF-8.") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: is not TOML: {error}.\n"
            "  Text stands in quotes, tables in brackets: [relay] then port = 25."
        ) from None


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or name in NOT_SETTINGS:
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        field = Settings.model_fields.get(section)
        if field is None:
            raise ConfigError(
                f"environment: {name} is not a setting.{_nearest(section, Settings.model_fields)}\n"
                f"  Write {ENV_PREFIX}SECTION__KEY, for example {ENV_PREFIX}RELAY__SMART_HOST."
            )
        keys = _fields_of(section)
        if key not in keys:
            raise ConfigError(f"environment: {name} is not a setting.{_nearest(key, keys)}")


def _fields_of(section: str) -> Mapping[str, Any]:
    kind = Settings.model_fields[section].annotation
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, Section) else {}


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    if near:
        return f' Did you mean "{near[0]}"?'
    return " Known here: " + ", ".join(sorted(known)) + "."


def _explain(path: Path, tables: Mapping[str, Any], error: ErrorDetails) -> str:
    place = [str(part) for part in error["loc"]]
    section, key = place[0], ".".join(place[1:])
    from_file = _holds(tables, error["loc"])
    where = f"{path}: [{section}]" if from_file else f"environment: {ENV_PREFIX}{section.upper()}"
    what = f" {key}" if from_file and key else f"__{key.upper()}" if key else ""
    if error["type"] == "extra_forbidden":
        if not key:
            near = _nearest(section, Settings.model_fields)
            return f"{path}: [{section}] is not a table we know.{near}"
        return f"{where}{what} is not a setting.{_nearest(key, _fields_of(section))}"
    if error["type"] == "value_error":
        return f"{where}{what} {error['ctx']['error']}.\n{_default(section, key)}"
    given = error["input"]
    return f"{where}{what} = {given!r}: {error['msg']}.\n{_default(section, key)}"


def _holds(tables: Mapping[str, Any], place: tuple[int | str, ...]) -> bool:
    at: Any = tables
    for part in place:
        if not isinstance(at, Mapping) or part not in at:
            return isinstance(at, (list, tuple))
        at = at[part]
    return True


def _default(section: str, key: str) -> str:
    field = _fields_of(section).get(key.split(".")[0])
    if field is None:
        return "  `waypost config show` prints what every table may hold."
    section_model = Settings.model_fields[section].annotation
    assert section_model is not None
    value = section_model().model_dump(mode="json")[key.split(".")[0]]
    shown = f'"{value}"' if isinstance(value, str) else value
    return f"  {(field.description or '').strip()} The default is {shown}."


def _anchored(settings: Settings, folder: Path) -> Settings:
    """The same settings with every path made absolute."""
    changes: dict[str, Section] = {}
    for name in Settings.model_fields:
        section: Section = getattr(settings, name)
        paths = {
            key: folder / value
            for key in type(section).model_fields
            if isinstance(value := getattr(section, key), Path) and not value.is_absolute()
        }
        if paths:
            changes[name] = section.model_copy(update=paths)
    return settings.model_copy(update=changes)

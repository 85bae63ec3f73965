"""Writes settings as a commented TOML file; `config/reference.toml` is made from the defaults."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from config.settings import Settings
from config.values import Section

HEAD = """\
# Every setting of Waypost with its default and what it is for.
# Made by `waypost config reference`; a test keeps it true.
# A variable WAYPOST_SECTION__KEY in the environment wins over the file.
"""


def reference() -> str:
    """The text of `config/reference.toml`."""
    return HEAD + as_toml(Settings.model_construct(), comments=True)


def as_toml(settings: Settings, *, comments: bool = False) -> str:
    """All settings as TOML, each with its help above it if asked for."""
    tables = []
    for name in Settings.model_fields:
        section: Section = getattr(settings, name)
        tables.append(_table(name, section, comments))
    return "\n" + "\n".join(tables)


def _table(name: str, section: Section, comments: bool) -> str:
    lines = []
    if comments and type(section).__doc__:
        lines += _comment(str(type(section).__doc__).partition("] ")[2])
    lines.append(f"[{name}]")
    values = section.model_dump(mode="json")
    for key, field in type(section).model_fields.items():
        if comments and field.description:
            lines += _comment(field.description)
        if values[key] is None:
            lines.append(f'# {key} = ""')
        else:
            lines.append(f"{key} = {_value(values[key])}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent="# ", subsequent_indent="# ")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)


REFERENCE = Path(__file__).with_name("reference.toml")

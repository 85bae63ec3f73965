"""`waypost config`."""

from __future__ import annotations

import re
from argparse import Namespace

from config.reference import as_toml, reference
from config.settings import Settings
from waypost.wiring import config_path, read_settings

_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")


def show(chosen: Namespace) -> int:
    """Prints the settings in force; passwords in URLs are left out."""
    print(_PASSWORD.sub(r"\1:…@", as_toml(read_settings(chosen.config))), end="")
    return 0


def check(chosen: Namespace) -> int:
    """Says that the file is right, or raises where it is not."""
    read_settings(chosen.config)
    print(f"{config_path(chosen.config)}: right; {len(Settings.model_fields)} tables.")
    return 0


def show_reference(chosen: Namespace) -> int:
    """Prints every setting with its default and help."""
    print(reference(), end="")
    return 0

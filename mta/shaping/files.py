"""Reads the rules that come with Waypost and the owner's file on top of them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from mail.errors import ConfigError
from mta.shaping.reading import MAX_BYTES, read
from mta.shaping.rules import Shaping


@cache
def shipped() -> Shaping:
    """The rules that come with Waypost."""
    text = (files("mta.shaping") / "providers.toml").read_text("utf-8")
    return read(text, "providers.toml")


def shaping(owners: Path | None = None) -> Shaping:
    """The rules that hold: ours, with the owner's on top. Raises `ConfigError`."""
    if owners is None:
        return shipped()
    try:
        with owners.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{owners}: can't be read: {error.strerror}.\n"
            "  [shaping] rules names the file; without it our own rules hold."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{owners}: is not UTF-8. Save the file as UTF-8.") from None
    return read(text, str(owners), shipped())

"""The words of the public pages in the reader's language, chosen by Accept-Language. Pure."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

DEFAULT = "en"
_FILE = Path(__file__).parent / "pages" / "words.toml"


@cache
def tables() -> dict[str, dict[str, str]]:
    """All languages, as the data file has them."""
    return tomllib.loads(_FILE.read_text("utf-8"))


def preferred(accept: str) -> list[str]:
    """Languages of an Accept-Language field, best first (RFC 9110 §12.5.4); bounded."""
    ranked: list[tuple[float, int, str]] = []
    for place, item in enumerate(accept[:500].split(",")[:30]):
        name, _, rest = item.strip().partition(";")
        primary = name.strip().lower().partition("-")[0]
        quality = 1.0
        if rest.strip().startswith("q="):
            try:
                quality = float(rest.strip()[2:])
            except ValueError:
                continue
        if primary.isalpha() and primary.isascii() and 0 < quality <= 1:
            ranked.append((-quality, place, primary))
    return list(dict.fromkeys(name for _, _, name in sorted(ranked)))


def language_for(accept: str) -> str:
    """The first language we have words in that the reader accepts."""
    known = tables()
    return next((name for name in preferred(accept) if name in known), DEFAULT)


class Words:
    """One language's words, filled in: `words("save")`, `words("pause_days", days=30)`."""

    def __init__(self, language: str, **always: str) -> None:
        self.language = language
        self._lines = tables()[language]
        self._always = always

    def __call__(self, name: str, **values: object) -> str:
        """The line with its places filled."""
        return self._lines[name].format_map({**self._always, **values})

"""Where a click leads: the link of the message's template, filled with the message's values.

The target never comes from the request, so a link of ours can't be bent to lead elsewhere. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from mail.errors import PermanentError
from mta.merge import MergeField

MAX_TARGET = 4096
_SCHEMES = frozenset({"http", "https"})


def target(links: Sequence[Any], slot: int, values: Mapping[str, Any]) -> str:
    """The address for a slot; empty if there is none that a browser may be sent to."""
    if not 0 <= slot < len(links) or not isinstance(links[slot], str):
        return ""
    try:
        link = links[slot]
        url = _compiled(link).fill(values).strip() if "{{" in link else link
    except PermanentError:
        return ""
    return url if _is_web(url) else ""


@lru_cache(maxsize=4096)
def _compiled(link: str) -> MergeField:
    return MergeField("link", link)


def _is_web(url: str) -> bool:
    if len(url) > MAX_TARGET or any(c <= " " or c == "\x7f" or c == "\\" for c in url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme.lower() in _SCHEMES and bool(parts.hostname)
    except ValueError:
        return False

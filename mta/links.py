"""Finds the links of a bulk mail and puts a slot where each target stands.

Recipients get `{public.url}/c/{token}` instead; the token names the message and the slot, and the
target stands once per template. Left alone: mailto and anchors, targets with merge fields in them
(they differ per person, and a table per template can't hold them).

Pure, and linear in the length of the text.
"""

from __future__ import annotations

import html
import re

from mail.errors import PermanentError

MAX_LINKS = 2000
"""Of one template, text and HTML together."""

SLOT_NAME = "waypost_links"
"""What the list of a person's links is called inside a rewritten template."""

# `<` ends the search in a tag, so that a row of unclosed tags is not read again and again.
_HREF = re.compile(
    r"""(<(?:a|area|v:[a-z]{1,20})\s(?:[^<>]{0,4000}?[\s"'])?href\s{0,9}=\s{0,9})("[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)""",
    re.IGNORECASE,
)
_BARE = re.compile(r"""https?://[^\s<>"'{}|\\^`\[\]]+""", re.IGNORECASE)
_TRAILING = ".,;:!?)*_"


class Links:
    """Collects targets; one for each template."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    def in_html(self, source: str) -> str:
        """The same HTML with a slot for every http and https target."""

        def replace(found: re.Match[str]) -> str:
            raw = found[2]
            target = html.unescape(raw.strip("\"'")).strip()
            if not _counts(target):
                return found[0]
            return f'{found[1]}"{self._slot(target)}"'

        return _HREF.sub(replace, source)

    def in_text(self, source: str) -> str:
        """The same plain text with a slot for every bare link."""

        def replace(found: re.Match[str]) -> str:
            target = found[0].rstrip(_TRAILING)
            rest = found[0][len(target) :]
            if rest.startswith(")") and target.count("(") > target.count(")"):
                target, rest = target + ")", rest[1:]
            if source[found.end() : found.end() + 2] in {"{{", "{%"}:
                return found[0]
            if not _counts(target):
                return found[0]
            return self._slot(target) + rest

        return _BARE.sub(replace, source)

    def _slot(self, target: str) -> str:
        if len(self.targets) >= MAX_LINKS:
            raise PermanentError(f"html: has more than {MAX_LINKS} links. Remove some.")
        self.targets.append(target)
        return f"{{{{ {SLOT_NAME}[{len(self.targets) - 1}] }}}}"


def _counts(target: str) -> bool:
    web = target.lower().startswith(("http://", "https://"))
    return web and len(target) <= 2000 and "{{" not in target and "{%" not in target

"""How a mail looks: one column that fits a phone, in the colours of a theme.

Styles stand on the elements, because mail programs drop style sheets; the one in the head only
adds what some of them understand (dark screens, narrow screens). Merge fields pass through.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from mail.errors import PermanentError

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_LINK = re.compile(r"https?://[^\s<>\"]{1,1000}[^\s<>\".,;:!?)]")


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours (as #rrggbb) and the typeface of a company's mail."""

    name: str
    accent: str
    paper: str = "#ffffff"
    background: str = "#f4f5f7"
    ink: str = "#1f2933"
    typeface: str = "-apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

    def __post_init__(self) -> None:
        for field in ("accent", "paper", "background", "ink"):
            if not _COLOUR.fullmatch(getattr(self, field)):
                raise PermanentError(f"theme {self.name}: {field} is a colour such as #1f6feb.")
        if re.search(r"[<>\"{};]", self.typeface):
            raise PermanentError(f"theme {self.name}: typeface is a list of names with commas.")


THEMES: Mapping[str, Theme] = {
    "calm": Theme("calm", accent="#2f6f62"),
    "bright": Theme("bright", accent="#d9480f", background="#fff8f1"),
    "sober": Theme("sober", accent="#334e68", background="#eef1f4"),
}
"""Themes that every company has."""


def theme_named(name: str) -> Theme:
    """The theme of this name; the calm one if none is called so."""
    return THEMES.get(name, THEMES["calm"])


def paragraphs(text: str) -> str:
    """Plain text as HTML: paragraphs at blank lines, and links that can be clicked."""
    blocks = [block for block in re.split(r"\n[ \t]*\n", text.strip()) if block.strip()]
    return "\n".join(f"<p>{_linked(block)}</p>" for block in blocks)


def dress(body: str, theme: Theme, *, title: str = "", preview: str = "") -> str:
    """A whole HTML mail around the `body` (HTML); `preview` shows in the list of messages."""
    hidden = (
        f'<div style="display:none;max-height:0;overflow:hidden">{_safe(preview)}</div>'
        if preview
        else ""
    )
    font = f"font-family:{theme.typeface};font-size:16px;line-height:1.55;color:{theme.ink}"
    body = re.sub(r"<a (?![^>]*style=)", f'<a style="color:{theme.accent}" ', body)
    return f"""<!doctype html>
<html><head><meta charset="utf-8"><title>{_safe(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
@media (max-width: 480px) {{ .sheet {{ padding: 20px !important; }} }}
@media (prefers-color-scheme: dark) {{
.ground {{ background: #14181d !important; }}
.sheet {{ background: #1d232a !important; color: #e6e9ec !important; }}
}}
</style></head>
<body class="ground" style="margin:0;padding:0;background:{theme.background}">{hidden}
<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tr>
<td align="center" style="padding:24px 8px">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="max-width:600px"><tr>
<td class="sheet" style="padding:32px;background:{theme.paper};border-top:4px solid {theme.accent};\
border-radius:6px;{font}">
{body}
</td></tr></table></td></tr></table></body></html>
"""


def _safe(text: str) -> str:
    return escape(text, quote=False)  # Quotes stay: they may stand in a merge field.


def _linked(block: str) -> str:
    parts, at = [], 0
    for match in _LINK.finditer(block):
        url = escape(match[0], quote=True)
        parts += [_safe(block[at : match.start()]), f'<a href="{url}">{_safe(match[0])}</a>']
        at = match.end()
    parts.append(_safe(block[at:]))
    return "".join(parts).replace("\n", "<br>\n")

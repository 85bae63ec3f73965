"""A generic message, compiled: what is the same for everybody is worked out once.

Compiling checks the merge fields, numbers the links of bulk mail and adds what bulk mail must have
if it is missing: the sender's postal address, a way to unsubscribe (both asked for by law in many
places, CAN-SPAM §5(a)(5) among them) and the picture that tells of opening.

Pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mail.errors import PermanentError
from mta.enclosures import NOTHING, Enclosures
from mta.links import SLOT_NAME, Links
from mta.merge import MergeField

MAX_SUBJECT = 900
"""Characters; a header line may have 998 (RFC 5322 §2.1.1)."""

PIXEL_NAME = "waypost_pixel"

OFFERED = (
    "unsubscribe_url",
    "preferences_url",
    "forward_url",
    "join_url",
    "forward_address",
    "postal_address",
)
"""Values that every bulk mail may use."""

_SYNTAX = re.compile(r"\{(?=[{%#])")
_BODY_END = re.compile(r"</(body|html)\s{0,9}>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_OPEN_PARTS = re.compile(r"<(/?)(table|tr|td|th|div|center)\b[^<>]{0,4000}>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TemplateKind:
    """How a template is read. `literal` text has no merge fields, whatever is in it."""

    bulk: bool
    literal: bool

    @classmethod
    def of(cls, headers: Mapping[str, Any]) -> TemplateKind:
        """As it was kept in the template's row."""
        return cls(bool(headers.get("bulk")), bool(headers.get("literal")))

    def kept(self) -> dict[str, Any]:
        """As it goes into the template's row."""
        return {"bulk": self.bulk, "literal": self.literal}


class CompiledTemplate:
    """Fills in subject, text and HTML for one person at a time."""

    def __init__(
        self,
        kind: TemplateKind,
        subject: str,
        text: str,
        html: str,
        enclosures: Enclosures = NOTHING,
    ) -> None:
        """Raises `PermanentError` naming the field and line that is wrong."""
        self.enclosures = enclosures
        self.kind = kind
        self.has_text, self.has_html = bool(text) or not html, bool(html)
        links = Links()
        ready = _escaped if kind.literal else str
        text, html = ready(text), ready(html)
        more_text, more_html = enclosures.below(text, html)
        if self.has_text:
            text = text.rstrip() + more_text if more_text else text
        if html and more_html:
            place, close = _end_of(html)
            html = html[:place] + close + more_html + html[place:]
        if kind.bulk:
            text, html = _with_footer(text, html, add_text=self.has_text)
        self.subject = MergeField("subject", ready(subject))
        track = kind.bulk
        self.html = MergeField("html", html, html=True, rewrite=links.in_html if track else None)
        self.text = MergeField("text", text, rewrite=links.in_text if track else None)
        self.links = links.targets

    def subject_for(self, values: Mapping[str, Any]) -> str:
        """The subject as one line without control characters."""
        line = " ".join(self.subject.fill(values).split())
        if len(line) > MAX_SUBJECT:
            raise PermanentError(f"subject: is longer than {MAX_SUBJECT} characters.")
        return "".join(c for c in line if c.isprintable())

    def check(self, values: Mapping[str, Any]) -> str:
        """Fills everything in once with stand-ins for the links; returns the subject."""
        offered = dict.fromkeys(OFFERED, "https://check.invalid/")
        stand_in = "https://check.invalid/c/" + "x" * 46
        own = {SLOT_NAME: [stand_in] * len(self.links), PIXEL_NAME: stand_in}
        trial = {**offered, **values, **own} if self.kind.bulk else dict(values)
        if self.enclosures is not NOTHING:
            trial |= {"files_url": stand_in, "presentation_url": stand_in}
        self.text.fill(trial)
        self.html.fill(trial)
        return self.subject_for(trial)


def digest_of(
    kind: TemplateKind,
    subject: str,
    text: str,
    html: str,
    spool: Mapping[str, Any] | None,
    enclosures: Enclosures = NOTHING,
) -> str:
    """Names a template by its content, so that a campaign has one row."""
    kept = {**kind.kept(), **enclosures.kept()}
    whole = json.dumps([kept, subject, text, html, spool], sort_keys=True)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _escaped(source: str) -> str:
    return _SYNTAX.sub("{{ '{' }}", source)


def _with_footer(text: str, html: str, *, add_text: bool) -> tuple[str, str]:
    if add_text:
        missing = [f"{{{{ {name} }}}}" for name in _missing(text)]
        if missing:
            text = text.rstrip() + "\n\n-- \n" + "\n".join(missing) + "\n"
    if html:
        lines = [
            '<a href="{{ unsubscribe_url }}">Unsubscribe</a> &middot; '
            '<a href="{{ preferences_url }}">Choose what you get</a>'
            if name == "unsubscribe_url"
            else "{{ postal_address }}"
            for name in _missing(html)
        ]
        end = f'<img src="{{{{ {PIXEL_NAME} }}}}" width="1" height="1" alt="">'
        if lines:
            end = f'<p style="font-size:12px;color:#666">{"<br>".join(lines)}</p>{end}'
        place, close = _end_of(html)
        html = html[:place] + close + end + html[place:]
    return text, html


def _end_of(html: str) -> tuple[int, str]:
    """Where the body ends, and what has to be closed there first.

    An end tag in a comment is none, and a comment that was never ended would swallow the footer.
    Readers put text that stands in an open table before that table (WHATWG HTML §13.2.6.4.9), so
    tables and boxes left open are closed.
    """
    bare = _COMMENT.sub(lambda found: " " * len(found[0]), html)
    ends = list(_BODY_END.finditer(bare))
    bodies = [end for end in ends if end[1].lower() == "body"]
    place = (bodies or ends)[-1].start() if ends else len(html)
    cut = html.rfind("<!--")
    if cut >= 0 and "-->" not in html[cut:] and place == len(html):
        return place, "-->" + _closing(bare)
    return place, _closing(bare[:place])


def _closing(html: str) -> str:
    waiting: list[str] = []
    for found in _OPEN_PARTS.finditer(html):
        name = found[2].lower()
        if not found[1]:
            waiting.append(name)
        elif name in waiting:
            while waiting.pop() != name:
                pass  # What was left open within it ends with it.
    return "".join(f"</{name}>" for name in reversed(waiting)) if "table" in waiting else ""


def _missing(source: str) -> list[str]:
    """What bulk mail must have and the source doesn't put where readers see it."""
    seen = _COMMENT.sub("", source)
    return [
        name
        for name in ("postal_address", "unsubscribe_url")
        if not re.search(r"\{\{[^{}]{0,200}\b" + name + r"\b[^{}]{0,200}\}\}", seen)
    ]

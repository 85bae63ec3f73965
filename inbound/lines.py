"""The lines of a message with what its structure says about them: quoted how deep, marked as what.

Plain text shows quotation by `>`; HTML shows it by the elements and class names of mail programs.
Both become the same lines, so one set of rules reads both. Pure; linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_LINES = 20_000
MAX_LINE = 2048
"""Characters of a line the rules look at; longer lines are kept whole in the text."""
MAX_RULE_LINES = 2500
"""Lines in which the rules look for older messages; nobody writes more above a quotation."""
MAX_NODES = 200_000
MAX_NESTING = 400


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its quote marks. `mark` is what the HTML calls it:

    `cut` everything from here on is an older message, `attribution` the line above a quotation,
    `signature`, `forward` a forwarded message begins, `rule` a horizontal line.
    """

    text: str
    depth: int = 0
    mark: str = ""

    @property
    def blank(self) -> bool:
        return not self.text.strip()


_PREFIX = re.compile(r"[ \t]{0,3}(?:>[ \t]?){1,50}")


def plain_lines(text: str) -> list[Line]:
    """The lines of a text/plain body; leading `>` signs count as depth."""
    lines: list[Line] = []
    for raw in text.split("\n", MAX_LINES)[:MAX_LINES]:
        line = raw.replace("\u00a0", " ").replace("\u200b", "").replace("\ufeff", "").rstrip()
        depth = 0
        match = _PREFIX.match(line)
        if match is not None:
            if not line.startswith(">From "):  # mbox files escape these; nobody quoted it.
                depth = match[0].count(">")
                line = line[match.end() :]
            else:
                line = line[1:]
        lines.append(Line(line, depth))
    return lines


_BLOCKS = frozenset(
    [
        "p",
        "div",
        "li",
        "tr",
        "table",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "pre",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "section",
        "article",
        "header",
        "footer",
        "body",
        "address",
        "center",
        "form",
        "fieldset",
        "figure",
        "main",
        "nav",
        "aside",
        "tbody",
        "thead",
    ]
)
_SPACED = frozenset(["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "pre"])
_SILENT = frozenset(
    ["script", "style", "head", "title", "meta", "link", "noscript", "template", "-comment"]
)
_QUOTES = (
    "yahoo_quoted",
    "protonmail_quote",
    "tutanota_quote",
    "zmail_extra",
    "freshdesk_quote",
    "front-blockquote",
    "quoted-content",
    "cite-block",
    "email-quote",
    "missive_quote",
    "mailmate",
    "ymail_android_quoted",
)
_CUTS = (
    "divrplyfwdmsg",
    "appendonsend",
    "olk_src_body_section",
    "mail-editor-reference-message",
    "ms-outlook-mobile-reference-message",
    "stopspelling",
    "reply-intro",
    "beginofquote",
    "originalmessage",
    "isreplycontent",
    "isforwardcontent",
)
_SIGNATURES = (
    "gmail_signature",
    "moz-signature",
    "ms-outlook-mobile-signature",
    "protonmail_signature_block",
    "tutanota_signature",
    "applemailsignature",
    "applesignature",
    "ydp-signature",
)
_ATTRIBUTIONS = ("gmail_attr", "moz-cite-prefix", "yahoo_quoted_begin", "hs_reply", "reply_header")
_BORDER_TOP = re.compile(
    r"border:\s{0,3}none;\s{0,3}border-top:\s{0,3}solid|border-top:\s{0,3}\w{0,10}\s?solid|"
    r"border-top-style:\s{0,3}solid",
    re.I,
)


class _Page:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.words: list[str] = []
        self.mark = ""

    def text(self, words: str) -> None:
        if words:
            self.words.append(words)

    def end(self, depth: int, mark: str, *, forced: bool = False) -> None:
        text = "".join(self.words)
        self.words.clear()
        text = text.strip(" \t") if not text.isspace() else ""
        if text or forced:
            # A structural mark waits for the first line that has words.
            shown = self.mark or mark if text else ""
            if text:
                self.mark = ""
            self.lines.append(Line(text, depth, shown))

    def gap(self, depth: int) -> None:
        if self.lines and self.lines[-1].text:
            self.lines.append(Line("", depth))


def html_lines(html: str) -> list[Line]:
    """The lines a reader of the HTML sees, with quotation and marks taken from its structure."""
    if not html.strip():
        return []
    html = html[: 1024 * 1024]
    if _too_deep(html):
        return _crude(html)
    root = LexborHTMLParser(html).body
    if root is None:
        return []
    page = _Page()
    # (node, depth, mark, preformatted); a None node closes the element the tag names.
    stack: list[tuple[LexborNode | None, str, int, str, bool]] = [(root, "", 0, "", False)]
    seen = 0
    while stack:
        node, tag, depth, mark, pre = stack.pop()
        if node is None:
            page.end(depth, mark)
            if tag in _SPACED:
                page.gap(depth)
            continue
        seen += 1
        if seen > MAX_NODES or len(page.lines) > MAX_LINES:
            break
        tag = node.tag or ""
        if tag == "-text":
            _text(page, node.text_content or "", depth, mark, pre)
            continue
        if tag in _SILENT:
            continue
        attributes = node.attributes
        if tag == "br":
            page.end(depth, mark, forced=True)
            continue
        if tag == "hr":
            page.end(depth, mark)
            names = _names(attributes)
            if any(name in names for name in _CUTS):
                page.mark = "cut"
            page.lines.append(Line("", depth, "rule"))
            continue
        if tag in ("td", "th"):
            page.text(" ")
        if tag in _BLOCKS:
            page.end(depth, mark)
            if tag in _SPACED:
                page.gap(depth)
        depth_inside, mark_inside = _structure(page, tag, attributes, depth, mark)
        if tag == "li":
            page.text("- ")
        if tag in _BLOCKS:
            stack.append((None, tag, depth_inside, mark_inside, pre))
        children: list[LexborNode] = []
        child = node.child
        while child is not None:
            children.append(child)
            child = child.next
        pre_inside = pre or tag == "pre"
        if len(stack) > MAX_NESTING * 50:
            continue
        for child in reversed(children):
            stack.append((child, "", depth_inside, mark_inside, pre_inside))
    page.end(0, "")
    return page.lines


_TAG = re.compile(
    r"<(/?)(div|blockquote|span|font|table|b|i|u|em|strong|ul|ol|a|center|section|article|pre|code|"
    r"small|big|s|tt|form|button|nobr|strike)\b",
    re.I,
)
_ANY_TAG = re.compile(r"<[^<>]{0,4000}>")
_BREAK = re.compile(r"<(?:br|/p|/div|/tr|/li|/h\d|/blockquote)\b[^<>]{0,1000}>", re.I)


def _too_deep(html: str) -> bool:
    """Whether elements nest so deep that a parser would take quadratic time; no mail does."""
    depth = 0
    for match in _TAG.finditer(html):
        depth += -1 if match[1] else 1
        if depth > MAX_NESTING:
            return True
        depth = max(depth, 0)
    return False


def _crude(html: str) -> list[Line]:
    """The words of HTML that is not worth a tree."""
    text = unescape(_ANY_TAG.sub(" ", _BREAK.sub("\n", html)))
    lines = text.split("\n", MAX_LINES)[:MAX_LINES]
    return [Line(" ".join(line.split())) for line in lines]


def _text(page: _Page, content: str, depth: int, mark: str, pre: bool) -> None:
    content = content.replace("\u00a0", " ").replace("\u200b", "").replace("\ufeff", "")
    if pre:
        first, *rest = content.replace("\r", "").split("\n")
        page.text(first)
        for line in rest:
            page.end(depth, mark, forced=True)
            page.text(line)
        return
    squeezed = " ".join(content.split())
    if not squeezed:
        if page.words and not page.words[-1].endswith(" "):
            page.text(" ")
        return
    before = " " if content[0].isspace() and page.words else ""
    page.text(before + squeezed + (" " if content[-1].isspace() else ""))


def _names(attributes: dict[str, str | None]) -> str:
    return f"{attributes.get('class') or ''} {attributes.get('id') or ''}"[:500].lower()


def _structure(
    page: _Page, tag: str, attributes: dict[str, str | None], depth: int, mark: str
) -> tuple[int, str]:
    """Quote depth and mark inside the element; a cut is left pending on the page."""
    if not attributes:
        return (depth + 1 if tag == "blockquote" else depth), mark
    names = _names(attributes)
    style = (attributes.get("style") or "")[:1000]
    if tag == "blockquote":
        indented = "border:none" in style.replace(" ", "") and "gmail_quote" not in names
        return depth + (0 if indented and attributes.get("type") != "cite" else 1), mark
    if names.strip():
        if any(name in names for name in _CUTS):
            page.mark = "cut"
        elif "moz-forward-container" in names:
            page.mark = "forward"
        elif any(name in names for name in _QUOTES):
            return depth + 1, mark
        elif any(name in names for name in _ATTRIBUTIONS):
            return depth, "attribution"
        elif "signature" in names.split() or any(name in names for name in _SIGNATURES):
            return depth, "signature"
    if tag == "div" and "border" in style and _BORDER_TOP.search(style):
        page.mark = page.mark or "border"
    return depth, mark

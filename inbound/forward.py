"""A message passed on: whose it was, to whom, when, its words, and what the forwarder says.

Inline (any client whose labels we know), in HTML, or attached as message/rfc822. An answer that
quotes our own mail is no forward, however its quotation looks. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute

from inbound import boundary
from inbound.headers import Mailbox
from inbound.languages import fold
from inbound.lines import MAX_RULE_LINES, Line, html_lines, plain_lines
from inbound.parse import MAX_TEXT, ParsedMessage
from inbound.quoting import split_message

MAX_HOPS = 10

_PREFIXES = frozenset(
    [
        "fw",
        "fwd",
        "wg",
        "tr",
        "rv",
        "enc",
        "i",
        "vs",
        "vb",
        "vl",
        "vf",
        "pd",
        "doorst",
        "wtrl",
        "trs",
        "továbbítás",
        "forward",
        "fwd:",
        "tr:",
        "rv:",
        "ilt",
        "iletilen",
        "转发",
        "轉寄",
        "转",
        "転送",
        "전달",
        "fwd：",
        "пересл.",
        "пересланное",
        "hl",
        "πρθ",
        "videresendt",
        "továbbítva",
        "reenv",
        "res-fw",
        "weitergeleitet",
        "inoltro",
    ]
)


@dataclass(frozen=True, slots=True)
class Forward:
    """The message that was passed on; `date` is as it stands there."""

    sender: Mailbox | None
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    subject: str
    date: str
    body: str
    comment: str
    attached: bool = False
    certainty: float = 0.9
    hops: tuple[Mailbox, ...] = attribute(default=())
    """The senders named in the body below it, nearest first: the way it came before."""


def forward_subject(subject: str) -> bool:
    """Whether the subject begins as mail programs mark a forward ("Fwd:", "WG:", "TR:")."""
    text = fold(subject).strip().lstrip("[(").replace("：", ":")
    head, colon, _ = text[:20].partition(":")
    return bool(colon) and head.strip() in _PREFIXES


def find_forward(
    message: ParsedMessage, own_addresses: Callable[[str], bool] | None = None
) -> Forward | None:
    """What was forwarded, or None if this is no forward."""
    inline = _inline(message, own_addresses)
    if inline is not None:
        return inline
    for nested in message.nested:
        if nested.sender is None and not nested.subject:
            continue
        return _attached(message, nested, own_addresses)
    return None


def _attached(
    message: ParsedMessage, nested: ParsedMessage, own: Callable[[str], bool] | None
) -> Forward:
    body = nested.text or "\n".join(line.text for line in html_lines(nested.html))
    comment = split_message(message.text, message.html).reply
    return Forward(
        nested.sender,
        nested.to,
        nested.cc,
        nested.subject,
        nested.header("date"),
        body.strip(),
        comment,
        attached=True,
        certainty=0.97,
    )


def _inline(message: ParsedMessage, own: Callable[[str], bool] | None) -> Forward | None:
    marked = forward_subject(message.subject)
    candidates: list[Forward] = []
    for lines in (plain_lines(message.text[:MAX_TEXT]), html_lines(message.html)):
        if lines:
            found = _in_lines(lines, message, marked, own)
            if found is not None:
                candidates.append(found)
    if not candidates:
        return None
    return max(candidates, key=lambda one: (one.certainty, bool(one.sender and one.sender.address)))


def _in_lines(
    lines: Sequence[Line],
    message: ParsedMessage,
    marked: bool,
    own: Callable[[str], bool] | None,
) -> Forward | None:
    for index, line in enumerate(lines[:MAX_RULE_LINES]):
        if line.blank:
            continue
        kind = boundary.separator(line)
        if not kind and line.mark == "forward":
            kind = "forwarded"
        if kind == "forwarded":
            return _below(lines, index, message, certain=0.98)
        block = None
        start = index
        if kind == "original":
            start = _next(lines, index + 1)
            block = boundary.header_block(lines, start, least=2) if start < len(lines) else None
        elif line.depth == 0 or marked:
            block = boundary.header_block(lines, index, least=3)
        if block is not None:
            return _outlook(lines, index, block, message, marked, own)
        if line.depth == 0:
            attributed = boundary.attribution(lines, index)
            if attributed is not None and (attributed.strong or _quoted(lines, attributed.end)):
                return _attributed(lines, attributed, marked) if marked else None
    return None


def _quoted(lines: Sequence[Line], index: int) -> bool:
    following = _next(lines, index)
    return following < len(lines) and lines[following].depth > 0


def _next(lines: Sequence[Line], index: int) -> int:
    while index < len(lines) and lines[index].blank:
        index += 1
    return index


def _below(
    lines: Sequence[Line], index: int, message: ParsedMessage, certain: float
) -> Forward | None:
    """The forward under a line that says "forwarded message"."""
    own_line = lines[index].mark == "forward" and not boundary.separator(lines[index])
    start = _next(lines, index if own_line else index + 1)
    if start >= len(lines):
        return None
    if boundary.rule(lines[start].text):
        start = _next(lines, start + 1)
    if start >= len(lines):
        return None
    block = boundary.header_block(lines, start, least=1)
    if block is not None:
        return _forward(lines, index, block, certain)
    attributed = boundary.attribution(lines, start)
    if attributed is not None:
        return _attributed(lines, attributed, True, cut=index)
    return Forward(
        _named_in(lines[index].text),
        (),
        (),
        "",
        "",
        _text(lines[start:], lines[start].depth),
        _text(lines[:index], 0),
        certainty=0.7,
    )


def _named_in(text: str) -> Mailbox | None:
    found = [one for one in boundary.people(text.strip("-_ ")) if "@" in one.address]
    return Mailbox("", found[0].address) if found else None


def _outlook(
    lines: Sequence[Line],
    index: int,
    block: boundary.HeaderBlock,
    message: ParsedMessage,
    marked: bool,
    own: Callable[[str], bool] | None,
) -> Forward | None:
    """Outlook draws the same block above a forward and above an answer: the subject tells."""
    quoted_subject = block.fields.get("subject", "")
    answers = bool(message.in_reply_to)
    if not marked:
        sender = block.sender
        if own is not None and sender is not None and own(sender.address):
            return None
        if answers or not quoted_subject or _subject_is_answer(message.subject):
            return None
        if own is None or sender is None or not sender.address:
            return None
        recipients = [one.address.lower() for one in message.to]
        if sender.address.lower() in recipients:
            return None  # It goes back to whom it came from.
    return _forward(lines, index, block, 0.9 if marked else 0.6)


def _subject_is_answer(subject: str) -> bool:
    head, colon, _ = fold(subject)[:12].replace("：", ":").partition(":")
    return bool(colon) and 0 < len(head.strip()) <= 6


def _forward(
    lines: Sequence[Line], cut: int, block: boundary.HeaderBlock, certainty: float
) -> Forward:
    depth = lines[block.start].depth
    body = lines[block.end :]
    return Forward(
        block.sender,
        boundary.people(block.fields.get("to", "")),
        boundary.people(block.fields.get("cc", "")),
        block.fields.get("subject", ""),
        block.fields.get("date", ""),
        _text(body, depth),
        _text(lines[:cut], 0),
        certainty=certainty,
        hops=_hops(body),
    )


def _attributed(
    lines: Sequence[Line], attributed: boundary.Attribution, marked: bool, cut: int | None = None
) -> Forward | None:
    found = [one for one in boundary.people(attributed.text.rstrip(": ")) if "@" in one.address]
    sender = found[0] if found else None
    if sender is None and not marked:
        return None
    if sender is not None:
        words = sender.name.split(",")[-1].split()
        name = " ".join(word for word in words if word[:1].isalpha() and fold(word) not in _FILLERS)
        sender = Mailbox(name, sender.address)
    following = _next(lines, attributed.end)
    depth = lines[following].depth if following < len(lines) else 0
    above = attributed.start if cut is None else cut
    return Forward(
        sender,
        (),
        (),
        "",
        "",
        _text(lines[following:], depth),
        _text(lines[:above], 0),
        certainty=0.7,
    )


_FILLERS = frozenset(
    ("on", "at", "am", "um", "le", "el", "il", "op", "em", "den", "dniu", "à", "a", "las", "om")
)


def _hops(body: Sequence[Line]) -> tuple[Mailbox, ...]:
    hops: list[Mailbox] = []
    index = 0
    while index < min(len(body), MAX_RULE_LINES) and len(hops) < MAX_HOPS:
        block = None if body[index].blank else boundary.header_block(body, index, least=3)
        if block is None:
            index += 1
            continue
        if block.sender is not None:
            hops.append(block.sender)
        index = max(block.end, index + 1)
    return tuple(hops)


def _text(lines: Sequence[Line], depth: int) -> str:
    out: list[str] = []
    for line in lines:
        level = max(0, line.depth - depth)
        out.append(f"{'> ' * level}{line.text}".rstrip())
    squeezed: list[str] = []
    for text in out:
        if text or (squeezed and squeezed[-1]):
            squeezed.append(text)
    return "\n".join(squeezed).strip()

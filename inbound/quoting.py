"""What the author wrote, apart from what the mail program copied below, above or in between.

Lines are judged once each: quoted by a mark, known from the message that was answered, or below a
boundary. Answers between quoted passages stay with the passages they answer; answers below a
quotation stay without it. When a cut would leave nothing, or rests on little, more text is kept
and the certainty says so. Pure; linear in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inbound import boundary
from inbound.boundary import HeaderBlock
from inbound.languages import fold
from inbound.lines import MAX_RULE_LINES, Line, html_lines, plain_lines
from inbound.parse import MAX_TEXT


@dataclass(frozen=True, slots=True)
class Split:
    """A message taken apart."""

    reply: str
    """The author's words; with the quoted passages they answer, where answers stand in between."""
    own_words: str
    """Only what the author typed."""
    removed: str
    certainty: float
    cut: str = ""
    """What kind of boundary was found first: attribution, headers, original, forwarded, …"""
    reasons: tuple[str, ...] = ()
    header: HeaderBlock | None = None
    found: bool = False
    """Whether anything older was recognised."""


def split_message(text: str, html: str, *, sent_text: str | None = None) -> Split:
    """The better of what the plain part and the HTML part show, each checked by the other."""
    plain = split(plain_lines(text[:MAX_TEXT]), sent_text) if text.strip() else None
    if not html.strip():
        return plain or Split("", "", "", 1.0, reasons=("there is no text",))
    lines = html_lines(html)
    if sum(len(line.text) for line in lines) > 2 * MAX_TEXT:
        lines = lines[:5000]
    rich = split(lines, sent_text) if any(not line.blank for line in lines) else None
    if plain is None or rich is None:
        return plain or rich or Split("", "", "", 1.0, reasons=("there is no text",))
    words, marked = _words(plain.reply), _words(rich.reply)
    if words == marked:
        return _sure(
            plain, min(1.0, max(plain.certainty, rich.certainty) + 0.05), "both parts agree"
        )
    if rich.found and not plain.found and len(marked) < len(words):
        return _sure(rich, rich.certainty, "only the HTML shows what is quoted")
    if rich.found and marked and len(marked) < len(words) and words[: len(marked)] == marked:
        return _sure(rich, rich.certainty, "the HTML shows where the reply ends")
    if not words and marked:
        return _sure(rich, min(0.6, rich.certainty), "the plain part has no reply in it")
    return _sure(plain, plain.certainty - (0.1 if marked else 0), "the parts differ")


def _sure(chosen: Split, certainty: float, reason: str) -> Split:
    return Split(
        chosen.reply,
        chosen.own_words,
        chosen.removed,
        max(0.0, min(1.0, certainty)),
        chosen.cut,
        (*chosen.reasons, reason),
        chosen.header,
        chosen.found,
    )


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in fold(text)).split()


def split(lines: Sequence[Line], sent_text: str | None = None) -> Split:
    """Takes the lines of one part apart."""
    roles, cut, header, certainty, reasons = _roles(lines, sent_text)
    _resolve_blocks(lines, roles, reasons)
    own = [line.text for line, role in zip(lines, roles, strict=True) if role == "new"]
    shown = [
        ("> " * line.depth + line.text if role == "context" and not line.blank else line.text)
        for line, role in zip(lines, roles, strict=True)
        if role in ("new", "context")
    ]
    removed = [
        ">" * line.depth + (" " if line.depth else "") + line.text
        for line, role in zip(lines, roles, strict=True)
        if role not in ("new", "context")
    ]
    reply = _tidy(shown)
    return Split(
        reply,
        _tidy(own),
        _tidy(removed),
        certainty,
        cut,
        tuple(dict.fromkeys(reasons)),
        header,
        found=any(text.strip() for text in removed),
    )


def _tidy(lines: Sequence[str]) -> str:
    out: list[str] = []
    for line in lines:
        line = line.rstrip()
        if line or (out and out[-1]):
            out.append(line)
    return "\n".join(out).strip("\n")


def _roles(
    lines: Sequence[Line], sent_text: str | None
) -> tuple[list[str], str, HeaderBlock | None, float, list[str]]:
    """A role for each line: new, quote, attribution, older."""
    roles = ["quote" if line.depth else "new" for line in lines]
    reasons: list[str] = []
    certainty = 0.7
    cut = ""
    header: HeaderBlock | None = None
    if sent_text and _mark_known(lines, roles, sent_text):
        reasons.append("our own message stands in it")
        certainty = 0.95
        cut = "known"
    if any(role == "quote" for role in roles):
        certainty = max(certainty, 0.9)
        reasons.append("lines are marked as quoted")
    index = 0
    looked = 0
    while index < len(lines) and looked < MAX_RULE_LINES:
        line = lines[index]
        if roles[index] == "quote" or (line.blank and line.mark != "cut"):
            index += 1
            continue
        looked += 1
        found = _boundary_at(lines, roles, index)
        if found is None:
            index += 1
            continue
        kind, end, block, sure = found
        cut = cut if cut not in ("", "known") else kind
        header = header or block
        following = _next_words(lines, end)
        quoted_below = following < len(lines) and roles[following] == "quote"
        nothing_above = not any(
            role == "new" and not one.blank
            for one, role in zip(lines[:index], roles[:index], strict=True)
        )
        if kind != "structure" and quoted_below:
            for position in range(index, end):
                roles[position] = "attribution"
            certainty = max(certainty, 0.95)
            reasons.append(f"{kind} above quoted lines")
            index = end
            continue
        if kind == "attribution" and nothing_above:
            # Nobody writes nothing: the reply must be below, and nothing shows where.
            for position in range(index, end):
                roles[position] = "attribution"
            if following < len(lines):
                certainty = 0.3
                reasons.append("an attribution at the top without marks below: all was kept")
            index = end
            continue
        for position in range(index, len(lines)):
            roles[position] = "older"
        certainty = max(certainty, sure)
        reasons.append(f"{kind} at line {index + 1}")
        break
    if not reasons:
        reasons.append("nothing older was recognised")
    return roles, cut, header, certainty, reasons


def _boundary_at(
    lines: Sequence[Line], roles: Sequence[str], index: int
) -> tuple[str, int, HeaderBlock | None, float] | None:
    """Kind, end, header block and certainty of the boundary that begins at a line."""
    line = lines[index]
    kind = boundary.separator(line)
    if kind:
        following = _next_words(lines, index + 1)
        block = boundary.header_block(lines, following, least=1) if following < len(lines) else None
        return kind, block.end if block else index + 1, block, 0.97 if block else 0.9
    if line.mark in ("cut", "forward"):
        block = boundary.header_block(lines, index, least=2)
        return "structure", block.end if block else index + 1, block, 0.97
    attributed = boundary.attribution(lines, index)
    if attributed is not None:
        following = _next_words(lines, attributed.end)
        quoted_below = following < len(lines) and roles[following] == "quote"
        if attributed.strong or quoted_below:
            return "attribution", attributed.end, None, 0.9
        return None
    if boundary.rule(line.text) or line.mark == "rule":
        following = _next_words(lines, index + 1)
        if following < len(lines) and roles[following] == "new":
            block = boundary.header_block(lines, following, least=2)
            if block is not None:
                return "headers", block.end, block, 0.95
        return None
    block = boundary.header_block(lines, index, least=2 if line.mark == "border" else 3)
    if block is not None:
        return "headers", block.end, block, 0.95
    return None


def _next_words(lines: Sequence[Line], index: int) -> int:
    while index < len(lines) and lines[index].blank:
        index += 1
    return index


def _mark_known(lines: Sequence[Line], roles: list[str], sent_text: str) -> bool:
    """Marks the lines that stand in the message this one answers, however they are quoted.

    Lines are compared as words, so re-wrapping does not matter. Short lines count only between
    or beside long ones: "Thanks" may be said by both.
    """
    known = " " + " ".join(_words(sent_text[:MAX_TEXT])) + " "
    whole = {" ".join(_words(line)) for line in sent_text[:MAX_TEXT].split("\n")}
    sure: list[int] = []
    maybe: set[int] = set()
    for index, line in enumerate(lines):
        if line.blank:
            continue
        words = _words(line.text[:2048])
        joined = " ".join(words)
        if len(words) >= 4 and len(joined) >= 16 and f" {joined} " in known:
            sure.append(index)
        elif joined in whole or (words and f" {joined} " in known):
            maybe.add(index)
    if not sure:
        return False
    marked = set(sure)
    for index in sure:
        for step in (-1, 1):
            position = index + step
            while 0 <= position < len(lines) and (lines[position].blank or position in maybe):
                marked.add(position)
                position += step
    for index in marked:
        if roles[index] == "new" and not lines[index].blank:
            roles[index] = "quote"
    first = min(marked)
    above = first - 1
    while above >= 0 and lines[above].blank:
        above -= 1
    if above >= 0 and roles[above] == "new":
        # No words are needed to know the line above our own text that names a day or an address.
        text = lines[above].text.strip()
        if text.endswith((":", "：")) and (boundary.dated(text) or "@" in text):
            roles[above] = "attribution"
    return True


def _resolve_blocks(lines: Sequence[Line], roles: list[str], reasons: list[str]) -> None:
    """Decides which quoted passages stay as context: those that the author answers one by one."""
    blocks: list[tuple[int, int]] = []
    index = 0
    while index < len(roles):
        if roles[index] != "quote":
            index += 1
            continue
        start = index
        while index < len(roles) and (
            roles[index] == "quote" or (lines[index].blank and _quote_follows(lines, roles, index))
        ):
            roles[index] = "quote"
            index += 1
        blocks.append((start, index))
    if not blocks:
        return
    answered = [
        position
        for position, (_, end) in enumerate(blocks)
        if _has_new(
            lines, roles, end, blocks[position + 1][0] if position + 1 < len(blocks) else len(roles)
        )
    ]
    if not answered:
        return
    between = [position for position in answered if position + 1 < len(blocks)]
    if between:
        reasons.append("answers stand between quoted passages")
        for position in answered:
            start, end = blocks[position]
            for line in range(start, end):
                roles[line] = "context"
        return
    start, end = blocks[answered[0]]
    attributed = any(role == "attribution" for role in roles[max(0, start - 8) : start])
    if attributed or end - start > 20:
        reasons.append("the answer stands below the quotation")
        return
    for line in range(start, end):
        roles[line] = "context"


def _quote_follows(lines: Sequence[Line], roles: Sequence[str], index: int) -> bool:
    following = index
    while following < len(lines) and following < index + 3 and lines[following].blank:
        following += 1
    return following < len(lines) and roles[following] == "quote"


def _has_new(lines: Sequence[Line], roles: Sequence[str], start: int, end: int) -> bool:
    return any(roles[index] == "new" and not lines[index].blank for index in range(start, end))

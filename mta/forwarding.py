"""Whether an answer is passed on to a rep's own mailbox, and the bytes that are.

The message stays as it is: From, subject, body, signatures. On top come one trace field, a mark
that stops loops and, where it can be made, an ARC set that says what we found out about it.

Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from mail.address import parse_address
from mta.mime import read_fields, split_head

MARK = "X-Waypost-Forwarded"
MAX_HOPS = 30
"""Received fields; mail that has passed more servers than this is going round."""

MAX_HEADER = 512 << 10

_MACHINES = frozenset({"bulk", "junk", "list"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of an answer that came. `mail_from`: its return path, as it came by SMTP.

    `by_smtp` is false for what was fetched from a mailbox, which has no return path.
    """

    author: str
    mail_from: str
    by_smtp: bool
    raw: bytes


def refusal(answer: Answer, target: str) -> str:
    """Empty if the answer may be passed on to `target`, otherwise why not."""
    mailbox = parse_address(target)
    if mailbox is None:
        return "there is no such address"
    if answer.by_smtp and not answer.mail_from.strip("<> "):
        return "it has the null return path"
    for known in (answer.author, answer.mail_from):
        parsed = parse_address(known.strip("<> "))
        if parsed is not None and parsed.canonical == mailbox.canonical:
            return "it came from there"
    hops = 0
    for name, value in read_fields(split_head(answer.raw)[0][:MAX_HEADER]):
        low, said = name.lower(), value.strip().lower()
        hops += low == "received"
        if low == MARK.lower():
            return "it was passed on before"
        if low == "delivered-to" and said.strip("<>") == mailbox.canonical:
            return "it was delivered there before"
        if low == "auto-submitted" and said.partition(";")[0].strip() not in ("", "no"):
            return "a machine wrote it"
        if low == "precedence" and said in _MACHINES:
            return "it is no personal mail"
    return f"it has passed {hops} servers" if hops > MAX_HOPS else ""


def to_pass_on(answer: Answer, *, host: str, mark: str, target: str, at: datetime) -> bytes:
    """The bytes that go to `target`, not sealed yet; lines end with CRLF as ARC wants them.

    `mark` names the message in our trace, so that a person can find it.
    """
    trace = (
        f"{MARK}: {mark}\r\nReceived: by {host} (Waypost) id {mark}\r\n"
        f"\tfor <{_ascii(target)}>; {format_datetime(at)}\r\n"
    )
    return trace.encode("ascii", "replace") + with_crlf(answer.raw)


def with_crlf(raw: bytes) -> bytes:
    """The same with CRLF at the end of every line, as it goes over the wire."""
    if raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r"):
        return raw
    return re.sub(rb"\r\n|\r|\n", b"\r\n", raw)


def _ascii(address: str) -> str:
    return "".join(c if "!" <= c <= "~" and c not in "<>" else "?" for c in address)

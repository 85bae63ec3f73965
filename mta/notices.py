"""Delivery status notifications: what we tell whoever handed us mail that did not arrive.

A report has three parts (RFC 3464, RFC 6522): words for a person, fields for a program, and the
message it is about, or its header. Whether one is owed at all follows from NOTIFY (RFC 3461 §4.1);
nobody is ever told about mail with the null return path, so reports about reports can't be, and
about automatic mail only where NOTIFY asks for it.

Mail leaves us with a return path of our own, to which the next server reports. So the duty stays
ours until the end: a success is reported by us as "relayed" (RFC 3461 §5.2.2) and NOTIFY is not
passed on. Addresses other than ASCII are written as RFC 6533 has it.

Pure: time, ids and bytes come as arguments. Whatever strangers said is cut, made printable and
never becomes a field of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import StrEnum
from typing import Any

from mail.address import parse_address
from mail.smtp_reply import split_enhanced
from mta.mime import ids_field, leaf, mailbox_field, read_fields, split_head, text_field
from mta.notice_words import NOT_SENT, Words, words_for

MAX_RETURNED_HEADER = 32 << 10
"""Bytes of a returned header; the rest is cut off at the end of a line."""

MAX_SAID = 500
MAX_LINE = 998
"""RFC 5322 §2.1.1: a message with longer lines can't be returned as it is."""

_TYPE = re.compile(r"[A-Za-z0-9-]{1,30}\Z")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{3,240}>\Z")
_PLAIN = frozenset(chr(c) for c in range(0x21, 0x7F)) - frozenset("+=\\")
"""QCHAR of RFC 6533 §3."""


class Action(StrEnum):
    """What happened to the message (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


_ASKED_AS = {Action.FAILED: "FAILURE", Action.DELAYED: "DELAY", Action.RELAYED: "SUCCESS"}


@dataclass(frozen=True, slots=True)
class Origin:
    """The envelope that a message was submitted with: NOTIFY, ORCPT, RET and ENVID of RFC 3461.

    `original` is `type;address`; in it and in `id` xtext stands decoded.
    """

    sender: str
    notify: tuple[str, ...] = ()
    original: str = ""
    ret: str = ""
    id: str = ""


def origin_of(parsed: Mapping[str, Any] | None) -> Origin | None:
    """The envelope kept in `Message.parsed`; None if the message did not come by SMTP."""
    kept = (parsed or {}).get("envelope")
    if not isinstance(kept, Mapping):
        return None
    notify = kept.get("notify")
    words = notify if isinstance(notify, (list, tuple)) else ()
    return Origin(
        str(kept.get("sender") or "").strip().strip("<>"),
        tuple(str(word).upper() for word in words[:4]),
        str(kept.get("original") or "")[:500],
        str(kept.get("ret") or "").upper()[:10],
        str(kept.get("id") or "")[:200],
    )


def is_owed(origin: Origin, action: Action, *, auto_submitted: str = "") -> bool:
    """Whether the sender is to be told. `auto_submitted` is that header field's value (RFC 3834).

    Without NOTIFY, failures and delays are told (RFC 3461 §4.1).
    """
    if parse_address(origin.sender) is None or "NEVER" in origin.notify:
        return False
    automatic = auto_submitted.partition(";")[0].strip().lower()
    if automatic.startswith("auto-replied"):
        return False
    if origin.notify:
        return _ASKED_AS[action] in origin.notify
    return automatic in ("", "no") and action is not Action.RELAYED


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What there is to tell about one recipient of one message.

    `said` is the last reply of the server `remote`, or our own words if `code` is None; `reason`
    says why the delivery ended. `original` is the message as it was submitted, if it is there yet.
    """

    action: Action
    recipient: str
    origin: Origin
    submitted_at: datetime
    attempted_at: datetime | None = None
    retry_until: datetime | None = None
    code: int | None = None
    said: str = ""
    reason: str = ""
    remote: str = ""
    subject: str = ""
    original: bytes | None = None
    last_for_now: bool = False

    @property
    def status(self) -> str:
        """The enhanced status (RFC 3463), made up from what we know if the server gave none."""
        enhanced = split_enhanced(self.said)[0]
        first = {Action.FAILED: "45", Action.DELAYED: "4", Action.RELAYED: "2"}[self.action]
        if enhanced and enhanced[0] in first:
            return enhanced
        if self.action is Action.RELAYED:
            return "2.0.0"
        over = self.reason.startswith("expired")
        if self.action is Action.DELAYED or over:
            return "4.4.7" if over else "4.4.1" if self.code is None else "4.0.0"
        for words, status in _BY_REASON:
            if self.reason.startswith(words):
                return status
        return "5.0.0"


_BY_REASON = (
    ("bad mailbox", "5.1.1"),
    ("bad domain", "5.1.2"),
    ("mailbox full", "5.2.2"),
    ("too big", "5.3.4"),
    ("content", "5.6.0"),
    ("policy", "5.7.1"),
    ("suppressed", "5.7.1"),
    ("consent", "5.7.1"),
    (NOT_SENT, "5.7.1"),
)


def make_dsn(
    report: Report, *, at: datetime, host: str, domain: str, message_id: str, max_returned: int
) -> bytes:
    """The report as bytes that are ready to be sent to `report.origin.sender`.

    `host` is this machine, `domain` one of the company's, whose signature the report gets.
    `max_returned`: a message of more bytes comes back as its header only, whatever RET says.
    """
    words = words_for(
        report.action.value,
        report.status,
        _tidy(report.reason, 200),
        _tidy(report.recipient, 320),
        answered=report.code is not None or bool(report.remote),
    )
    wide = not report.origin.sender.isascii()
    parts = [
        leaf("text/plain; charset=utf-8", _person(report, words, host)),
        _program(report, host, wide=wide),
    ]
    if report.original is not None:
        parts.append(_returned(report, report.original, max_returned))
    boundary = _boundary(message_id, parts)
    mark = f"--{boundary}".encode()
    fields = [
        mailbox_field("From", "Mail Delivery System", f"mailer-daemon@{domain}"),
        mailbox_field("To", "", report.origin.sender),
        text_field("Subject", f"{words.subject}: {_tidy(report.subject, 200)}".rstrip(": ")),
        text_field("Date", format_datetime(at)),
        ids_field("Message-ID", [message_id]),
        *_thread(report.original),
        text_field("Auto-Submitted", "auto-replied"),
        b"MIME-Version: 1.0\r\n",
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        + f'\tboundary="{boundary}"\r\n'.encode(),
    ]
    if any(not part.isascii() for part in parts):
        fields.append(b"Content-Transfer-Encoding: 8bit\r\n")
    inner = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return b"".join(fields) + b"\r\n" + inner + mark + b"--\r\n"


def auto_submitted(original: bytes) -> str:
    """The value of Auto-Submitted in a message; of several, the one that is not "no"."""
    head = split_head(original)[0][: MAX_RETURNED_HEADER * 4]
    values = [v for name, v in read_fields(head) if name.lower() == "auto-submitted"]
    return next((value for value in values if value.strip().lower() != "no"), "")


def _person(report: Report, words: Words, host: str) -> str:
    lines = [words.headline, ""]
    about = {"To": report.recipient, "Subject": report.subject}
    lines += [f"  {name}: {_tidy(value, 320)}" for name, value in about.items() if value]
    lines += [f"  Sent: {format_datetime(report.submitted_at)}", "", words.happened]
    if report.said and report.remote and report.code is not None:
        said = f"{report.code} {_tidy(report.said, MAX_SAID)}"
        lines += ["", f"The server {_tidy(report.remote, 255)} said:", "", f"  {said}"]
    elif report.said:
        lines += ["", f"The last we know: {_tidy(report.said, MAX_SAID)}"]
    if report.action is Action.DELAYED and report.retry_until is not None:
        lines += ["", f"It is tried until {format_datetime(report.retry_until)}."]
    lines += ["", words.advice]
    if report.last_for_now:
        lines += [
            "",
            "Many of your messages fail just now. You get no more reports within this hour; "
            "all of them are listed in the console.",
        ]
    lines += ["", f"This report was made by the mail system of {host}.", ""]
    return "\n".join(lines)


def _program(report: Report, host: str, *, wide: bool) -> bytes:
    """The machine part. `wide`: the reader's mailbox takes UTF-8, so addresses may stand in it."""
    origin = report.origin
    fields = [("Reporting-MTA", f"dns; {host}")]
    envelope_id = _tidy(origin.id, 100)
    if envelope_id and envelope_id.isascii():
        fields.insert(0, ("Original-Envelope-Id", envelope_id))
    fields.append(("Arrival-Date", format_datetime(report.submitted_at)))
    about = []
    if original := _original_recipient(origin.original, wide=wide):
        about.append(("Original-Recipient", original))
    about.append(("Final-Recipient", _recipient(report.recipient, wide=wide)))
    about += [("Action", report.action.value), ("Status", report.status)]
    if report.remote and (remote := _printable(report.remote)):
        about.append(("Remote-MTA", f"dns; {remote[:255]}"))
    if report.said and report.code is not None:
        said = f"{report.code} {_tidy(report.said, MAX_SAID)}"
        spoken_by = "smtp" if report.remote else "x-waypost"  # Nobody else's words, or a server's.
        about.append(("Diagnostic-Code", f"{spoken_by}; {_escaped(said, keep=' +=')}"))
    if report.attempted_at is not None:
        about.append(("Last-Attempt-Date", format_datetime(report.attempted_at)))
    if report.action is Action.DELAYED and report.retry_until is not None:
        about.append(("Will-Retry-Until", format_datetime(report.retry_until)))
    content_type = "message/global-delivery-status" if wide else "message/delivery-status"
    blocks = [b"".join(_line(name, value) for name, value in block) for block in (fields, about)]
    body = b"\r\n".join(blocks)
    encoding = "" if body.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    return f"Content-Type: {content_type}\r\n{encoding}\r\n".encode() + body


def _line(name: str, value: str) -> bytes:
    """One field, folded between words; a word that no line takes is cut."""
    lines, line = [], f"{name}:"
    for word in value.split(" "):
        word = word[:900]
        if len(line) + 1 + len(word) > 76 and not line.endswith(":"):
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\r\n".join([*lines, line]).encode("utf-8", "replace") + b"\r\n"


def _recipient(address: str, *, wide: bool) -> str:
    local, _, domain = _tidy(address, 320).rpartition("@")
    with contextlib.suppress(UnicodeError):
        domain = domain if wide and not local.isascii() else domain.encode("idna").decode("ascii")
    spelled = f"{local}@{domain}".replace(" ", "")
    if spelled.isascii():
        return f"rfc822; {spelled}"
    return f"utf-8; {spelled if wide else _escaped(spelled)}"


def _original_recipient(orcpt: str, *, wide: bool) -> str:
    """ORCPT as a field's value; empty if it is none."""
    kind, semicolon, value = orcpt.partition(";")
    if not semicolon or not value or not _TYPE.match(kind):
        return ""
    value = _tidy(value, 320).replace(" ", "")
    if kind.lower() == "utf-8":
        value = re.sub(r"\\x\{([0-9A-F]{1,6})\}", _character, value)
        return f"utf-8; {value if wide else _escaped(value)}"
    return f"{kind}; {value if value.isascii() else _escaped(value)}"


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    good = 0xA0 <= number < 0xD800 or 0xE000 <= number <= 0x10FFFF or number in (0x2B, 0x3D, 0x5C)
    return chr(number) if good else "\ufffd"


def _escaped(text: str, keep: str = "") -> str:
    """utf-8-addr-xtext of RFC 6533 §3, in which everything is ASCII."""
    return "".join(c if c in _PLAIN or c in keep else f"\\x{{{ord(c):X}}}" for c in text)


def _returned(report: Report, original: bytes, max_returned: int) -> bytes:
    """The third part: the message where it was asked for and is small enough, else its header."""
    whole = report.action is Action.FAILED and report.origin.ret == "FULL"
    if whole and len(original) <= max_returned and _may_travel(original):
        head = split_head(original)[0]
        kind = "message/rfc822" if head.isascii() else "message/global"
        encoding = "" if original.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
        return f"Content-Type: {kind}\r\n{encoding}\r\n".encode() + original
    head = split_head(original)[0]
    if len(head) > MAX_RETURNED_HEADER:
        head = head[:MAX_RETURNED_HEADER].rpartition(b"\r\n")[0]
    kind = "text/rfc822-headers" if head.isascii() else "message/global-headers"
    return leaf(kind, head.decode("utf-8", "replace").replace("\0", "\ufffd"))


def _may_travel(original: bytes) -> bool:
    bare = original.count(b"\n") != original.count(b"\r\n") or b"\0" in original
    bare = bare or original.count(b"\r") != original.count(b"\r\n")
    return not bare and max(map(len, original.split(b"\r\n"))) <= MAX_LINE


def _thread(original: bytes | None) -> list[bytes]:
    """In-Reply-To and References, so that the report stands beside the message it is about."""
    if original is None:
        return []
    head = split_head(original)[0][: MAX_RETURNED_HEADER * 4]
    for name, value in read_fields(head):
        if name.lower() == "message-id" and _MESSAGE_ID.match(value):
            return [ids_field(field, [value]) for field in ("In-Reply-To", "References")]
    return []


def _boundary(message_id: str, parts: list[bytes]) -> str:
    """A mark that stands in none of the parts; it follows from them, so that it is repeatable."""
    digest = hashlib.sha256(message_id.encode("utf-8", "replace"))
    for part in parts:
        digest.update(part)
    while True:
        boundary = f"=_{digest.hexdigest()[:40]}"
        if not any(boundary.encode() in part for part in parts):
            return boundary
        digest.update(b"again")


def _tidy(text: str, length: int) -> str:
    """One line of printable characters."""
    line = " ".join(text[: length * 4].split())
    return "".join(c for c in line if c.isprintable())[:length]


def _printable(text: str) -> str:
    """The text if it is nothing but printable ASCII without spaces, else empty."""
    return text if text and all("!" <= c <= "~" for c in text) else ""

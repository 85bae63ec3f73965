"""Deliveries that failed, from the reports and notes that say so: who, why, and for good or not.

Delivery status parts first (RFC 3464), recipient by recipient; then notes in words, whose layout
differs by mail system (qmail, Exim, Postfix, Exchange and kin) but which all name an address and
quote an SMTP reply near it. Hard means that the mailbox or the domain is gone; a policy block or a
full mailbox never counts as that. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from inbound import bounce_text, headers
from inbound.languages import fold
from inbound.lines import html_lines
from inbound.parse import ParsedMessage, ReportPart

MAX_RECIPIENTS = 500
MAX_NOTE_LINES = 400


class Reason(StrEnum):
    """Why a delivery failed, as far as it changes what we do next."""

    BAD_MAILBOX = "bad_mailbox"
    BAD_DOMAIN = "bad_domain"
    INACTIVE = "inactive"
    FULL = "full"
    TOO_BIG = "too_big"
    CONTENT = "content"
    POLICY = "policy"
    THROTTLED = "throttled"
    INFRASTRUCTURE = "infrastructure"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Bounce:
    """One recipient that was not reached (or not yet, if `delayed`)."""

    recipient: str
    status: str
    """Enhanced status (RFC 3463) such as `5.1.1`, or empty."""
    code: int | None
    """SMTP reply code, if one was quoted."""
    reason: Reason
    hard: bool
    delayed: bool = False
    text: str = ""
    original_message_id: str = ""


@dataclass(frozen=True, slots=True)
class BounceReport:
    """All that a message says about deliveries; `certainty` that it is such a report at all."""

    bounces: tuple[Bounce, ...]
    certainty: float
    reasons: tuple[str, ...]
    original_message_id: str = ""
    original_recipient: str = ""
    success: bool = False
    """It only says that mail was delivered or relayed."""


_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,2})\.(\d{1,3})(?![\d.]*\d)")
_CODE = re.compile(r"(?<![\d.\w-])([45][0-5]\d)(?=[\s\-#:]|$)")
_ADDRESS = re.compile(r"[^\s<>()\[\]\",;:'|=]{1,64}@[A-Za-z0-9][\w.-]{1,250}\w")
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_DELAYED = ("delay", "warning: could not send", "still being retried", "verzögert", "retard")


def find_bounces(message: ParsedMessage) -> BounceReport | None:
    """What the message reports about deliveries, or None if it is no such report."""
    original_id, original_to = _original(message)
    status_parts = [part for part in message.reports if "delivery-status" in part.content_type]
    if status_parts:
        found, success = _from_status(status_parts, message, original_id)
        if found or success:
            return BounceReport(
                tuple(found[:MAX_RECIPIENTS]),
                0.99,
                ("it has a delivery status part",),
                original_id,
                original_to,
                success and not found,
            )
    score, reasons = _evidence(message, bool(status_parts))
    if score < 0.6:
        return None
    found = _from_note(message, original_id, original_to)
    if not found and score < 0.9:
        return None
    return BounceReport(tuple(found[:MAX_RECIPIENTS]), score, reasons, original_id, original_to)


def note_text(message: ParsedMessage) -> str:
    """The words of a note, from the plain part or else the HTML."""
    if message.text.strip():
        return message.text[:65536]
    return "\n".join(line.text for line in html_lines(message.html))[:65536]


def _evidence(message: ParsedMessage, status_part: bool) -> tuple[float, tuple[str, ...]]:
    reasons: list[str] = []
    score = 0.0
    sender = message.sender
    who = f"{sender.address} {sender.name}".lower() if sender else ""
    if status_part or message.report_type == "delivery-status":
        score += 0.6
        reasons.append("it calls itself a delivery report")
    if message.raw_header("x-failed-recipients"):
        score += 0.8
        reasons.append("X-Failed-Recipients is set")
    daemon = any(name in who for name in bounce_text.DAEMONS)
    if daemon:
        score += 0.35
        reasons.append("a mail daemon sent it")
    if message.null_sender:
        score += 0.15
        reasons.append("its envelope sender is empty")
    subject = fold(message.subject)
    answer = subject.startswith(("re:", "aw:", "fwd:", "fw:", "wg:", "tr:"))
    if not answer and any(phrase in subject for phrase in bounce_text.SUBJECTS):
        score += 0.3
        reasons.append("the subject speaks of a failed delivery")
    folded = fold(note_text(message)[:8192])
    if any(phrase in folded for phrase in bounce_text.NOTES):
        score += 0.25
        reasons.append("the text says it could not be delivered")
    if _CODE.search(folded) and _STATUS.search(folded):
        score += 0.15
        reasons.append("it quotes an SMTP reply")
    machine = daemon or message.null_sender or status_part
    if not machine and not message.raw_header("x-failed-recipients"):
        score = min(score, 0.55)  # A person who writes about a bounce is a person.
    return min(score, 0.98), tuple(reasons)


def _original(message: ParsedMessage) -> tuple[str, str]:
    """Message-ID and recipient of the message the report is about, where it is attached."""
    for nested in message.nested:
        if nested.headers:
            return nested.message_id, next((box.address for box in nested.to), "")
    for part in message.reports:
        if "headers" in part.content_type and part.groups:
            fields = dict(reversed(part.groups[0]))
            found = headers.message_ids(fields.get("message-id", ""))
            to = headers.addresses(fields.get("to", ""))
            return next(iter(found), ""), to[0].address if to else ""
    text = message.text[:65536] or note_text(message)
    match = re.search(r"^[> \t]{0,4}message-id:\s{0,3}<([^<>\s]{1,500})>", text, re.I | re.M)
    to_match = re.search(r"^[> \t]{0,4}to:\s{0,3}(.{1,300})$", text, re.I | re.M)
    to = headers.addresses(to_match[1]) if to_match else ()
    return (match[1] if match else ""), (to[0].address if to else "")


def _from_status(
    parts: Sequence[ReportPart], message: ParsedMessage, original_id: str
) -> tuple[list[Bounce], bool]:
    found: list[Bounce] = []
    success = False
    note = ""
    for part in parts:
        for group in part.groups[: MAX_RECIPIENTS + 1]:
            fields = dict(reversed(group))
            recipient = _typed(fields.get("original-recipient", "")) or _typed(
                fields.get("final-recipient", "") or fields.get("x-actual-recipient", "")
            )
            action = fields.get("action", "").strip().lower().split(" ")[0]
            if not recipient and not action:
                continue
            if action in ("delivered", "relayed", "expanded"):
                success = True
                continue
            if "@" not in recipient:
                recipient = _typed(fields.get("final-recipient", "")) or recipient
            diagnostic = fields.get("diagnostic-code", "")
            diagnostic = (
                diagnostic.partition(";")[2].strip() if ";" in diagnostic[:40] else diagnostic
            )
            if not diagnostic.strip():
                note = note or _near(note_text(message), recipient)
            status = _status_of(fields.get("status", ""), diagnostic or note)
            found.append(
                _judged(
                    recipient,
                    status,
                    diagnostic or note,
                    delayed=action == "delayed",
                    original_id=original_id,
                )
            )
    return _distinct(found), success


def _typed(value: str) -> str:
    """The address of a typed field such as `rfc822; ann@example.test`."""
    kind, semicolon, rest = value.partition(";")
    value = rest if semicolon else value
    if kind.strip().lower() == "utf-8":  # RFC 6533 §3: other characters by their numbers.
        value = _ESCAPED.sub(_character, value)
    match = _ADDRESS.search(value)
    return match[0] if match else value.strip(" <>\"'")


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    good = 0xA0 <= number < 0xD800 or 0xE000 <= number < 0x110000 or number in (0x2B, 0x3D, 0x5C)
    return chr(number) if good else found[0]


def _near(text: str, recipient: str) -> str:
    at = text.lower().find(recipient.lower()) if recipient else -1
    return text[max(0, at) : max(0, at) + 800]


def _status_of(declared: str, text: str) -> str:
    """The enhanced status; a vague one (x.0.0) gives way to what the SMTP reply says."""
    own = _STATUS.search(declared)
    said = _STATUS.search(text)
    if own and not (own[2] == "0" and own[3] == "0"):
        return own[0]
    if said and said[1] != "2":
        return said[0]
    return own[0] if own else ""


def _judged(recipient: str, status: str, text: str, *, delayed: bool, original_id: str) -> Bounce:
    code_match = _CODE.search(text)
    code = int(code_match[1]) if code_match else None
    reason = classify(status, code, text)
    permanent = (status[:1] or ("5" if code is None else str(code)[0])) == "5"
    gone = reason in (Reason.BAD_MAILBOX, Reason.BAD_DOMAIN)
    return Bounce(
        recipient,
        status,
        code,
        reason,
        hard=gone and permanent and not delayed,
        delayed=delayed,
        text=" ".join(text.split())[:500],
        original_message_id=original_id,
    )


def classify(status: str, code: int | None, text: str) -> Reason:
    """The class of a refusal: by its words, then its status, then its code."""
    folded = fold(" ".join(text.split())[:2000])
    detail = status.partition(".")[2]
    # Microsoft refuses unknown users as "5.4.1 Recipient address rejected: Access denied".
    if "recipient address rejected: access denied" in folded:
        return Reason.BAD_MAILBOX
    if detail in ("1.1", "1.10", "1.6"):
        return (
            Reason.BAD_DOMAIN if "null mx" in folded or "nullmx" in folded else Reason.BAD_MAILBOX
        )
    if detail == "2.2":
        return Reason.FULL
    if detail in ("2.3", "3.4"):
        return Reason.TOO_BIG
    if detail == "1.2":
        return Reason.BAD_DOMAIN
    refused = _without_addresses(folded)
    for name, phrases in bounce_text.RULES:
        if detail.startswith("7.") and name in ("content", "bad_mailbox", "infrastructure"):
            if name == "content" and not any(
                word in refused for word in ("spam", "virus", "content")
            ):
                continue
            if name == "infrastructure":
                continue
        if any(_says(refused, phrase) for phrase in phrases):
            return Reason(name)
    if detail and detail != "0.0":
        subject = detail.partition(".")[0]
        if subject == "7":
            return Reason.THROTTLED if status.startswith("4") else Reason.POLICY
        return Reason(bounce_text.BY_STATUS.get(detail, _SUBJECT.get(subject, "other")))
    if code in (421, 450, 451):
        return Reason.THROTTLED
    if code == 452:
        return Reason.FULL
    if code in (550, 551, 553):
        return Reason.BAD_MAILBOX if not folded.strip("0123456789 .-") else Reason.OTHER
    if code == 552:
        return Reason.FULL
    return Reason.OTHER if code or status else Reason.UNKNOWN


_SUBJECT = {"1": "bad_mailbox", "2": "inactive", "3": "infrastructure", "4": "infrastructure",
            "6": "content", "7": "policy"}  # fmt: skip


def _says(text: str, phrase: str) -> bool:
    """Whether the phrase stands there; a short one only as a word of its own."""
    at = text.find(phrase)
    if at < 0 or len(phrase) > 6:
        return at >= 0
    end = at + len(phrase)
    return not text[max(0, at - 1) : at].isalpha() and not text[end : end + 1].isalpha()


def _without_addresses(text: str) -> str:
    """The words without addresses and links: `spam@…` in an address says nothing."""
    return re.sub(r"https?://\S{1,500}|\S{1,64}@\S{1,250}", " ", text)


def _from_note(message: ParsedMessage, original_id: str, original_to: str) -> list[Bounce]:
    """The recipients and refusals that a note in words names."""
    text = note_text(message)
    head = _above_copy(text)
    subject = fold(message.subject)
    delayed = any(word in subject for word in _DELAYED) or "will be retried" in fold(head[:4000])
    delayed = delayed and "failed" not in fold(head[:500])
    own = {box.address.lower() for box in (*message.to, *message.from_, *message.cc)}
    named = [box.address for box in headers.addresses(message.raw_header("x-failed-recipients"))]
    lines = head.split("\n")[:MAX_NOTE_LINES]
    starts: list[tuple[int, str]] = []
    loose: list[tuple[int, str]] = []
    for index, line in enumerate(lines):
        stripped = line.strip().lstrip("<>'\"(*- ").removeprefix("mailto:")
        for match in list(_ADDRESS.finditer(line[:1000]))[:5]:
            address = match[0].strip(".")
            if address.lower() in own or any(name in address.lower() for name in _MACHINES):
                continue
            place = starts if stripped.startswith(address) else loose
            place.append((index, address))
    picked = starts or loose[:1]
    if named:
        wanted = {address.lower() for address in named}
        picked = [(index, address) for index, address in picked if address.lower() in wanted]
        missing = wanted - {address.lower() for _, address in picked}
        picked += [(0, address) for address in named if address.lower() in missing]
    if not picked and original_to and original_to.lower() not in own:
        picked = [(0, original_to)]
    found: list[Bounce] = []
    positions = sorted({index for index, _ in picked})
    for index, address in picked[:MAX_RECIPIENTS]:
        later = next((position for position in positions if position > index), len(lines))
        said = "\n".join(lines[index : max(later, index + 1)])[:2000]
        if not (_STATUS.search(said) or _CODE.search(said) or len(said) > len(address) + 20):
            said = head[:4000]
        found.append(
            _judged(
                address,
                _status_of("", said),
                said,
                delayed=delayed,
                original_id=original_id,
            )
        )
    return _distinct(found)


_MACHINES = (
    "mailer-daemon",
    "postmaster@",
    "abuse@",
    "support@",
    "helpdesk@",
    "noreply",
    "no-reply",
)


def _above_copy(text: str) -> str:
    """The part of a note above the copy of the message it returns."""
    position = 0
    for count, line in enumerate(text.split("\n")):
        folded = line[:80].strip().lower()
        if count > 2 and folded.startswith(bounce_text.COPIES):
            return text[:position]
        position += len(line) + 1
    return text


def _distinct(found: Sequence[Bounce]) -> list[Bounce]:
    """One entry a recipient; the one that knows more wins."""
    best: dict[str, Bounce] = {}
    for bounce in found:
        key = bounce.recipient.lower()
        kept = best.get(key)
        if kept is None or (bool(bounce.status), not bounce.delayed) > (
            bool(kept.status),
            not kept.delayed,
        ):
            best[key] = bounce
    return list(best.values())

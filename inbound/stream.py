"""`waypost parse`: messages analysed for other programs (JSON lines) and for people (words).

With `--stream` a path comes in on each line and one JSON object goes out, flushed at once. A file
that cannot be read gives `{"error": …}`; no message ends the stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from inbound.analysis import Analysis, analyse
from inbound.headers import Mailbox
from inbound.parse import MAX_MESSAGE_BYTES
from inbound.trace import hops


def as_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as the stream answers it."""
    contact = analysis.contact
    absent = analysis.auto_reply
    returns = absent.return_date.isoformat() if absent and absent.return_date else None
    return {
        "kind": str(analysis.verdict.kind),
        "reply_text": analysis.reply_text,
        "signature": analysis.signature,
        "forward": _forward(analysis),
        "bounces": [
            {
                "recipient": bounce.recipient,
                "status": bounce.status,
                "code": bounce.code,
                "class": str(bounce.reason),
                "hard": bounce.hard,
            }
            for bounce in analysis.bounces
        ],
        "complaint": (
            {"feedback_type": analysis.complaint.feedback_type} if analysis.complaint else None
        ),
        "auto_reply": {"return_date": returns} if absent else None,
        "unsubscribe": analysis.unsubscribe,
        "contact": {
            "name": contact.name,
            "title": contact.title,
            "company": contact.company,
            "phones": list(contact.phones),
            "emails": list(contact.emails),
            "urls": list(contact.urls),
        },
    }


def _forward(analysis: Analysis) -> dict[str, Any] | None:
    passed_on = analysis.forward
    if passed_on is None:
        return None
    return {
        "from": _person(passed_on.sender or Mailbox("", "")),
        "to": [_person(mailbox) for mailbox in passed_on.to],
        "cc": [_person(mailbox) for mailbox in passed_on.cc],
        "subject": passed_on.subject,
        "date": passed_on.date,
        "body": passed_on.body,
        "comment": passed_on.comment,
    }


def _person(mailbox: Mailbox) -> dict[str, str]:
    return {"name": mailbox.name, "address": mailbox.address}


def run(stdin: Iterable[str], stdout: TextIO) -> None:
    """Answers each path on `stdin` with one line of JSON until the input ends."""
    if isinstance(stdin, TextIOWrapper):
        stdin.reconfigure(errors="surrogateescape")  # A path is bytes, not always UTF-8.
    for line in stdin:
        path = line.rstrip("\r\n")
        if not path.strip():
            continue
        try:
            answer = as_json(analyse(read(path)))
        except (OSError, ValueError) as error:
            answer = {"error": f"{path}: {getattr(error, 'strerror', None) or error}"}
        stdout.write(_encoded(answer) + "\n")
        stdout.flush()


def read(path: str) -> bytes:
    """The raw message in a file, up to a byte more than is ever analysed."""
    with Path(path).open("rb") as file:
        return file.read(MAX_MESSAGE_BYTES + 1)


def _encoded(answer: dict[str, Any]) -> str:
    # ASCII, so that a lone surrogate from a broken header cannot break the pipe.
    return json.dumps(answer, ensure_ascii=True)


def explain(analysis: Analysis) -> str:
    """What a person wants to know about a message: what it is, what was cut, why, how sure."""
    parsed, verdict = analysis.parsed, analysis.verdict
    out = [
        f"Kind        {verdict.kind} ({verdict.certainty:.0%} sure)",
        *(f"            because {reason}" for reason in analysis.reasons),
        f"From        {_shown(parsed.sender)}",
        f"Subject     {parsed.subject}",
        f"Date        {parsed.date.isoformat() if parsed.date else 'none that can be read'}",
    ]
    if analysis.language:
        out.append(f"Language    {analysis.language}")
    for bounce in analysis.bounces:
        state = "hard" if bounce.hard else "delayed" if bounce.delayed else "soft"
        out.append(f"Bounce      {bounce.recipient}: {bounce.reason}, {state}, {bounce.status}")
    if analysis.complaint:
        out.append(f"Complaint   {analysis.complaint.feedback_type}")
    if analysis.auto_reply:
        returns = analysis.auto_reply.return_date
        out.append(f"Automatic   {f'back on {returns.isoformat()}' if returns else 'no day named'}")
    if analysis.unsubscribe:
        out.append("Unsubscribe the author wants no more mail")
    if analysis.forward:
        out.append(
            f"Forward     from {_shown(analysis.forward.sender)}: {analysis.forward.subject}"
        )
    card = analysis.contact
    told = (card.name, card.title, card.company, *card.phones, *card.emails, *card.urls)
    if any(told):
        out.append("Contact     " + ", ".join(field for field in told if field))
    for hop in hops(parsed):
        late = f", {hop.delay_seconds:.0f} s later" if hop.delay_seconds else ""
        out.append(f"Way         {hop.sender or 'somebody'} → {hop.by}{late}")
    for name in parsed.defects:
        out.append(f"Defect      {name}")
    for title, text in (
        ("What the author wrote", analysis.reply_text),
        ("Signature", analysis.signature),
        (f"Cut as older text ({analysis.quote_certainty:.0%} sure)", analysis.removed),
    ):
        if text:
            out += ["", f"--- {title} ---", text]
    return "".join(c if c.isprintable() or c == "\n" else " " for c in "\n".join(out))


def _shown(mailbox: Mailbox | None) -> str:
    if mailbox is None:
        return "nobody"
    return f"{mailbox.name} <{mailbox.address}>" if mailbox.name else mailbox.address

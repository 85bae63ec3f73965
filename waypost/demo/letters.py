"""What the people of the demo's world write: replies, forwards, absence notes, bounces, complaints.

Each is built as a mail program or a mail server would build it, with the message it answers quoted.
"""

from __future__ import annotations

import email
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP, default
from email.utils import format_datetime, parseaddr


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that somebody in the world received."""

    mail_from: str
    rcpt_to: str
    raw: bytes
    parsed: EmailMessage = field(repr=False)

    @property
    def message_id(self) -> str:
        return str(self.parsed["Message-ID"] or "").strip()

    @property
    def subject(self) -> str:
        return str(self.parsed["Subject"] or "")

    @property
    def reply_to(self) -> str:
        return parseaddr(str(self.parsed["Reply-To"] or self.parsed["From"]))[1]

    @property
    def sender(self) -> str:
        return parseaddr(str(self.parsed["From"]))[1]

    @property
    def text(self) -> str:
        part = self.parsed.get_body(("plain",))
        return str(part.get_content()) if part is not None else ""

    @property
    def html(self) -> str:
        part = self.parsed.get_body(("html",))
        return str(part.get_content()) if part is not None else ""

    @property
    def bulk(self) -> bool:
        """Whether it is a letter of a sequence: only those can be unsubscribed from."""
        return "List-Unsubscribe" in self.parsed

    def links(self) -> list[str]:
        """Every link of the HTML part, in order."""
        return [link.replace("&amp;", "&") for link in re.findall(r'href="(http[^"]+)"', self.html)]

    def link_to(self, path: str) -> str:
        """The first link to this path of the public host, from either part; "" if none."""
        for link in (*self.links(), *re.findall(r"https?://\S+", self.text)):
            if path in link:
                return str(link).rstrip(".)>")
        return ""

    def unsubscribe_url(self) -> str:
        """The URL of the List-Unsubscribe header (RFC 2369)."""
        found = re.search(r"<(https?://[^>]+)>", str(self.parsed["List-Unsubscribe"] or ""))
        return found[1] if found else ""


def read_letter(mail_from: str, rcpt_to: str, raw: bytes) -> Letter:
    """A received message."""
    parsed = email.message_from_bytes(raw, policy=default)
    assert isinstance(parsed, EmailMessage)
    return Letter(mail_from, rcpt_to, raw, parsed)


def reply(letter: Letter, person: str, name: str, words: str, *, number: int = 1) -> bytes:
    """An answer above the quotation, as most mail programs make it."""
    quoted = "\n".join(f"> {line}" for line in letter.text.splitlines())
    when = datetime.now(UTC).strftime("%a, %d %b %Y at %H:%M")
    message = _new(person, name, letter.reply_to, f"Re: {letter.subject}", number)
    message["In-Reply-To"] = letter.message_id
    message["References"] = f"{letter.parsed['References'] or ''} {letter.message_id}".strip()
    message.set_content(f"{words}\n\nOn {when}, {letter.sender} wrote:\n{quoted}\n")
    return message.as_bytes(policy=SMTP)


def absence(letter: Letter, person: str, name: str, words: str) -> bytes:
    """An automatic answer (RFC 3834)."""
    message = _new(person, name, letter.reply_to, f"Automatic reply: {letter.subject}", 1)
    message["In-Reply-To"] = letter.message_id
    message["Auto-Submitted"] = "auto-replied"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(words + "\n")
    return message.as_bytes(policy=SMTP)


def forward(letter: Letter, person: str, name: str, friend: str, copy_to: str, note: str) -> bytes:
    """A message passed on to a friend, with the appliance in copy."""
    message = _new(person, name, friend, f"Fwd: {letter.subject}", 1)
    message["Cc"] = copy_to
    message.set_content(
        f"{note}\n\n---------- Forwarded message ---------\nFrom: {letter.parsed['From']}\n"
        f"Date: {letter.parsed['Date']}\nSubject: {letter.subject}\nTo: <{person}>\n\n"
        f"{letter.text}\n"
    )
    return message.as_bytes(policy=SMTP)


def bounce(letter: Letter, server: str) -> bytes:
    """A delivery status notification for a mailbox that is gone (RFC 3464)."""
    message = EmailMessage()
    message["From"] = f"Mail Delivery System <MAILER-DAEMON@{server}>"
    message["To"] = letter.mail_from
    message["Subject"] = "Undelivered Mail Returned to Sender"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<dsn-{letter.message_id.strip('<>').partition('@')[0]}@{server}>"
    message["Auto-Submitted"] = "auto-replied"
    message["MIME-Version"] = "1.0"
    boundary = "=_dsn_boundary"
    message["Content-Type"] = (
        f'multipart/report; report-type=delivery-status; boundary="{boundary}"'
    )
    headers = letter.raw.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    parts = [
        f"--{boundary}\r\nContent-Type: text/plain\r\n\r\n"
        f"I could not deliver your message to {letter.rcpt_to}: the mailbox is gone.\r\n",
        f"--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; {server}\r\n\r\nFinal-Recipient: rfc822; {letter.rcpt_to}\r\n"
        "Action: failed\r\nStatus: 5.1.1\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n",
        f"--{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n{headers}\r\n",
        f"--{boundary}--\r\n",
    ]
    head = message.as_bytes(policy=SMTP).partition(b"\r\n\r\n")[0]
    return head + b"\r\n\r\n" + "".join(parts).encode("utf-8", "replace")


def complaint(letter: Letter, provider: str, to: str) -> bytes:
    """An abuse report of a mailbox provider (RFC 5965)."""
    boundary = "=_arf_boundary"
    raw = letter.raw.decode("utf-8", "replace")
    return (
        f"From: complaints@{provider}\r\nTo: {to}\r\nSubject: Abuse report\r\n"
        f"Date: {format_datetime(datetime.now(UTC))}\r\n"
        f"Message-ID: <arf-{letter.message_id.strip('<>').partition('@')[0]}@{provider}>\r\n"
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=feedback-report; boundary="{boundary}"\r\n'
        f"\r\n--{boundary}\r\nContent-Type: text/plain\r\n\r\nThis is an abuse report.\r\n"
        f"--{boundary}\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n"
        "User-Agent: world/1.0\r\nVersion: 1\r\n"
        f"Original-Rcpt-To: <{letter.rcpt_to}>\r\n"
        f"\r\n--{boundary}\r\nContent-Type: message/rfc822\r\n\r\n{raw}\r\n--{boundary}--\r\n"
    ).encode("utf-8", "replace")


def approval(letter: Letter, rep: str, name: str, words: str, *, number: int = 1) -> bytes:
    """A rep's answer to the notice of a draft."""
    return reply(letter, rep, name, words, number=number)


def _new(person: str, name: str, to: str, subject: str, number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"{name} <{person}>"
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.now(UTC))
    stamp = re.sub(r"\W+", "", f"{person}{subject}{to}")[-90:]
    message["Message-ID"] = f"<{stamp}.{number}@{person.partition('@')[2]}>"
    return message

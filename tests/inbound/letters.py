"""Builds the invented messages that the tests of this package read."""

from __future__ import annotations

from email.message import EmailMessage

_ORIGINAL = "Message-ID: <sent-1@ours.test>\nTo: carl@there.test\nSubject: Offer\n\nHi"


def letter(
    text: str = "",
    *,
    html: str = "",
    subject: str = "Re: Your offer",
    sender: str = "Ann Example <ann@example.test>",
    to: str = "bo@ours.test",
    **headers: str,
) -> bytes:
    """A message from Ann; keyword `In_Reply_To` becomes the header In-Reply-To."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = headers.pop("Date", "Mon, 16 Dec 2024 09:00:00 +0100")
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    if text or not html:
        message.set_content(text)
        if html:
            message.add_alternative(html, subtype="html")
    else:
        message.set_content(html, subtype="html")
    return message.as_bytes()


def report(status: str, *, note: str = "It failed.", original: str = "", kind: str = "") -> bytes:
    """A multipart/report with the given machine-readable part."""
    part = "feedback-report" if kind else "delivery-status"
    original = original or _ORIGINAL
    return (
        "From: Mail Delivery System <MAILER-DAEMON@mx.test>\n"
        "To: bo@ours.test\nSubject: Undelivered Mail Returned to Sender\n"
        "MIME-Version: 1.0\n"
        f"Content-Type: multipart/report; report-type={kind or 'delivery-status'}; boundary=cut\n\n"
        f"--cut\n\n{note}\n--cut\n"
        f"Content-Type: message/{part}\n\n{status}\n"
        f"--cut\nContent-Type: message/rfc822\n\n{original}\n"
        "--cut--\n"
    ).encode()

"""What a mail server says: code, enhanced status, text (RFC 5321 §4.2, RFC 3463)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply of a server; `text` has no code and no line ends."""

    code: int
    text: str
    enhanced: str = ""

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


def split_enhanced(text: str) -> tuple[str, str]:
    """The enhanced status code at the head of a reply text, if there is one, and the rest."""
    head, _, rest = text.partition(" ")
    numbers = head.split(".")
    if len(numbers) == 3 and numbers[0] in {"2", "4", "5"} and all(n.isdigit() for n in numbers):
        return head, rest
    return "", text

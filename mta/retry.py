"""When to try again after a delivery attempt that failed for now, and what a refusal means.

The wait starts at `first` and doubles up to `longest`; what a reply was about makes both shorter
or longer. A message older than `give_up_after` is
given up: RFC 5321 §4.5.4.1 asks for at least four to five days of trying, and people want to hear
of a failure while it still matters.

Pure: reads no clock, database or network.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b

from mail.smtp_reply import SmtpReply


class State(StrEnum):
    """Where a delivery stands."""

    QUEUED = "queued"
    SENDING = "sending"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SKIPPED = "skipped"
    UNCERTAIN = "uncertain"
    HELD = "held"


WAITING = (State.QUEUED, State.DEFERRED, State.UNCERTAIN)
"""States that are sent from when they are due."""

OPEN = (*WAITING, State.SENDING, State.HELD)
"""States that are not the last."""


class BounceClass(StrEnum):
    """Why a delivery failed for good."""

    BAD_MAILBOX = "bad mailbox"
    BAD_DOMAIN = "bad domain"
    POLICY = "policy"
    CONTENT = "content"
    TOO_BIG = "too big"
    FULL = "mailbox full"
    EXPIRED = "expired"
    OTHER = "other"

    @property
    def hard(self) -> bool:
        """Whether the address itself is no good, so that nothing is ever sent there again.

        A block (5.7.x) says something about us, never about the person.
        """
        return self in {BounceClass.BAD_MAILBOX, BounceClass.BAD_DOMAIN}


_CLASSES: tuple[tuple[str, BounceClass], ...] = (
    ("5.1.0", BounceClass.OTHER),
    ("5.1.1", BounceClass.BAD_MAILBOX),
    ("5.1.2", BounceClass.BAD_DOMAIN),
    ("5.1.3", BounceClass.BAD_MAILBOX),
    ("5.1.6", BounceClass.BAD_MAILBOX),
    ("5.1.10", BounceClass.BAD_DOMAIN),
    ("5.2.1", BounceClass.BAD_MAILBOX),
    ("5.2.2", BounceClass.FULL),
    ("5.2.3", BounceClass.TOO_BIG),
    ("5.3.4", BounceClass.TOO_BIG),
    ("5.4.4", BounceClass.BAD_DOMAIN),
    ("5.6", BounceClass.CONTENT),
    ("5.7", BounceClass.POLICY),
)
"""RFC 3463 §3 and RFC 7505 §4.2, the longest that fits wins."""

_UNKNOWN_USER = (
    "user unknown",
    "unknown user",
    "no such user",
    "no such recipient",
    "mailbox unavailable",
    "mailbox not found",
    "does not exist",
    "unknown recipient",
    "recipient unknown",
    "invalid recipient",
)


def bounce_class(reply: SmtpReply, *, at_recipient: bool) -> BounceClass:
    """What a 5xx says. `at_recipient` if it answered RCPT, the only place a 550 alone means it."""
    parts = reply.enhanced.split(".")
    for length in (3, 2):
        found = dict(_CLASSES).get(".".join(parts[:length])) if len(parts) == 3 else None
        if found is not None:
            return found
    text = reply.text.lower()
    if at_recipient and reply.code in {550, 551, 553} and not reply.enhanced:
        unknown = any(words in text for words in _UNKNOWN_USER)
        return BounceClass.BAD_MAILBOX if unknown else BounceClass.OTHER
    return {552: BounceClass.TOO_BIG, 554: BounceClass.POLICY}.get(reply.code, BounceClass.OTHER)


class ReplyClass(StrEnum):
    """What a temporary failure was about, as far as the time of the next attempt goes."""

    OTHER = "other"
    GREYLISTED = "greylisted"
    MAILBOX_FULL = "mailbox full"
    SLOW_DOWN = "slow down"
    BLOCKED = "blocked"
    NO_CONNECTION = "no connection"


_PATIENCE: dict[ReplyClass, tuple[float, float]] = {
    # Greylisting lets through who comes back after some minutes (RFC 6647 §4.4): 2, 4, 8 ... 30.
    ReplyClass.GREYLISTED: (0.4, 0.125),
    # A person has to empty it: an hour, then up to twelve.
    ReplyClass.MAILBOX_FULL: (12.0, 3.0),
    # The site's own pace spreads these; a longer wait would only put newer mail before them.
    ReplyClass.SLOW_DOWN: (1.0, 0.5),
    # Somebody has to write to a postmaster: half an hour, then up to six.
    ReplyClass.BLOCKED: (6.0, 1.5),
    # The site is probed with one delivery; when it is back, the others should not lie for hours.
    ReplyClass.NO_CONNECTION: (1.0, 0.25),
}
"""Multiples of `first` and `longest`; the figures in the comments are those of the defaults."""

JITTER = 0.1
"""Share by which a wait is longer or shorter: what failed together must not come together."""


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Growing waits with an end."""

    first: timedelta = timedelta(minutes=5)
    longest: timedelta = timedelta(hours=4)
    give_up_after: timedelta = timedelta(days=5)

    def wait(
        self, attempts: int, reply_class: ReplyClass = ReplyClass.OTHER, key: str = ""
    ) -> timedelta:
        """How long to wait after this many attempts.

        With a `key` (the delivery's id) the wait is up to a tenth shorter or longer, always by the
        same share for the same key and number.
        """
        first, longest = _PATIENCE.get(reply_class, (1.0, 1.0))
        doubled = self.first * first * (1 << min(max(attempts - 1, 0), 20))
        wait = min(doubled, max(self.longest * longest, self.first * first))
        return wait * _jitter(key, attempts) if key else wait

    def next_attempt(
        self,
        *,
        attempts: int,
        expires: datetime,
        now: datetime,
        reply_class: ReplyClass = ReplyClass.OTHER,
        key: str = "",
    ) -> datetime | None:
        """When to try again, or None if it would be too late."""
        again = now + self.wait(attempts, reply_class, key)
        return again if again < expires else None


def _jitter(key: str, attempts: int) -> float:
    digest = blake2b(f"{key}/{attempts}".encode(), digest_size=4).digest()
    return 1 - JITTER + 2 * JITTER * int.from_bytes(digest, "big") / (1 << 32)

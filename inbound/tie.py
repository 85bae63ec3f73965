"""Which message of ours an arrived one answers.

First the token in the address that it came to, then the Message-IDs it names, then sender and
subject together. What fits nothing, or several threads alike, is left to a person, with the
candidates. `decide` is pure; `find_candidates` asks the store for the few messages that matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.address import parse_address
from mail.tokens import Token, TokenKeys, TokenKind, TokenProblem
from storage.tables import Contact, Message

MAX_REFERENCES = 30
"""Message-IDs that are looked up; the newest stand at the end of References (RFC 5322 §3.6.4)."""

MAX_CANDIDATES = 20
RECENT = timedelta(days=120)
"""How far back sender and subject alone may reach."""

_OF_A_MESSAGE = frozenset(
    {TokenKind.REPLY, TokenKind.BOUNCE, TokenKind.FORWARD, TokenKind.UNSUBSCRIBE}
)
MAX_SEARCHED_BYTES = 1 << 20
_LOCAL_PART = re.compile(rb"\b([rbfuRBFU]-[a-zA-Z2-7]{55})(?=@)")
_PREFIX = re.compile(r"\s*(?:\[[^\]]{1,30}\]|\w{1,8}\s?(?:[\[(]\d{1,3}[\])])?\s?[::])\s*")


class How(StrEnum):
    """What tied a message, the surest first."""

    TOKEN = "token"
    REFERENCES = "references"
    SENDER = "sender and subject"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class Clue:
    """What an arrived message says about what it answers. `sender` is canonical.

    `tokens` are those of the receiving company; `references` are without angle brackets, the
    nearest first.
    """

    tokens: tuple[Token, ...] = ()
    references: tuple[str, ...] = ()
    sender: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message that we sent."""

    id: UUID
    thread_id: UUID
    recipient: str
    subject: str
    rfc_message_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Tie:
    """The message that is answered, or None; `others` are what a person may choose from."""

    answers: UUID | None
    how: How
    certainty: float
    reasons: tuple[str, ...]
    others: tuple[UUID, ...] = ()


def read_tokens(
    recipients: Sequence[str], keys: TokenKeys, company: int
) -> tuple[tuple[Token, ...], tuple[str, ...]]:
    """The tokens of this company among the addresses, and what is wrong with other ones."""
    found: list[Token] = []
    problems: list[str] = []
    for recipient in recipients:
        local = recipient.strip().strip("<>").rpartition("@")[0]
        token = keys.read_local_part(local)
        if isinstance(token, Token):
            if token.company == company:
                found.append(token)
            else:
                problems.append(f"the token in {local[:12]}… belongs to somebody else")
        elif token is not TokenProblem.NOT_A_TOKEN:
            problems.append(f"the token in {local[:12]}… is not valid: {token}")
    return tuple(dict.fromkeys(found)), tuple(dict.fromkeys(problems))


def tokens_within(raw: bytes, keys: TokenKeys, company: int) -> tuple[Token, ...]:
    """Tokens of this company in addresses anywhere in a message, as in the original that a report
    encloses. Whoever has one has seen our message.
    """
    found = dict.fromkeys(_LOCAL_PART.findall(raw[:MAX_SEARCHED_BYTES]))
    local_parts = [local.decode("ascii") for local in list(found)[:MAX_REFERENCES]]
    return read_tokens([f"{local}@" for local in local_parts], keys, company)[0]


def base_subject(subject: str) -> str:
    """A subject without the prefixes of replies and forwards, in any language, for comparing.

    Up to six short words before a colon go, so "News: tea" becomes "tea" too; both sides are
    treated alike, and the sender has to fit as well.
    """
    text = unicodedata.normalize("NFKC", subject[:1000]).casefold()
    for _ in range(6):
        match = _PREFIX.match(text)
        if match is None or match.end() == len(text):
            break
        text = text[match.end() :]
    return " ".join(text.split())


def decide(clue: Clue, candidates: Sequence[Candidate]) -> Tie:
    """The tie of an arrived message, given what we sent that could fit."""
    by_id = {candidate.id: candidate for candidate in candidates}
    for token in clue.tokens:
        if token.kind in _OF_A_MESSAGE and token.subject in by_id:
            return _tied(
                by_id[token.subject], How.TOKEN, 1.0, f"its {token.kind.name.lower()} address", clue
            )
    reasons: list[str] = []
    if any(token.kind in _OF_A_MESSAGE for token in clue.tokens):
        reasons.append("the token is ours, but its message is not there any more")
    by_name = {_bare(c.rfc_message_id): c for c in candidates if c.rfc_message_id}
    for reference in clue.references:
        if _bare(reference) in by_name:
            there = by_name[_bare(reference)]
            known = there.recipient.lower() == clue.sender
            return _tied(
                there, How.REFERENCES, 0.95 if known else 0.8, "the message it names", clue
            )
    theirs = [c for c in candidates if clue.sender and c.recipient.lower() == clue.sender]
    theirs.sort(key=lambda candidate: candidate.created_at, reverse=True)
    subject = base_subject(clue.subject)
    fitting = [c for c in theirs if subject and base_subject(c.subject) == subject]
    if fitting and len({candidate.thread_id for candidate in fitting}) == 1:
        return _tied(fitting[0], How.SENDER, 0.7, "its sender and subject", clue)
    if fitting:
        reasons.append("several threads with this sender have this subject")
    elif theirs:
        reasons.append("we wrote to this sender, but under other subjects")
    else:
        reasons.append("nothing that we sent fits")
    return Tie(None, How.NONE, 0.0, tuple(reasons), tuple(c.id for c in fitting or theirs))


def _tied(candidate: Candidate, how: How, certainty: float, reason: str, clue: Clue) -> Tie:
    reasons = [f"tied by {reason}"]
    if clue.sender and candidate.recipient.lower() != clue.sender:
        reasons.append("written by somebody other than the person we wrote to")
    return Tie(candidate.id, how, certainty, tuple(reasons))


def _bare(name: str) -> str:
    return name.strip().strip("<>")


async def find_candidates(session: AsyncSession, clue: Clue, *, now: datetime) -> list[Candidate]:
    """Messages of the session's company that `decide` may choose from; asks no more than needed."""
    ids = [token.subject for token in clue.tokens if token.kind in _OF_A_MESSAGE]
    if ids and (found := await _sent(session, Message.id.in_(ids))):
        return found
    names = [_bare(name) for name in clue.references[:MAX_REFERENCES] if len(name) < 1000]
    if names:
        # With brackets or without: as the message was written.
        both = [*names, *(f"<{name}>" for name in names)]
        if found := await _sent(session, Message.rfc_message_id.in_(both)):
            return found
    sender = parse_address(clue.sender)
    if sender is None:
        return []
    contacts = select(Contact.id).where(Contact.address == sender.canonical)
    return await _sent(
        session, Message.contact_id.in_(contacts), Message.created_at >= now - RECENT
    )


async def _sent(session: AsyncSession, *conditions: ColumnElement[bool]) -> list[Candidate]:
    query = (
        select(
            Message.id,
            Message.thread_id,
            Message.recipient,
            Message.subject,
            Message.rfc_message_id,
            Message.created_at,
        )
        .where(Message.direction == "out", *conditions)
        .order_by(Message.created_at.desc())
        .limit(MAX_CANDIDATES)
    )
    return [Candidate(*row) for row in (await session.execute(query)).all()]

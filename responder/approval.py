"""A person's decision about a draft: one way for mail and console, and it counts once.

The draft's state moves by compare-and-set in the transaction that orders the answer. Who comes
second changes nothing and learns who was first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mta.accounts import domain_of
from mta.recipients import is_suppressed
from mta.submission import Order, submit
from responder.draft import GAP_MARK
from storage.tables import Contact, Draft, Message, User

MAX_ANSWER = 100_000
"""Characters of an answer."""

MAX_NOTE = 2_000


class Result(StrEnum):
    """What became of a decision."""

    APPROVED = "approved"
    REJECTED = "rejected"
    ALREADY = "already decided"
    GAPS = "has gaps"
    EMPTY = "is empty"
    TOO_LONG = "is too long"
    UNWANTED = "must not be written to"
    NOT_ALLOWED = "not allowed"
    NOT_FOUND = "not found"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result, who decided and when (also if that was somebody before), and it in words."""

    result: Result
    says: str
    state: str = ""
    by: UUID | None = None
    by_name: str = ""
    at: datetime | None = None
    response: UUID | None = None

    @property
    def done(self) -> bool:
        """Whether this decision is the one that counts."""
        return self.result in (Result.APPROVED, Result.REJECTED)


async def approve(
    session: AsyncSession,
    draft_id: UUID,
    *,
    user: User,
    via: str,
    text: str | None = None,
    now: datetime,
) -> Outcome:
    """Sends the draft, or `text` in its place. `via` is mail or console."""
    draft = await _draft(session, draft_id)
    if draft is None:
        return Outcome(Result.NOT_FOUND, "There is no such draft.")
    if not may_decide(user, draft):
        return _not_allowed(user)
    if draft.state != "proposed":
        return await _already(session, draft)
    words = draft.text if text is None else text.strip()
    if refused := _unfit(draft, words, edited=text is not None):
        return refused
    contact = (await session.scalars(select(Contact).where(Contact.id == draft.contact_id))).one()
    incoming = (await session.scalars(select(Message).where(Message.id == draft.message_id))).one()
    if await is_suppressed(session, contact.address):
        says = f"{contact.name or 'The contact'} asked not to be written to. Nothing was sent."
        return Outcome(Result.UNWANTED, says, draft.state)
    decided = {"state": "approved", "sent_text": words}
    if not await _decide(session, draft, user, via, now, **decided):
        return await _already(session, draft)
    response = await submit(
        session, await _order(session, draft, user, contact, incoming, words), now=now
    )
    await session.execute(
        update(Draft)
        .where(Draft.id == draft.id)
        .values(response_id=response.id)
        .execution_options(synchronize_session=False)
    )
    await _tell(session, Kind.DRAFT_APPROVED, draft, incoming, user, now)
    await session.refresh(draft)
    says = f"Approved by {user.name}; the answer is on its way to {contact.address}."
    return Outcome(Result.APPROVED, says, "approved", user.id, user.name, now, response.id)


async def reject(
    session: AsyncSession, draft_id: UUID, *, user: User, via: str, note: str, now: datetime
) -> Outcome:
    """Nothing is sent; `note` says why."""
    draft = await _draft(session, draft_id)
    if draft is None:
        return Outcome(Result.NOT_FOUND, "There is no such draft.")
    if not may_decide(user, draft):
        return _not_allowed(user)
    note = note.strip()[:MAX_NOTE]
    if not await _decide(session, draft, user, via, now, state="rejected", note=note):
        return await _already(session, draft)
    incoming = (await session.scalars(select(Message).where(Message.id == draft.message_id))).one()
    await _tell(session, Kind.DRAFT_REJECTED, draft, incoming, user, now)
    await session.refresh(draft)
    says = f"Rejected by {user.name}; nothing was sent."
    return Outcome(Result.REJECTED, says, "rejected", user.id, user.name, now)


async def supersede(
    session: AsyncSession, contact_id: UUID, *, but_for: UUID, before: datetime
) -> int:
    """Open drafts for replies of a contact older than `before` give way to a newer reply."""
    older = (
        select(Draft.id)
        .join(Message, Message.id == Draft.message_id)
        .where(
            Draft.contact_id == contact_id,
            Draft.state == "proposed",
            Draft.message_id != but_for,
            Message.created_at <= before,
        )
    )
    ids = list(await session.scalars(older))
    if not ids:
        return 0
    changed = await session.execute(
        update(Draft)
        .where(Draft.id.in_(ids), Draft.state == "proposed")
        .values(state="superseded")
        .execution_options(synchronize_session=False)
    )
    return int(getattr(changed, "rowcount", 0))


def may_decide(user: User, draft: Draft) -> bool:
    """The draft's own rep, and managers and owners of the company."""
    if user.company_id != draft.company_id or user.disabled_at is not None:
        return False
    return user.id == draft.user_id or user.role in ("owner", "manager")


class Wish(StrEnum):
    """What a rep's mail about a draft wants."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    UNCLEAR = "unclear"


_YES = frozenset({"ok", "okay", "yes", "approve", "approved", "send", "ja", "oui", "si", "sí"})
_NO = frozenset({"no", "reject", "rejected", "nein", "non"})
_BUT = re.compile(
    r"\b(but|however|except|instead|change|replace|remove|only if|not|don't|aber|nicht|mais|pero)"
    r"\b",
    re.IGNORECASE,
)
MAX_AFTER_OK = 12
"""Words after an "ok" that may be a greeting or a name; more would be something to send."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A rep's mail, understood. `text` is the reason of a no, or the answer to send."""

    wish: Wish
    text: str = ""


def read_answer(words: str) -> Answer:
    """What the new words of a rep's mail want.

    An "ok" with a condition ("ok, but change the price") is unclear: to send the draft as it is
    would be as wrong as to send the remark to the customer.
    """
    words = words.strip()[:MAX_ANSWER]
    first = re.match(r"[\W_]*([^\W\d_]+)", words)
    if first is None:
        return Answer(Wish.UNCLEAR)
    word, rest = first[1].casefold(), words[first.end() :].lstrip(" \t.,:;!–—-")
    if word in _NO:
        return Answer(Wish.REJECT, rest.strip()[:MAX_NOTE])
    if word not in _YES:
        return Answer(Wish.EDIT, words)
    if _BUT.search(rest) or len(rest.split()) > MAX_AFTER_OK:
        return Answer(Wish.UNCLEAR)
    return Answer(Wish.APPROVE)


async def _draft(session: AsyncSession, draft_id: UUID) -> Draft | None:
    found = select(Draft).where(Draft.id == draft_id)
    return (await session.scalars(found)).one_or_none()


def _unfit(draft: Draft, words: str, *, edited: bool) -> Outcome | None:
    if not words.strip():
        return Outcome(Result.EMPTY, "The answer is empty.", draft.state)
    if len(words) > MAX_ANSWER:
        says = f"The answer is longer than {MAX_ANSWER} characters."
        return Outcome(Result.TOO_LONG, says, draft.state)
    if GAP_MARK in words or (draft.gaps and not edited):
        says = "The draft has gaps that the library could not fill. Fill them in and approve that."
        return Outcome(Result.GAPS, says, draft.state)
    return None


def _not_allowed(user: User) -> Outcome:
    says = f"{user.name} is neither the rep of this draft nor a manager of its company."
    return Outcome(Result.NOT_ALLOWED, says)


async def _already(session: AsyncSession, draft: Draft) -> Outcome:
    await session.refresh(draft)
    decider = None
    if draft.decided_by is not None:
        found = select(User).where(User.id == draft.decided_by)
        decider = (await session.scalars(found)).one_or_none()
    name = decider.name if decider else ""
    if draft.state == "superseded":
        says = "A newer reply of this person has taken the place of this draft."
    else:
        when = f"{draft.decided_at:%Y-%m-%d %H:%M} UTC" if draft.decided_at else "before"
        says = f"This draft was {draft.state} by {name or 'somebody'} on {when}."
    return Outcome(
        Result.ALREADY, says, draft.state, draft.decided_by, name, draft.decided_at,
        draft.response_id,
    )  # fmt: skip


async def _decide(
    session: AsyncSession, draft: Draft, user: User, via: str, now: datetime, **changes: Any
) -> bool:
    changed = await session.execute(
        update(Draft)
        .where(Draft.id == draft.id, Draft.state == "proposed")
        .values(decided_by=user.id, decided_at=now, decided_via=via, **changes)
        .execution_options(synchronize_session=False)
    )
    return bool(getattr(changed, "rowcount", 0))


async def _order(
    session: AsyncSession, draft: Draft, user: User, contact: Contact, incoming: Message, words: str
) -> Order:
    rep = user
    if draft.user_id is not None and draft.user_id != user.id:
        # A manager approves, but the person hears from the rep that they know.
        owner = select(User).where(User.id == draft.user_id, User.disabled_at.is_(None))
        rep = (await session.scalars(owner)).one_or_none() or user
    sender = rep.email
    if await domain_of(session, sender) is None:
        answered = (
            (
                await session.scalars(select(Message).where(Message.id == incoming.answers_id))
            ).one_or_none()
            if incoming.answers_id
            else None
        )
        sender = answered.sender if answered else sender
    return Order(
        key=f"draft:{draft.id}",
        kind="answer",
        sender=sender,
        sender_name=rep.name,
        recipient=contact.address,
        recipient_name=contact.name,
        subject=draft.subject,
        text=words.rstrip() + "\n",
        contact_id=contact.id,
        user_id=rep.id,
        campaign=incoming.campaign,
        enrolment_id=incoming.enrolment_id,
        draft_id=draft.id,
        answers_id=incoming.id,
        thread_id=incoming.thread_id,
        in_reply_to=incoming.rfc_message_id,
        references=incoming.references,
        lane=0,
        literal=True,
    )


async def _tell(
    session: AsyncSession, kind: Kind, draft: Draft, incoming: Message, user: User, now: datetime
) -> None:
    await publish(
        session,
        kind,
        contact=draft.contact_id,
        message=draft.message_id,
        enrolment=incoming.enrolment_id,
        user=user.id,
        occurred_at=now,
        draft=str(draft.id),
    )

"""Writes down what arrived: the message, what it changes, and the event, in one transaction.

Called with a session of the receiving company and what `service` has found out before. Everything
is decided by then, so nothing here waits for another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from inbound.analysis import Analysis
from inbound.authentication import Verdict
from inbound.bounce import Bounce
from inbound.purpose import Person, Purpose
from inbound.stream import as_json
from inbound.tie import How, Tie
from mail.address import parse_address
from mail.ids import uuid7
from mail.tokens import Token, TokenKind
from mta.preferences import live_topics, unsubscribe_scope
from mta.recipients import find_contact, suppress
from storage.sessions import insert_new
from storage.tables import Arrival, Company, Draft, Message, User

MAX_SUBJECT = 1000
MAX_REFERENCES = 20
MAX_KEPT_TEXT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """All that is known about an arrival before it is filed."""

    analysis: Analysis
    verdict: Verdict
    tie: Tie
    purpose: Purpose
    fingerprint: str
    tokens: tuple[Token, ...] = ()
    notes: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()

    @property
    def sender(self) -> str:
        """The canonical address in From; empty if there is none."""
        mailbox = self.analysis.parsed.sender
        address = parse_address(mailbox.address) if mailbox else None
        return address.canonical if address else ""

    def token(self, kind: TokenKind) -> Token | None:
        """The first token of a kind."""
        return next((token for token in self.tokens if token.kind is kind), None)


@dataclass(slots=True)
class _Filed:
    """What the message's row says beside its content."""

    id: UUID
    kind: str
    state: str = "tied"
    contact: UUID | None = None
    user: UUID | None = None
    draft: UUID | None = None
    answered: Message | None = None
    extra: dict[str, Any] = field(default_factory=dict)


async def hold(session: AsyncSession, arrival: Arrival, cause: str, *, now: datetime) -> None:
    """Keeps an arrival that could not be understood, with its cause, for a person to look at."""
    key = uuid7()
    session.add(
        Message(
            id=key,
            direction="in",
            kind="other",
            state="held",
            thread_id=key,
            sender=arrival.mail_from[:320],
            recipient=str(next(iter(arrival.recipients), ""))[:320],
            subject="",
            rfc_message_id="",
            parsed={"cause": _clean(cause)},
            spool=arrival.spool or None,
            created_at=arrival.received_at,
        )
    )
    await session.flush()
    await _mark(session, arrival, "held", cause, key)


async def file(session: AsyncSession, arrival: Arrival, found: Finding, *, now: datetime) -> None:
    """Files an arrival that was understood. The caller has claimed it."""
    filed = _Filed(uuid7(), str(found.purpose))
    if found.tie.answers is not None:
        filed.answered = await session.scalar(
            select(Message).where(Message.id == found.tie.answers, Message.direction == "out")
        )
    if filed.answered is not None:
        filed.contact = filed.answered.contact_id
    elif found.sender:
        contact = await find_contact(session, found.sender)
        filed.contact = contact.id if contact else None
    if found.purpose is Purpose.APPROVAL:
        await _find_approver(session, found, filed)
    elif found.purpose is Purpose.LOOP:
        filed.state = "held"
    elif filed.answered is None or not _is_for_a_contact(found, filed):
        filed.state = "review"
    row = _row(arrival, found, filed)
    if not await insert_new(session, Message, [row], unless=["company_id", "order_key"]):
        earlier = await session.scalar(
            select(Message.id).where(Message.order_key == row["order_key"])
        )
        await _mark(session, arrival, "done", f"We have had it before, as {earlier}.", earlier)
        return
    if filed.state == "held":
        cause = "It went round in a loop: " + "; ".join(found.notes or ("too many hops",))
        await _mark(session, arrival, "held", cause, filed.id)
        return
    await _mark(session, arrival, "done", "", filed.id)
    if filed.state == "review":
        await publish(
            session,
            Kind.UNTIED_RECEIVED,
            contact=filed.contact,
            message=filed.id,
            occurred_at=now,
            message_kind=filed.kind,
            candidates=[str(other) for other in found.tie.others],
        )
        return
    await _tell(session, found, filed, now)


def _is_for_a_contact(found: Finding, filed: _Filed) -> bool:
    """Whether the answered message went to a contact; delivery reports on others count too."""
    reports = (Purpose.BOUNCE, Purpose.DELAYED, Purpose.ABSENCE, Purpose.AUTOMATIC)
    return found.purpose in reports or filed.contact is not None


async def _find_approver(session: AsyncSession, found: Finding, filed: _Filed) -> None:
    token = found.token(TokenKind.APPROVAL)
    draft = await session.scalar(
        select(Draft).where(Draft.id == token.subject) if token else select(Draft).limit(0)
    )
    if draft is None:
        filed.state = "review"
        return
    user = await session.scalar(
        select(User).where(User.email == found.sender, User.disabled_at.is_(None))
    )
    filed.draft, filed.contact = draft.id, draft.contact_id
    filed.user = user.id if user else None


async def _tell(session: AsyncSession, found: Finding, filed: _Filed, now: datetime) -> None:
    answered = filed.answered
    about: dict[str, Any] = {
        "contact": filed.contact,
        "message": filed.id,
        "enrolment": answered.enrolment_id if answered else None,
        "occurred_at": now,
    }
    answers = str(answered.id) if answered else None
    match found.purpose:
        case Purpose.REPLY:
            await publish(
                session,
                Kind.REPLY_RECEIVED,
                **about,
                answers=answers,
                unsubscribe=found.analysis.unsubscribe,
                may_act=found.verdict.may_act,
                sender_differs=answered is not None and found.sender != answered.recipient.lower(),
            )
        case Purpose.FORWARD:
            # Whoever forwards from a second address does not invite their first one.
            already = answered.recipient.lower() if answered else ""
            people = [
                {"address": p.address, "name": p.name, "origin": {"found": p.where}}
                for p in found.people
                if p.address != already
            ]
            note = found.analysis.own_words or found.analysis.reply_text
            await publish(
                session,
                Kind.FORWARD_RECEIVED,
                **about,
                answers=answers,
                people=_clean(people),
                note=_clean(note)[:1000],
            )
        case Purpose.ABSENCE:
            auto = found.analysis.auto_reply
            back = auto.return_date.isoformat() if auto and auto.return_date else None
            await publish(
                session, Kind.ABSENCE_RECEIVED, **about, return_date=back, answers=answers
            )
        case Purpose.APPROVAL:
            await _approval(session, found, filed, about)
        case Purpose.BOUNCE | Purpose.COMPLAINT | Purpose.UNSUBSCRIBE if answered is not None:
            about["message"] = answered.id
            await _about_delivery(session, found, filed, answered, about, now)
        case _:
            pass  # Kept and shown; it changes nothing.


async def _approval(
    session: AsyncSession, found: Finding, filed: _Filed, about: dict[str, Any]
) -> None:
    verdict = found.verdict
    authenticated = filed.user is not None and verdict.acts_as == found.sender
    reasons = list(verdict.reasons)
    if filed.user is None:
        reasons.append(f"{found.sender or 'the sender'} is nobody who may approve here")
    reasons = _clean(reasons)
    event = await publish(
        session,
        Kind.APPROVAL_RECEIVED,
        **about,
        user=filed.user,
        reasons=reasons,
        draft=str(filed.draft),
        authenticated=authenticated,
    )
    # Names that `publish` takes for the event's own columns stand in the payload as well.
    user = str(filed.user) if filed.user else None
    event.payload = {**event.payload, "user": user, "reasons": reasons}
    await session.flush()


async def _about_delivery(
    session: AsyncSession,
    found: Finding,
    filed: _Filed,
    answered: Message,
    about: dict[str, Any],
    now: datetime,
) -> None:
    """A bounce, a complaint or a wish to stop by mail. Only sure ties suppress an address."""
    sure = found.tie.how in (How.TOKEN, How.REFERENCES)
    detail = {"report": str(filed.id), "message": str(answered.id)}
    if found.purpose is Purpose.BOUNCE:
        bounce = bounce_for(found.analysis.bounces, answered.recipient)
        hard = bounce is not None and bounce.hard and sure
        if hard:
            await suppress(session, answered.recipient, "bounced", now=now, detail=detail)
        payload: dict[str, Any] = {
            "class": str(bounce.reason) if bounce else "unknown",
            "hard": hard,
            "status": bounce.status if bounce else "",
            "report": str(filed.id),
        }
        await publish(session, Kind.BOUNCE_RECEIVED, **about, **payload)
    elif found.purpose is Purpose.COMPLAINT and sure:
        await suppress(session, answered.recipient, "complained", now=now, detail=detail)
        await publish(session, Kind.COMPLAINT_RECEIVED, **about, report=str(filed.id))
    elif found.purpose is Purpose.UNSUBSCRIBE and found.tie.how is How.TOKEN:
        firm = await session.get_one(Company, answered.company_id)
        scope = unsubscribe_scope(firm.policy, answered.campaign, await live_topics(session))
        new = await suppress(
            session, answered.recipient, "unsubscribed", now=now, detail=detail, scope=scope
        )
        if new and scope:
            payload = {"changed": {scope: False}, "how": "mail", "report": str(filed.id)}
            await publish(session, Kind.PREFERENCES_CHANGED, **about, **payload)
        elif new:
            await publish(session, Kind.UNSUBSCRIBED, **about, how="mail", report=str(filed.id))


def bounce_for(bounces: Sequence[Bounce], recipient: str) -> Bounce | None:
    """The entry of a report that is about our recipient.

    One entry under another name is the address that ours was forwarded to; of several such, none
    is taken for hard unless all are.
    """
    failed = [bounce for bounce in bounces if not bounce.delayed]
    for bounce in failed:
        if bounce.recipient.lower() == recipient.lower():
            return bounce
    return next((bounce for bounce in failed if not bounce.hard), failed[0] if failed else None)


async def _mark(
    session: AsyncSession, arrival: Arrival, state: str, cause: str, message: UUID | None
) -> None:
    await session.execute(
        update(Arrival)
        .where(Arrival.id == arrival.id)
        .values(state=state, cause=_clean(cause)[:2000], message_id=message)
    )


def _row(arrival: Arrival, found: Finding, filed: _Filed) -> dict[str, Any]:
    parsed, answered = found.analysis.parsed, filed.answered
    sender = parsed.sender
    ids = [*parsed.references, *parsed.in_reply_to]
    return {
        "id": filed.id,
        "direction": "in",
        "kind": filed.kind,
        "state": filed.state,
        "order_key": f"in:{found.fingerprint}",
        "contact_id": filed.contact,
        "user_id": filed.user,
        "draft_id": filed.draft,
        "campaign": answered.campaign if answered else "",
        "enrolment_id": answered.enrolment_id if answered else None,
        "step_id": answered.step_id if answered else None,
        "answers_id": answered.id if answered else None,
        "thread_id": answered.thread_id if answered else filed.id,
        "sender": _clean(found.sender or (sender.address if sender else arrival.mail_from))[:320],
        "sender_name": _clean(sender.name if sender else "")[:200],
        "recipient": _clean(str(next(iter(arrival.recipients), "")))[:320],
        "subject": _clean(parsed.subject)[:MAX_SUBJECT],
        "rfc_message_id": _clean(f"<{parsed.message_id}>" if parsed.message_id else "")[:1000],
        "references": _clean(" ".join(f"<{i}>" for i in dict.fromkeys(ids[-MAX_REFERENCES:]))),
        "body": _clean(found.analysis.own_words or found.analysis.reply_text),
        "parsed": _clean(_kept(found)),
        "spool": arrival.spool or None,
        "created_at": arrival.received_at,
    }


def _kept(found: Finding) -> dict[str, Any]:
    """The analysis as it is kept with the message, for the console's explanation."""
    analysis, tie = found.analysis, found.tie
    parsed = analysis.parsed
    return {
        **as_json(analysis),
        "reply_text": analysis.reply_text[:MAX_KEPT_TEXT],
        "removed": analysis.removed[:MAX_KEPT_TEXT],
        "disclaimer": analysis.disclaimer[:2000],
        "quote_certainty": analysis.quote_certainty,
        "certainty": analysis.verdict.certainty,
        "reasons": [*analysis.reasons, *found.notes],
        "language": analysis.language,
        "to": [{"name": m.name, "address": m.address} for m in parsed.to[:50]],
        "cc": [{"name": m.name, "address": m.address} for m in parsed.cc[:50]],
        "written_at": parsed.date.isoformat() if parsed.date else None,
        "attachments": [
            {"name": a.name, "type": a.content_type, "size_bytes": a.size_bytes}
            for a in parsed.attachments[:100]
        ],
        "defects": list(parsed.defects),
        "authentication": found.verdict.as_json(),
        "tie": {
            "how": str(tie.how),
            "certainty": tie.certainty,
            "reasons": list(tie.reasons),
            "candidates": [str(other) for other in tie.others],
        },
    }


def _clean(value: Any) -> Any:
    """The same without what a database refuses: NUL characters and halves of characters."""
    if isinstance(value, str):
        if "\0" in value:
            value = value.replace("\0", "")
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value

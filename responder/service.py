"""The stations that read replies and that take reps' decisions from mail.

Reading and deciding take some 20 ms and happen in the transaction of the event; the model is
loaded before it (`prepare`). Keys make everything unique: one reading and one draft a message, one
notice a reading, one answer a draft.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from bus.stations import Station
from config.settings import Settings
from content.library import passages
from mail.ids import uuid7
from mail.tokens import Token, TokenKeys, TokenKind
from mta.accounts import domain_of
from mta.recipients import is_suppressed, suppress
from mta.submission import Order, submit
from responder import notice
from responder.approval import (
    Outcome,
    Result,
    Wish,
    approve,
    may_decide,
    read_answer,
    reject,
    supersede,
)
from responder.draft import Wanted, compose
from responder.engine import Decision, decide, why
from responder.facts import ReadingOf, case_of, facts_of, questions_in
from responder.stream import ReaderOf
from storage.sessions import company_of, insert_new
from storage.tables import (
    Company,
    Contact,
    Domain,
    Draft,
    Enrolment,
    Event,
    Message,
    Reading,
    User,
)

log = structlog.get_logger()

TOLD = frozenset({"suppress", "escalate", "refer", "stop", "ask_rep"})
"""Decisions that the rep hears of also without a draft."""

REMEMBERED = 20
"""Answers to a person that a new one must not repeat."""

SHOWN_FROM = 0.2
"""Least certainty of an intent that an event names."""


def stations(
    *,
    reader: Callable[[], ReaderOf],
    keys: TokenKeys,
    clock: Callable[[], datetime],
    settings: Settings,
) -> list[Station]:
    """The two stations. `reader` loads the model when first called and is quick afterwards."""
    responder = Responder(reader, clock, settings.responder.act_from)
    return [
        Station(
            "responder",
            frozenset({Kind.REPLY_RECEIVED, Kind.ABSENCE_RECEIVED}),
            responder.reply,
            responder.prepare,
        ),
        Station("approvals", frozenset({Kind.APPROVAL_RECEIVED}), responder.approval),
    ]


class Responder:
    """Reads, decides, drafts; and carries out what reps decide."""

    def __init__(
        self, reader: Callable[[], ReaderOf], clock: Callable[[], datetime], act_from: float
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._act_from = act_from

    async def prepare(self, event: Event) -> None:
        """Loads the model, which takes a second the first time."""
        await asyncio.to_thread(self._reader)

    async def reply(self, session: AsyncSession, event: Event) -> None:
        """What one reply or absence note leads to."""
        message = await _message(session, event.message_id)
        if message is None or await _was_read(session, message.id):
            return
        now = self._clock()
        absent = event.kind == Kind.ABSENCE_RECEIVED
        contact = await _contact(session, event.contact_id or message.contact_id)
        read = self._reader().read(
            message.body,
            subject=message.subject,
            now=message.created_at,
            headers_hint="auto_reply" if absent else None,
        )
        case = case_of(
            read,
            message.body,
            now=now,
            asked_to_stop=bool(event.payload.get("unsubscribe")),
            absence=absent,
            returns=_day(event.payload.get("return_date")),
            zone=(contact.zone if contact else None) or "UTC",
            act_from=self._act_from,
        )
        decision = decide(case)
        reading = _reading(message, contact, read, decision, now)
        reading["facts"] = [
            {"fact": fact.template, **fact.symbols, **fact.values} for fact in facts_of(case)
        ]
        if not await insert_new(session, Reading, [reading], unless=["message_id"]):
            return
        if contact is not None and not absent:
            await supersede(session, contact.id, but_for=message.id, before=message.created_at)
        if contact is not None and decision.suppresses:
            await _suppress(session, message, contact, reading["id"], event, decision, now)
        await _publish_reading(session, message, contact, reading, read, decision, event, now)
        if contact is not None:
            await self._respond(session, message, contact, reading, read, decision, now)
        log.info(
            "reply.read",
            message_id=str(message.id),
            top=read.top,
            decision=decision.kind,
            rule=decision.rule,
        )

    async def _respond(
        self,
        session: AsyncSession,
        message: Message,
        contact: Contact,
        reading: dict[str, Any],
        read: ReadingOf,
        decision: Decision,
        now: datetime,
    ) -> None:
        """Drafts an answer if there is something to answer, and tells the rep."""
        rep = await rep_of(session, contact, message.enrolment_id)
        company = await session.get_one(Company, company_of(session))
        draft = None
        wants_answer = decision.kind == "answer" or (decision.kind == "ask_rep" and decision.needs)
        if wants_answer and not await is_suppressed(session, contact.address):
            draft = await self._draft(
                session, message, contact, rep, company, reading["id"], read, decision, now
            )
            await publish(
                session,
                Kind.DRAFT_PROPOSED,
                contact=contact.id,
                message=message.id,
                enrolment=message.enrolment_id,
                user=rep.id if rep else None,
                occurred_at=now,
                draft=str(draft.id),
            )
        if rep is None or (draft is None and decision.kind not in TOLD):
            return
        told = notice.Told(
            person=contact.name or contact.address,
            address=contact.address,
            written_by=message.sender,
            subject=message.subject or "(no subject)",
            words=message.body,
            intents=read.intents,
            decision=decision.kind,
            why=why(decision),
        )
        if draft is None:
            subject, text = notice.for_information(told)
            key, token = f"notice:{reading['id']}", None
        else:
            sources = [f"{s['source']}: {str(s['text'])[:100]}" for s in draft.sentences]
            subject, text = notice.for_approval(told, draft.text, sources, draft.gaps)
            key = f"notice:{draft.id}"
            token = Token(TokenKind.APPROVAL, company.number, draft.id)
        await _mail_rep(
            session, company, rep, key, "approval", subject, text, now, token=token, draft=draft
        )

    async def _draft(
        self,
        session: AsyncSession,
        message: Message,
        contact: Contact,
        rep: User | None,
        company: Company,
        reading_id: UUID,
        read: ReadingOf,
        decision: Decision,
        now: datetime,
    ) -> Draft:
        before = select(Draft.sent_text).where(
            Draft.contact_id == contact.id, Draft.sent_text != ""
        )
        sent = list(
            await session.scalars(before.order_by(Draft.created_at.desc()).limit(REMEMBERED))
        )
        wanted = Wanted(
            needs=decision.needs,
            text=message.body,
            questions=questions_in(message.body),
            subject=message.subject,
            language=read.language,
            first_name=contact.name.partition(" ")[0],
            rep_name=rep.name if rep else "",
            company_name=company.name,
            sent_before=sent,
        )
        reader = self._reader()
        composed = compose(
            wanted,
            await passages(session),
            label_of=lambda question: reader.read(question, now=now).top,
        )
        row = {
            "id": uuid7(),
            "message_id": message.id,
            "reading_id": reading_id,
            "contact_id": contact.id,
            "user_id": rep.id if rep else None,
            "subject": composed.subject,
            "text": composed.text,
            "sentences": [sentence.as_json() for sentence in composed.sentences],
            "gaps": composed.gaps,
            "state": "proposed",
            "created_at": now,
        }
        await insert_new(session, Draft, [row], unless=["message_id"])
        made = select(Draft).where(Draft.message_id == message.id)
        return (await session.scalars(made)).one()

    async def approval(self, session: AsyncSession, event: Event) -> None:
        """A rep's mail about a draft."""
        message = await _message(session, event.message_id)
        draft_id = _uuid(event.payload.get("draft"))
        if message is None or draft_id is None:
            return
        now = self._clock()
        user = await _user(session, _uuid(event.payload.get("user")))
        draft = (await session.scalars(select(Draft).where(Draft.id == draft_id))).one_or_none()
        if draft is None:
            await _refuse(session, message, draft_id, None, None, "There is no such draft.", now)
            return
        if user is None or not may_decide(user, draft):
            reason = f"{message.sender} may not decide about this draft."
            await _refuse(session, message, draft_id, draft, None, reason, now)
            return
        if not event.payload.get("authenticated"):
            causes = "; ".join(str(one) for one in event.payload.get("reasons") or [])
            reason = f"The mail could not be shown to come from {user.email}"
            reason += f": {causes}." if causes else "."
            await _refuse(session, message, draft_id, draft, user, reason, now)
            return
        refused = await _carry_out(session, message, draft, user, now)
        if refused:
            await _refuse(session, message, draft_id, draft, user, refused, now)


async def rep_of(session: AsyncSession, contact: Contact, enrolment_id: UUID | None) -> User | None:
    """Who answers for a contact: its owner, else the enrolment's, else the company's."""
    candidates = [contact.owner_id]
    if enrolment_id is not None:
        owner = select(Enrolment.owner_id).where(Enrolment.id == enrolment_id)
        candidates.append(await session.scalar(owner))
    for user_id in candidates:
        user = await _user(session, user_id)
        if user is not None and user.disabled_at is None:
            return user
    first = select(User).where(User.role == "owner", User.disabled_at.is_(None))
    return (await session.scalars(first.order_by(User.created_at, User.id).limit(1))).first()


async def _carry_out(
    session: AsyncSession, message: Message, draft: Draft, user: User, now: datetime
) -> str:
    """Does what the mail wants; the reason why not, or nothing."""
    answer = read_answer(message.body)
    if answer.wish is Wish.UNCLEAR:
        return (
            "It is not clear whether the draft shall be sent. Answer with ok alone, with the whole "
            "text to send, or with no."
        )
    outcome: Outcome
    if answer.wish is Wish.REJECT:
        outcome = await reject(session, draft.id, user=user, via="mail", note=answer.text, now=now)
        wanted, same = "rejected", True
    else:
        text = answer.text if answer.wish is Wish.EDIT else None
        outcome = await approve(session, draft.id, user=user, via="mail", text=text, now=now)
        wanted, same = "approved", text is None or text.strip() == draft.sent_text.strip()
    log.info("draft.decided", draft_id=str(draft.id), result=str(outcome.result))
    if outcome.done or (outcome.result is Result.ALREADY and outcome.state == wanted and same):
        return ""  # The same wish twice is one wish.
    return outcome.says


async def _refuse(
    session: AsyncSession,
    message: Message,
    draft_id: UUID,
    draft: Draft | None,
    user: User | None,
    reason: str,
    now: datetime,
) -> None:
    """Says so in the stream; and to `user`, whose own address the mail came from, if given."""
    before = select(Event.id).where(
        Event.kind == Kind.APPROVAL_REFUSED, Event.message_id == message.id
    )
    if await session.scalar(before.limit(1)) is not None:
        return
    await publish(
        session,
        Kind.APPROVAL_REFUSED,
        message=message.id,
        contact=draft.contact_id if draft else None,
        occurred_at=now,
        draft=str(draft_id),
        reason=reason,
    )
    log.warning("approval.refused", draft_id=str(draft_id), reason=reason)
    if user is None or draft is None:
        return
    company = await session.get_one(Company, company_of(session))
    subject, text = notice.for_refusal(draft.subject, reason)
    token = Token(TokenKind.APPROVAL, company.number, draft.id)
    key = f"refused:{message.id}"
    await _mail_rep(session, company, user, key, "system", subject, text, now, token=token)


async def _mail_rep(
    session: AsyncSession,
    company: Company,
    rep: User,
    key: str,
    kind: str,
    subject: str,
    text: str,
    now: datetime,
    *,
    token: Token | None,
    draft: Draft | None = None,
) -> None:
    """Orders a mail to a rep. It has no contact, so that an answer to it is nobody's reply."""
    domain = (await session.scalars(select(Domain).order_by(Domain.id).limit(1))).first()
    if domain is None:
        log.error("notice.impossible", key=key, reason="the company has no domain")
        return
    sender = f"waypost@{domain.reply_domain}"
    if await domain_of(session, sender) is None:
        sender = f"waypost@{domain.name}"
    await submit(
        session,
        Order(
            key=key,
            kind=kind,
            sender=sender,
            sender_name=f"Waypost, {company.name}",
            recipient=rep.email,
            recipient_name=rep.name,
            subject=subject,
            text=text,
            user_id=rep.id,
            draft_id=draft.id if draft else None,
            reply_token=token,
            lane=0,
            literal=True,
        ),
        now=now,
    )


async def _suppress(
    session: AsyncSession,
    message: Message,
    contact: Contact,
    reading_id: UUID,
    event: Event,
    decision: Decision,
    now: datetime,
) -> None:
    complained = decision.kind == "escalate" or decision.rule == "suppress-complaint"
    reason = "complained" if complained else "unsubscribed"
    detail = {"message": str(message.id), "reading": str(reading_id), "rule": decision.rule}
    new = await suppress(session, contact.address, reason, now=now, detail=detail)
    if event.payload.get("sender_differs") and message.sender:
        # Whoever asks from another address of theirs means that one as well.
        await suppress(session, message.sender, reason, now=now, detail=detail)
    if new:
        await publish(
            session,
            Kind.UNSUBSCRIBED,
            contact=contact.id,
            message=message.answers_id,
            enrolment=message.enrolment_id,
            occurred_at=now,
            how="reply",
        )


def _reading(
    message: Message,
    contact: Contact | None,
    read: ReadingOf,
    decision: Decision,
    now: datetime,
) -> dict[str, Any]:
    until = decision.pause_until
    return {
        "id": uuid7(),
        "message_id": message.id,
        "contact_id": contact.id if contact else None,
        "intents": {str(label): value for label, value in read.intents.items()},
        "top": str(read.top),
        "certainty": float(read.intents.get(read.top, 0.0)),
        "abstain": read.abstain,
        "entities": msgspec.to_builtins(list(read.entities)),
        "evidence": msgspec.to_builtins(list(read.evidence)),
        "trace": [firing.as_json() for firing in decision.trace],
        "decision": decision.kind,
        "decision_detail": {
            "rule": decision.rule,
            "certainty": decision.certainty,
            "needs": list(decision.needs),
            "pause_until": until.isoformat() if until else None,
            "why": why(decision),
            "why_abstain": read.why_abstain,
            "language": read.language,
        },
        "model_version": read.model_version,
        "rules_version": decision.rules_version,
        "created_at": now,
    }


async def _publish_reading(
    session: AsyncSession,
    message: Message,
    contact: Contact | None,
    reading: dict[str, Any],
    read: ReadingOf,
    decision: Decision,
    event: Event,
    now: datetime,
) -> None:
    until = decision.pause_until
    await publish(
        session,
        Kind.REPLY_READ,
        contact=contact.id if contact else None,
        message=message.id,
        enrolment=event.enrolment_id or message.enrolment_id,
        occurred_at=now,
        reading=str(reading["id"]),
        top=str(read.top),
        certainty=reading["certainty"],
        intents={str(k): v for k, v in read.intents.items() if v >= SHOWN_FROM},
        abstain=read.abstain,
        decision=decision.kind,
        pause_until=until.isoformat() if until else None,
    )


async def _message(session: AsyncSession, key: UUID | None) -> Message | None:
    if key is None:
        return None
    return (await session.scalars(select(Message).where(Message.id == key))).one_or_none()


async def _contact(session: AsyncSession, key: UUID | None) -> Contact | None:
    if key is None:
        return None
    return (await session.scalars(select(Contact).where(Contact.id == key))).one_or_none()


async def _user(session: AsyncSession, key: UUID | None) -> User | None:
    if key is None:
        return None
    return (await session.scalars(select(User).where(User.id == key))).one_or_none()


async def _was_read(session: AsyncSession, message_id: UUID) -> bool:
    found = select(Reading.id).where(Reading.message_id == message_id)
    return await session.scalar(found) is not None


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10]) if value else None
    except ValueError:
        return None


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value)) if value else None
    except ValueError:
        return None

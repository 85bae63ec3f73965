"""One conversation: the thread, the reply, its reading, the decision and the draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import PermanentError
from mta.merge import MergeField
from mta.template import OFFERED, TemplateKind
from storage.tables import Contact, Draft, Message, Reading, Template, User

LEAST_SHOWN = 0.03


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything that a rep looks at to decide."""

    message: Message
    contact: Contact | None
    reading: Reading | None
    draft: Draft | None
    rep: User | None
    decider: User | None
    thread: Sequence[Message]
    texts: dict[UUID, str]

    @property
    def intents(self) -> list[tuple[str, float]]:
        """What it may mean, the surest first."""
        if self.reading is None:
            return []
        found = [(name, float(value)) for name, value in self.reading.intents.items()]
        return sorted((one for one in found if one[1] >= LEAST_SHOWN), key=lambda one: -one[1])[:5]

    @property
    def why(self) -> list[dict[str, Any]]:
        """The rules that fired, in order, each with the facts it matched."""
        return list(self.reading.trace) if self.reading is not None else []


async def conversation(session: AsyncSession, message_id: UUID) -> Conversation | None:
    """The conversation of an incoming message; None if this company has no such message."""
    message = await session.get(Message, message_id)
    if message is None or message.direction != "in":
        return None
    reading = (
        await session.scalars(select(Reading).where(Reading.message_id == message.id))
    ).one_or_none()
    draft = (
        await session.scalars(select(Draft).where(Draft.message_id == message.id))
    ).one_or_none()
    thread = (
        await session.scalars(
            select(Message)
            .where(Message.thread_id == message.thread_id)
            .where(Message.kind.not_in(("approval", "system")))
            .order_by(Message.created_at, Message.id)
            .limit(50)
        )
    ).all()
    contact = await session.get(Contact, message.contact_id) if message.contact_id else None
    rep = await session.get(User, draft.user_id) if draft and draft.user_id else None
    decider = await session.get(User, draft.decided_by) if draft and draft.decided_by else None
    return Conversation(
        message, contact, reading, draft, rep, decider, thread, await texts(session, thread)
    )


async def texts(session: AsyncSession, messages: Sequence[Message]) -> dict[UUID, str]:
    """What each message says: the author's words of those that came, the letter of those sent."""
    wanted = {message.template_id for message in messages if message.template_id}
    found = await session.scalars(select(Template).where(Template.id.in_(wanted)))
    templates = {template.id: _Letter(template) for template in found}
    shown = {}
    for message in messages:
        template = templates.get(message.template_id) if message.template_id else None
        shown[message.id] = message.body or (template.text(message.values) if template else "")
    return shown


class _Letter:
    """A template as its readers got it; the links that are each reader's own are only named."""

    _LINKS: ClassVar = {name: f"[{name.replace('_', ' ')}]" for name in OFFERED}

    def __init__(self, template: Template) -> None:
        self._source = template.text
        literal = TemplateKind.of(template.headers).literal
        self._field = None if literal else MergeField("text", template.text)

    def text(self, values: dict[str, Any]) -> str:
        """The text with these values; the bare template if they do not fit."""
        if self._field is None:
            return self._source
        try:
            return self._field.fill({**self._LINKS, **values})
        except PermanentError:
            return self._source


async def next_waiting(session: AsyncSession, user: UUID, *, everyone: bool) -> UUID | None:
    """The next draft's conversation, so that one after the other can be decided."""
    query = select(Draft.message_id).where(Draft.state == "proposed").order_by(Draft.id).limit(1)
    if not everyone:
        query = query.where(Draft.user_id == user)
    return await session.scalar(query)

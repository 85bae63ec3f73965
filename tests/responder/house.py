"""A company with reps, a contact who got a letter, and a reader whose opinion a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from bus.events import Kind, publish
from bus.stations import Line
from config.settings import Settings
from content.library import add_item
from mail.ids import uuid7
from mail.tokens import TokenKeys
from mta.recipients import ensure_contact
from mta.submission import submit
from responder.service import stations
from storage.sealing import Seal
from storage.sessions import Sessions
from storage.tables import Contact, Message, User
from tests.conftest import MONDAY
from tests.mta.house import Tenant, make_tenant, order


@dataclass(frozen=True)
class Seen:
    """A piece of evidence."""

    intent: str
    weight: float
    source: str = "model"
    phrase: str = ""


@dataclass(frozen=True)
class Opinion:
    """What the played reader says."""

    intents: Mapping[str, float]
    abstain: bool = False
    why_abstain: str = ""
    entities: Sequence[Any] = ()
    language: str = "en"
    model_version: str = "played"

    @property
    def top(self) -> str:
        return max(self.intents, key=lambda label: self.intents[label])

    @property
    def evidence(self) -> Sequence[Seen]:
        return [Seen(label, value) for label, value in self.intents.items()]


@dataclass
class PlayedReader:
    """Has the opinion that a text begins with: `price|How much?` means question_pricing."""

    opinions: Mapping[str, Opinion] = field(default_factory=dict)

    def read(
        self,
        text: str,
        *,
        subject: str = "",
        context: str = "",
        now: datetime | None = None,
        headers_hint: str | None = None,
    ) -> Opinion:
        if headers_hint:
            return Opinion({"out_of_office": 0.99})
        for word, opinion in self.opinions.items():
            if word in text:
                return opinion
        return Opinion({"other": 0.3}, abstain=True, why_abstain="there are few words")


OPINIONS = {
    "unsubscribe": Opinion({"unsubscribe": 0.9}),
    "How much": Opinion({"question_pricing": 0.95}),
    "certified": Opinion({"question_legal": 0.9}),
    "maybe": Opinion({"question_pricing": 0.45}),
    "lawyer": Opinion({"complaint": 0.8}),
    "sounds good": Opinion({"interested": 0.9}),
}


class House:
    """Acme: Ann (rep), Bo (owner), Cy (rep of others), and Pat, who got a letter from Ann."""

    def __init__(self, store: Sessions, keys: TokenKeys, tenant: Tenant) -> None:
        self.store, self.tenant = store, tenant
        self.now = MONDAY
        made = stations(
            reader=lambda: PlayedReader(OPINIONS),
            keys=keys,
            clock=lambda: self.now,
            settings=Settings(),
        )
        self.line = Line(store, made, tick=0.01)
        self.users: dict[str, User] = {}
        self.letter: Message
        self.contact: Contact

    @classmethod
    async def build(cls, store: Sessions, seal: Seal, keys: TokenKeys) -> House:
        house = cls(store, keys, await make_tenant(store, seal, "acme", 1))
        async with store.begin(house.tenant.id) as session:
            for name, role in (("Bo", "owner"), ("Ann", "rep"), ("Cy", "rep")):
                user = User(
                    id=uuid7(),
                    email=f"{name.lower()}@acme.test",
                    name=name,
                    role=role,
                    password_hash=None,
                    created_at=MONDAY,
                )
                session.add(user)
                house.users[name] = user
            await session.flush()
            house.contact = await ensure_contact(
                session,
                "pat@customer.test",
                name="Pat Miller",
                owner=house.users["Ann"].id,
                origin={"by": "test"},
                now=MONDAY,
            )
            house.letter = await submit(
                session,
                order("letter", recipient="pat@customer.test", contact_id=house.contact.id),
                now=MONDAY,
            )
            await add_item(
                session,
                key="price",
                kind="passage",
                title="What it costs",
                text="It costs 14,900 euros. You can pay in 60 months.",
                descriptors={"need": "question_pricing"},
                asks=["How much does it cost?"],
                now=MONDAY,
            )
        return house

    async def arrives(self, kind: Kind, body: str, **payload: Any) -> UUID:
        """Files a message as `inbound` does, with its event, and lets the stations work."""
        async with self.store.begin(self.tenant.id) as session:
            approval = kind is Kind.APPROVAL_RECEIVED
            message = Message(
                id=uuid7(),
                direction="in",
                kind="approval" if approval else "reply",
                contact_id=self.contact.id,
                answers_id=None if approval else self.letter.id,
                thread_id=self.letter.thread_id,
                sender=payload.pop("sender", "pat@customer.test"),
                recipient="r-x@reply.acme.test",
                subject="AW: Re: Hello Ann",
                rfc_message_id=f"<{uuid7()}@customer.test>",
                references=self.letter.rfc_message_id,
                body=body,
                created_at=self.now,
            )
            session.add(message)
            await session.flush()
            await publish(
                session, kind, contact=self.contact.id, message=message.id, occurred_at=self.now,
                **payload,
            )  # fmt: skip
        await self.line.drain()
        self.now += timedelta(minutes=1)
        return message.id

    async def decides(self, draft: UUID, body: str, name: str, **more: Any) -> UUID:
        """A mail of a rep about a draft."""
        authenticated = more.pop("authenticated", True)
        async with self.store.begin(self.tenant.id) as session:
            user = self.users.get(name)
            message = Message(
                id=uuid7(),
                direction="in",
                kind="approval",
                thread_id=uuid7(),
                sender=f"{name.lower()}@acme.test",
                recipient="a-x@reply.acme.test",
                subject="Re: Draft",
                rfc_message_id=f"<{uuid7()}@acme.test>",
                body=body,
                created_at=self.now,
            )
            session.add(message)
            await session.flush()
            event = await publish(
                session, Kind.APPROVAL_RECEIVED, message=message.id, occurred_at=self.now,
                draft=str(draft), authenticated=authenticated,
            )  # fmt: skip
            event.payload = {
                **event.payload,
                "user": str(user.id) if user else None,
                "reasons": more.get("reasons", []),
            }
        await self.line.drain()
        return message.id

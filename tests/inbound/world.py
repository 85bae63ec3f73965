"""Two companies that have sent mail, for the tests of what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from mail.ids import uuid7
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Contact, Message, Template, User
from tests.conftest import MONDAY


@dataclass(frozen=True)
class Firm:
    """A company with one rep and one contact, Ann or Zoe, who got one message."""

    id: UUID
    number: int
    user: UUID
    contact: UUID
    address: str
    message: UUID
    thread: UUID

    @property
    def host(self) -> str:
        return f"reply.firm{self.number}.test"


async def add_firm(store: Sessions, number: int, person: str) -> Firm:
    """Company `number` that has written to `person`@example.com."""
    firm = Firm(
        uuid7(), number, uuid7(), uuid7(), f"{person}@example.com", message := uuid7(), message
    )
    async with store.begin(EVERY_COMPANY) as session:
        session.add(
            Company(
                id=firm.id,
                number=number,
                name=f"Firm {number}",
                postal_address="1 Quay",
                created_at=MONDAY,
            )
        )
    async with store.begin(firm.id) as session:
        session.add(
            User(
                id=firm.user,
                email=f"rep@firm{number}.test",
                name="Rita",
                role="owner",
                created_at=MONDAY,
            )
        )
        session.add(
            Contact(id=firm.contact, address=firm.address, name=person.title(), created_at=MONDAY)
        )
        template = Template(
            digest="d",
            subject="Fresh tea for {{ name }}",
            text="Dear {{ name }}, our tea has come.",
            html="",
            links=["https://shop.test/tea?who={{ name }}", "{{ site }}/offers"],
            created_at=MONDAY,
        )
        session.add(template)
        await session.flush()
        await add_message(session, firm, template_id=template.id, id=message)
    return firm


async def add_message(session: object, firm: Firm, **changes: object) -> Message:
    """One more message of the firm to its contact."""
    key = changes.get("id") or uuid7()
    row = {
        "id": key,
        "direction": "out",
        "kind": "bulk",
        "contact_id": firm.contact,
        "thread_id": key,
        "values": {"name": "Ann", "site": "https://shop.test"},
        "sender": f"hello@firm{firm.number}.test",
        "recipient": firm.address,
        "subject": "Fresh tea for Ann",
        "rfc_message_id": f"{key}@firm{firm.number}.test",
        "body": "Dear Ann, our tea has come.",
        "created_at": MONDAY,
    } | changes
    message = Message(**row)
    session.add(message)  # type: ignore[attr-defined]
    await session.flush()  # type: ignore[attr-defined]
    return message

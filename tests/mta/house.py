"""Two companies in one store: what most tests of this package begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mail.ids import uuid7
from mta.accounts import add_domain
from mta.submission import Order
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Domain
from tests.conftest import MONDAY


@dataclass
class Tenant:
    """A company with one domain."""

    id: UUID
    number: int
    domain: Domain


async def make_tenant(store: Sessions, seal: Seal, name: str, number: int) -> Tenant:
    """A company that sends from `<name>.test`."""
    company = Company(
        id=uuid7(),
        number=number,
        name=name,
        postal_address=f"{name.title()} Ltd, 1 High Street",
        created_at=MONDAY,
    )
    async with store.begin(EVERY_COMPANY) as session:
        session.add(company)
    async with store.begin(company.id) as session:
        domain = await add_domain(session, seal, f"{name}.test", now=MONDAY)
    return Tenant(company.id, number, domain)


def order(
    key: str = "k1",
    *,
    kind: str = "mail",
    recipient: str = "ann@customer.test",
    subject: str = "Hello {{ name }}",
    text: str = "Dear {{ name }},\nsee https://shop.acme.test/a\n",
    html: str = "",
    values: Mapping[str, Any] | None = None,
    not_before: datetime | None = None,
    **more: Any,
) -> Order:
    """A send order of acme's."""
    return Order(
        key=key,
        kind=kind,
        sender="bo@acme.test",
        sender_name="Bo of Acme",
        recipient=recipient,
        recipient_name="Ann",
        subject=subject,
        text=text,
        html=html,
        values={"name": "Ann"} if values is None else values,
        not_before=not_before,
        **more,
    )

"""The people we write to, and the addresses that a company never writes to again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.address import parse_address
from mail.errors import PermanentError
from mail.ids import uuid7
from storage.bulk import change_many, insert_many, read_rows
from storage.sessions import company_of, insert_new
from storage.tables import Consent, Contact, Suppression

IN_ONE_QUERY = 500
"""Values of one IN list."""

MAX_NAME = 200
"""Characters of a name or an organisation that are kept."""


def canonical_address(address: str) -> str:
    """The form in which an address is kept and looked up. Raises `PermanentError` if it is none."""
    parsed = parse_address(address)
    if parsed is None:
        raise PermanentError(
            f'"{address[:100]}" is not a mail address. Write it as name@example.com.'
        )
    return parsed.canonical


async def ensure_contact(
    session: AsyncSession,
    address: str,
    *,
    name: str = "",
    organisation: str = "",
    fields: dict[str, Any] | None = None,
    zone: str | None = None,
    owner: UUID | None = None,
    origin: dict[str, Any],
    now: datetime,
) -> Contact:
    """The contact with this address, made if there is none; only its empty fields are filled.

    Raises `PermanentError` for something that is not an address.
    """
    canonical = canonical_address(address)
    contact = await find_contact(session, canonical)
    if contact is None:
        row = {
            "address": canonical,
            "name": _one_line(name),
            "organisation": _one_line(organisation),
            "fields": dict(fields or {}),
            "zone": zone,
            "owner_id": owner,
            "origin": origin,
            "created_at": now,
        }
        await insert_new(session, Contact, [row], unless=["company_id", "address"])
        contact = await find_contact(session, canonical)
        assert contact is not None
    contact.name = contact.name or _one_line(name)
    contact.organisation = contact.organisation or _one_line(organisation)
    contact.zone = contact.zone or zone
    contact.owner_id = contact.owner_id or owner
    if fields and (new := {k: v for k, v in fields.items() if not contact.fields.get(k)}):
        contact.fields = {**contact.fields, **new}
    await session.flush()
    return contact


@dataclass(frozen=True, slots=True)
class Person:
    """A contact as far as sending to it goes."""

    id: UUID
    address: str
    name: str
    organisation: str
    fields: dict[str, Any]


async def ensure_contacts(
    session: AsyncSession, people: Mapping[str, str], *, origin: dict[str, Any], now: datetime
) -> dict[str, Person]:
    """The contacts with these canonical addresses, in few statements; those missing are made.

    `people` has their names, if known. The names of contacts that have one already stay.
    """
    company, table = company_of(session), Contact.__table__.c

    async def found(addresses: Sequence[str]) -> dict[str, Person]:
        kept = {}
        for start in range(0, len(addresses), IN_ONE_QUERY):
            query = select(
                table.id, table.address, table.name, table.organisation, table.fields
            ).where(
                table.company_id == company,
                table.address.in_(addresses[start : start + IN_ONE_QUERY]),
            )
            for row in await read_rows(session, query):
                kept[row.address] = Person(
                    row.id, row.address, row.name, row.organisation, row.fields
                )
        return kept

    known = await found(list(people))
    rows: list[dict[str, Any]] = [
        {
            "id": uuid7(),
            "address": address,
            "name": _one_line(name),
            "origin": origin,
            "created_at": now,
        }
        for address, name in people.items()
        if address not in known
    ]
    if rows:
        await insert_many(session, Contact, rows, unless=["company_id", "address"])
        known |= {
            row["address"]: Person(row["id"], row["address"], row["name"], "", {}) for row in rows
        }
        if session.get_bind().dialect.name != "sqlite":  # Another process may have been quicker.
            known |= await found([row["address"] for row in rows])
    named = [
        (_one_line(name), known[address].id, "")
        for address, name in people.items()
        if name and not known[address].name
    ]
    await change_many(session, Contact, set_=("name",), where=("id", "name"), rows=named)
    return known


async def find_contact(session: AsyncSession, address: str) -> Contact | None:
    """The contact with this canonical address."""
    found = await session.scalars(
        select(Contact).where(Contact.company_id == company_of(session), Contact.address == address)
    )
    return found.one_or_none()


async def suppress(
    session: AsyncSession,
    address: str,
    reason: str,
    *,
    now: datetime,
    detail: dict[str, Any] | None = None,
    scope: str = "",
) -> bool:
    """The session's company never writes to this address again; False if that was so before.

    `reason` is unsubscribed, bounced, complained or asked (a person of the company did it). `scope`
    is empty for all mail, or `topic:KEY` or `campaign:NAME` for that part of the bulk mail.
    """
    row = {
        "address": canonical_address(address),
        "scope": scope,
        "reason": reason,
        "detail": dict(detail or {}),
        "created_at": now,
    }
    added = await insert_new(session, Suppression, [row], unless=["company_id", "address", "scope"])
    return added == 1


def forms_of(address: str) -> list[str]:
    """Under which forms an address may stand in the list of suppressed ones, its own first.

    A domain stands as it is typed or as DNS has it (RFC 5890). Who asked for nothing more at
    `ann@` is not to be reached at `ann+shop@` either, since that is the same mailbox (RFC 5233);
    the reverse isn't concluded.
    """
    parsed = parse_address(address)
    if parsed is None:
        return [address.strip().lower()]
    local, _, domain = parsed.canonical.rpartition("@")
    domains = [domain]
    if not domain.isascii() or "xn--" in domain:
        try:
            other = (
                domain.encode("ascii").decode("idna")
                if domain.isascii()
                else domain.encode("idna").decode("ascii")
            )
            domains.append(other.lower())
        except UnicodeError:
            pass  # No name in DNS has this form, so there is no other one.
    locals_ = [local]
    base = local.partition("+")[0]
    if base and base != local and not local.startswith('"'):
        locals_.append(base)
    return [f"{one}@{host}" for one in locals_ for host in dict.fromkeys(domains)]


async def is_suppressed(session: AsyncSession, address: str) -> bool:
    """Whether the session's company may never write to this address."""
    canonical_address(address)
    found = select(Suppression.id).where(
        Suppression.company_id == company_of(session),
        Suppression.address.in_(forms_of(address)),
        Suppression.scope == "",
    )
    return await session.scalar(found.limit(1)) is not None


async def may_be_mailed(session: AsyncSession, contact: Contact) -> str:
    """Empty if this person may be written to, otherwise the reason why not."""
    suppression = await session.scalar(
        select(Suppression.reason)
        .where(
            Suppression.company_id == contact.company_id,
            Suppression.address.in_(forms_of(contact.address)),
            Suppression.scope == "",
        )
        .limit(1)
    )
    if suppression is not None:
        return f"suppressed: {suppression}"
    consent = await session.scalar(
        select(Consent.state).where(
            Consent.company_id == contact.company_id, Consent.contact_id == contact.id
        )
    )
    return "" if consent in {None, "given"} else f"consent {consent}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_NAME]

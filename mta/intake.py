"""What happens to a message that came in through a door: kept, written down, then acknowledged.

The order is fixed: the bytes are synced to the spool, then one transaction (shared with all who
wait) writes what they lead to, and only then is the client told 250.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import getaddresses
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from mail.address import Address, parse_address
from mail.errors import PermanentError
from mail.ids import uuid7
from mail.tokens import Token, TokenKeys
from mta.accounts import domain_of
from mta.ledger import Ledger
from mta.mime import Skeleton, read_fields, split_head, take_apart
from mta.recipients import ensure_contact
from mta.spool import Spool
from mta.srs import Rewriter, SrsProblem, is_rewritten
from mta.submission import Order, submit
from storage.sessions import EVERY_COMPANY, Sessions, insert_new, narrow
from storage.tables import Arrival, Company, Contact, Credential, Domain

KNOWN_SECONDS = 30.0
"""How long it is remembered whose a reply domain is."""

MAX_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Client:
    """Who brought a message."""

    address: str
    helo: str
    credential: Credential | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """The company that a reply domain belongs to."""

    company_id: UUID
    number: int


class Directory:
    """Knows the reply domains of all companies, from memory most of the time."""

    def __init__(self, sessions: Sessions, keys: TokenKeys) -> None:
        self._sessions = sessions
        self._keys = keys
        self._srs = Rewriter(keys.derived("srs"))
        self._known: OrderedDict[str, tuple[float, Owner | None]] = OrderedDict()

    async def owner(self, domain: str) -> Owner | None:
        """Whose reply domain this is; None if it is not ours."""
        kept = self._known.get(domain)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        async with self._sessions.read(EVERY_COMPANY) as session:
            row = (
                await session.execute(
                    select(Domain.company_id, Company.number)
                    .join(Company, Company.id == Domain.company_id)
                    .where(Domain.reply_domain == domain)
                )
            ).one_or_none()
        found = Owner(row.company_id, row.number) if row else None
        # What is not ours may become ours at any moment, so it is asked again soon.
        lasts = KNOWN_SECONDS if found else 1.0
        self._known[domain] = (time.monotonic() + lasts, found)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    async def postmaster(self) -> Owner | None:
        """Who gets mail to `postmaster` without a domain (RFC 5321 §4.5.1): the first company."""
        async with self._sessions.read(EVERY_COMPANY) as session:
            row = (
                await session.execute(
                    select(Company.id, Company.number).order_by(Company.number).limit(1)
                )
            ).one_or_none()
        return Owner(row.id, row.number) if row else None

    def takes(self, owner: Owner, local: str) -> bool:
        """Whether there is such a mailbox: a token of this company, postmaster, or a return path
        that we have rewritten."""
        if local.lower() == "postmaster":
            return True
        if is_rewritten(local):
            first = self._srs.reverse(local, owner.number, datetime.now(UTC))
            return not isinstance(first, SrsProblem)
        token = self._keys.read_local_part(local)
        return isinstance(token, Token) and token.company == owner.number


class Intake:
    """Takes messages from both kinds of door."""

    def __init__(
        self,
        sessions: Sessions,
        ledger: Ledger,
        spool: Spool,
        directory: Directory,
        clock: Callable[[], datetime],
        *,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` is called when there is new mail to deliver."""
        self._sessions = sessions
        self._ledger = ledger
        self._spool = spool
        self.directory = directory
        self._clock = clock
        self._wake = wake

    async def from_the_world(
        self, client: Client, mail_from: str, recipients: Sequence[tuple[Owner, str]], raw: bytes
    ) -> str:
        """Mail for our reply domains; returns the id it is known by."""
        key = uuid7()
        place = await self._spool.append(raw)
        by_company: dict[UUID, list[str]] = {}
        for owner, address in recipients:
            addresses = by_company.setdefault(owner.company_id, [])
            if address not in addresses:
                addresses.append(address)

        async def write(session: AsyncSession) -> None:
            for company, addresses in by_company.items():
                narrow(session, company)
                await self._arrive(session, f"mx:{key}", client, mail_from, addresses, place)

        await self._ledger.enter(write)
        return str(key)

    async def from_a_company(
        self, client: Client, mail_from: str, recipients: Sequence[Address], raw: bytes
    ) -> str:
        """Mail of a company or a rep to people, or an answer of a rep to one of our addresses.

        Raises `PermanentError` saying what is wrong with the message.
        """
        credential = client.credential
        assert credential is not None
        head = _Head(raw)
        key = uuid7()
        ours: list[str] = []
        others: list[Address] = []
        for recipient in dict.fromkeys(recipients):
            owner = await self.directory.owner(recipient.domain)
            if owner is None:
                others.append(recipient)
            else:
                ours.append(str(recipient))
        await self.check_sender(credential, head.sender)
        skeleton = take_apart(raw) if others else Skeleton()
        place = await self._spool.append(raw)

        async def write(session: AsyncSession) -> None:
            narrow(session, credential.company_id)
            if ours:
                await self._arrive(session, f"sub:{key}", client, mail_from, ours, place)
            for recipient in others:
                await self._order(
                    session, key, head, skeleton, recipient, place, credential, mail_from
                )

        await self._ledger.enter(write)
        self._wake()
        return str(key)

    async def check_sender(self, credential: Credential, address: str) -> None:
        """Raises `PermanentError` if this login may not send as this address."""
        parsed = parse_address(address)
        if parsed is None:
            raise PermanentError(f"<{address[:100]}> is not a mail address")
        if credential.address is not None and parsed.canonical != credential.address:
            raise PermanentError(f"this login sends as <{credential.address}> only")
        async with self._sessions.read(credential.company_id) as session:
            if await domain_of(session, parsed.canonical) is None:
                raise PermanentError(f"{parsed.domain} is not a domain of this company")

    async def _arrive(
        self,
        session: AsyncSession,
        key: str,
        client: Client,
        mail_from: str,
        recipients: list[str],
        place: dict[str, Any],
    ) -> None:
        now, arrival = self._clock(), uuid7()
        row: dict[str, Any] = {
            "id": arrival,
            "key": f"{key}:{uuid7()}",
            "source": "submission" if client.credential else "mx",
            "mail_from": mail_from,
            "recipients": recipients,
            "remote_ip": client.address,
            "helo": client.helo,
            "login": client.credential.login if client.credential else None,
            "spool": place,
            "state": "waiting",
            "received_at": now,
        }
        await insert_new(session, Arrival, [row], unless=["key"])
        await publish(session, Kind.MAIL_ARRIVED, occurred_at=now, arrival=arrival)

    async def _order(
        self,
        session: AsyncSession,
        key: UUID,
        head: _Head,
        skeleton: Skeleton,
        recipient: Address,
        place: dict[str, Any],
        credential: Credential,
        mail_from: str,
    ) -> None:
        now = self._clock()
        name = head.names.get(recipient.canonical, "")
        origin = {"by": "submission", "login": credential.login}
        contact = await ensure_contact(session, str(recipient), name=name, origin=origin, now=now)
        order = Order(
            key=f"smtp:{key}:{recipient.canonical}",
            kind="bulk" if head.bulk else "mail",
            sender=head.sender,
            sender_name=head.sender_name,
            recipient=str(recipient),
            recipient_name=name or contact.name,
            subject=head.subject,
            text=skeleton.text,
            html=skeleton.html,
            values=_merge_values(contact) if head.merge else {},
            contact_id=contact.id,
            in_reply_to=head.in_reply_to,
            references=head.references,
            lane=2 if head.bulk else 1,
            spool=place,
            literal=not head.merge,
            parsed={"envelope": {"sender": mail_from}},
        )
        await submit(session, order, now=now)


class _Head:
    """What the header of a submitted message says. Raises `PermanentError` if it can't be sent."""

    def __init__(self, raw: bytes) -> None:
        fields = read_fields(split_head(raw)[0])
        of = {name.lower(): value for name, value in reversed(fields)}
        senders = getaddresses([v for n, v in fields if n.lower() == "from"])
        if len(senders) != 1 or parse_address(senders[0][1]) is None:
            raise PermanentError("the message needs one From header with one address")
        self.sender_name = _decoded(senders[0][0])
        self.sender = senders[0][1]
        self.subject = _decoded(of.get("subject", ""))
        self.in_reply_to = of.get("in-reply-to", "")
        self.references = of.get("references", "")
        self.bulk = of.get("x-waypost-kind", "").strip().lower() == "bulk"
        self.merge = of.get("x-waypost-merge", "").strip().lower() == "yes"
        self.names: dict[str, str] = {}
        listed = [v for n, v in fields if n.lower() in {"to", "cc"}]
        for name, address in getaddresses(listed[:20]):
            parsed = parse_address(address)
            if parsed is not None and name:
                self.names.setdefault(parsed.canonical, _decoded(name))


def _merge_values(contact: Contact) -> dict[str, Any]:
    first = contact.name.split(" ")[0] if contact.name else ""
    known = {
        "name": contact.name,
        "first_name": first,
        "address": contact.address,
        "organisation": contact.organisation,
    }
    return {**{key: value for key, value in known.items() if value}, **contact.fields}


def _decoded(text: str) -> str:
    """RFC 2047 words as text; what can't be decoded stays as it was written."""
    try:
        return str(make_header(decode_header(text[:4000])))
    except (HeaderParseError, LookupError, ValueError, UnicodeError):
        return text

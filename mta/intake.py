"""What happens to a message that came in through a door: checked, kept, then acknowledged.

Whoever may not send, or sends what can't be sent, is told before. The message and a note that says
who sent it to whom are synced to the spool; then the client is told 250. What the message leads to
is written by the `Sorter`, milliseconds later or after a restart.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish_many
from mail.address import parse_address
from mail.envelope import Envelope, Recipient
from mail.errors import PermanentError
from mail.ids import uuid7
from mail.tokens import Token, TokenKeys
from mta.accounts import domain_of, why_not_as
from mta.gate import barred_of
from mta.head import Head, read_head
from mta.mime import Skeleton, take_apart
from mta.note import Note, decode, encode
from mta.pressure import Gauge
from mta.recipients import Person, ensure_contacts
from mta.sorter import Sorter
from mta.spool import Kept, Spool
from mta.srs import Rewriter, SrsProblem, is_rewritten
from mta.submission import Order, submit_many
from mta.taken import Relay, Taken
from storage.aside import Aside
from storage.bulk import insert_many
from storage.sessions import EVERY_COMPANY, Sessions, narrow
from storage.tables import Arrival, Company, Credential, Domain

log = structlog.get_logger()

KNOWN_SECONDS = 30.0
"""How long it is remembered whose a reply domain is."""

UNKNOWN_SECONDS = 5.0
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
        self._trusted: dict[str, tuple[float, Credential | None]] = {}
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
        lasts = KNOWN_SECONDS if found else UNKNOWN_SECONDS
        self._known[domain] = (time.monotonic() + lasts, found)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    def owner_now(self, domain: str) -> Owner | None:
        """The same from memory; raises `LookupError` if it has to be looked up."""
        kept = self._known.get(domain)
        if kept is None or kept[0] <= time.monotonic():
            raise LookupError(domain)
        return kept[1]

    async def postmaster(self) -> Owner | None:
        """Who gets mail to `postmaster` without a domain (RFC 5321 §4.5.1): the first company."""
        async with self._sessions.read(EVERY_COMPANY) as session:
            row = (
                await session.execute(
                    select(Company.id, Company.number).order_by(Company.number).limit(1)
                )
            ).one_or_none()
        return Owner(row.id, row.number) if row else None

    async def trusted(self, login: str) -> Credential | None:
        """The credential of a login whose network is trusted; asked again after a while."""
        until, credential = self._trusted.get(login, (0.0, None))
        if until <= time.monotonic():
            async with self._sessions.read(EVERY_COMPANY) as session:
                credential = await session.scalar(
                    select(Credential).where(
                        Credential.kind == "smtp",
                        Credential.login == login,
                        Credential.revoked_at.is_(None),
                    )
                )
            self._trusted[login] = (time.monotonic() + KNOWN_SECONDS, credential)
        return credential

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
    """Takes messages from both kinds of door, and says later what they lead to."""

    def __init__(
        self,
        sessions: Sessions,
        spool: Spool,
        directory: Directory,
        clock: Callable[[], datetime],
        *,
        relay: Relay | None = None,
        aside: Aside | None = None,
    ) -> None:
        """`relay` takes over what can be sent at once; without one it waits in the queue."""
        self._sessions = sessions
        self._spool = spool
        self.directory = directory
        self._clock = clock
        self._relay = relay
        self._own: dict[tuple[UUID, str], float] = {}
        self._domains: dict[UUID, tuple[float, Sequence[Domain]]] = {}
        self.sorter = Sorter(
            sessions, spool, self.sort, self.set_aside, self._has_room, aside or Aside(sessions)
        )
        self.gauge = Gauge(spool.folder)

    def pressure(self, company_id: UUID | None) -> str:
        """Empty, or why mail can't be taken just now."""
        if self.sorter.full:
            return "more mail came than can be written down; please slow down"
        return self.gauge.problem(company_id)

    async def from_the_world(
        self, client: Client, envelope: Envelope, owners: Sequence[tuple[Owner, str]], raw: bytes
    ) -> str:
        """Mail for our reply domains; returns the id it is known by when it is on disk."""
        by_company: dict[str, list[str]] = {}
        for owner, address in owners:
            addresses = by_company.setdefault(owner.company_id.hex, [])
            if address not in addresses:
                addresses.append(address)
        note = Note(
            key=str(uuid7()),
            at=self._clock(),
            door="mx",
            peer=client.address,
            helo=client.helo,
            sender=envelope.sender,
            ours=by_company,
        )
        await self._spool.append(raw, encode(note), (note, None))
        return note.key

    async def from_a_company(self, client: Client, envelope: Envelope, raw: bytes) -> str:
        """Mail of a company or a rep to people, or an answer of a rep to one of our addresses.

        Raises `PermanentError` saying what is wrong with the message.
        """
        credential = client.credential
        assert credential is not None
        head = read_head(raw)
        ours: list[str] = []
        others: list[Recipient] = []
        for recipient in envelope.recipients:
            domain = recipient.address.rpartition("@")[2].lower()
            try:
                owner = self.directory.owner_now(domain)
            except LookupError:
                owner = await self.directory.owner(domain)
            if owner is None:
                others.append(recipient)
            elif recipient.address not in ours:
                ours.append(recipient.address)
        await self.check_sender(credential, head.sender)
        note = Note(
            key=str(uuid7()),
            at=self._clock(),
            door="submission",
            peer=client.address,
            helo=client.helo,
            login=credential.login,
            sender=envelope.sender,
            ret=envelope.ret,
            envelope_id=envelope.envelope_id,
            require_tls=envelope.require_tls,
            company=credential.company_id.hex,
            ours={credential.company_id.hex: ours} if ours else {},
            others=[(r.address, list(r.notify), r.original) for r in others],
        )
        await self._spool.append(raw, encode(note), (note, head))
        return note.key

    def knows_sender(self, credential: Credential, address: str) -> bool:
        """Whether it was found lately that this login may send as this address."""
        return self._own.get((credential.id, address), 0.0) > time.monotonic()

    async def check_sender(self, credential: Credential, address: str) -> None:
        """Raises `PermanentError` if this login may not send as this address."""
        if self.knows_sender(credential, address):
            return
        parsed = parse_address(address)
        if parsed is None:
            raise PermanentError(f"<{address[:100]}> is not a mail address")
        if why := why_not_as(credential, parsed.canonical):
            raise PermanentError(why)
        async with self._sessions.read(credential.company_id) as session:
            if await domain_of(session, parsed.canonical) is None:
                raise PermanentError(f"{parsed.domain} is not a domain of this company")
        if len(self._own) >= MAX_KNOWN:
            self._own.clear()
        self._own[(credential.id, address)] = time.monotonic() + KNOWN_SECONDS

    # What was kept, written down.

    async def _has_room(self, seconds: float) -> None:
        if self._relay is not None:
            await self._relay.has_room(seconds)

    async def _domains_of(self, session: AsyncSession, company: UUID) -> Sequence[Domain]:
        """The company's domains, as they were some seconds ago at the most."""
        until, domains = self._domains.get(company, (0.0, ()))
        if until < time.monotonic():
            domains = (await session.scalars(select(Domain))).all()
            self._domains[company] = (time.monotonic() + UNKNOWN_SECONDS, domains)
        return domains

    async def sort(self, session: AsyncSession, batch: Sequence[Kept]) -> Callable[[], None]:
        """Writes the arrivals and orders of these records; for the `Sorter`."""
        arrivals: dict[UUID, list[tuple[Note, Kept]]] = {}
        orders: dict[UUID, list[tuple[Note, Head, Kept]]] = {}
        for record in batch:
            note, head = record.memo or (_note_of(record), None)
            for company in note.ours:
                arrivals.setdefault(UUID(company), []).append((note, record))
            if note.others:
                orders.setdefault(UUID(note.company), []).append(
                    (note, head or read_head(record.data), record)
                )
        for company, came in arrivals.items():
            narrow(session, company)
            await self._arrive(session, company, came)
        taken: list[Taken] = []
        for company, sent in orders.items():
            narrow(session, company)
            taken += await self._order(session, company, sent)
        relay = self._relay
        ordered = sum(len(note.others) for sent in orders.values() for note, _, _ in sent)

        def after() -> None:
            if relay is not None and ordered:
                relay.take(taken)
                if len(taken) < ordered:
                    relay.wake()

        return after

    async def set_aside(self, session: AsyncSession, record: Kept, cause: str) -> None:
        """Keeps a record that could not be sorted where people see it; for the `Sorter`."""
        note = _note_of(record)
        companies = {*note.ours, note.company} - {""}
        for company in companies:
            narrow(session, UUID(company))
            row = self._arrival(note, record, note.ours.get(company, []))
            row |= {"state": "held", "cause": cause}
            if note.others and company == note.company:
                row["recipients"] = [
                    *row["recipients"],
                    *(address for address, _, _ in note.others),
                ]
            await insert_many(session, Arrival, [row])

    async def _arrive(
        self, session: AsyncSession, company: UUID, came: Sequence[tuple[Note, Kept]]
    ) -> None:
        rows = [self._arrival(note, kept, note.ours[company.hex]) for note, kept in came]
        await insert_many(session, Arrival, rows)
        events = [{"payload": {"arrival": str(row["id"])}} for row in rows]
        await publish_many(session, Kind.MAIL_ARRIVED, events, occurred_at=self._clock())

    def _arrival(self, note: Note, kept: Kept, recipients: Sequence[str]) -> dict[str, Any]:
        return {
            "id": uuid7(),
            "key": f"{note.door[:3]}:{note.key}:{uuid7()}",
            "source": note.door,
            "mail_from": note.sender,
            "recipients": list(recipients),
            "remote_ip": note.peer,
            "helo": note.helo,
            "login": note.login,
            "spool": kept.place,
            "state": "waiting",
            "received_at": note.at,
        }

    async def _order(
        self, session: AsyncSession, company: UUID, sent: Sequence[tuple[Note, Head, Kept]]
    ) -> list[Taken]:
        now = self._clock()
        people: dict[str, str] = {}
        for note, head, _ in sent:
            for address, _, _ in note.others:
                canonical = address.lower()
                people[canonical] = people.get(canonical) or head.names.get(canonical, "")
        logins = {note.login for note, _, _ in sent}
        origin = {"by": "submission", "login": min(login or "" for login in logins)}
        contacts = await ensure_contacts(session, people, origin=origin, now=now)
        orders: list[tuple[Order, Kept]] = []
        for note, head, kept in sent:
            parts = take_apart(kept.data) if head.bulk or head.merge else None
            for address, notify, original in note.others:
                contact = contacts[address.lower()]
                orders.append(
                    (_order_for(note, head, kept, parts, contact, address, notify, original), kept)
                )
        claiming = None
        if self._relay is not None:
            barred = await barred_of(session, [contact.address for contact in contacts.values()])
            claiming = self._relay.claiming(barred)
        done = await submit_many(
            session, [order for order, _ in orders], now=now, claiming=claiming
        )
        taken = []
        for (order, kept), result in zip(orders, done, strict=True):
            if isinstance(result, PermanentError):
                log.error("intake.refused_late", key=order.key, cause=result.public)
                row = self._arrival(_note_of(kept), kept, [order.recipient])
                row |= {"state": "held", "cause": result.public[:500]}
                await insert_many(session, Arrival, [row])
            elif result.claimed and claiming is not None:
                taken.append(Taken(result, claiming, kept.data))
        return taken


def _note_of(kept: Kept) -> Note:
    return kept.memo[0] if kept.memo else decode(kept.note)


def _order_for(
    note: Note,
    head: Head,
    kept: Kept,
    parts: Skeleton | None,
    contact: Person,
    address: str,
    notify: list[str],
    original: str,
) -> Order:
    envelope: dict[str, Any] = {"sender": note.sender, "login": note.login}
    optional = {
        "notify": notify,
        "original": original,
        "ret": note.ret,
        "id": note.envelope_id,
        "require_tls": note.require_tls,
    }
    envelope |= {name: value for name, value in optional.items() if value}
    return Order(
        key=f"smtp:{note.key}:{address.lower()}",
        kind="bulk" if head.bulk else "mail",
        sender=head.sender,
        sender_name=head.sender_name,
        recipient=address,
        recipient_name=head.names.get(address.lower(), "") or contact.name,
        subject=head.subject,
        text=parts.text if parts else "",
        html=parts.html if parts else "",
        values=_merge_values(contact) if head.merge else {},
        contact_id=contact.id,
        campaign=head.campaign,
        in_reply_to=head.in_reply_to,
        references=head.references,
        lane=2 if head.bulk else 1,
        spool=kept.place,
        as_is=parts is None,
        literal=not head.merge,
        parsed={"envelope": envelope},
    )


def _merge_values(contact: Person) -> dict[str, Any]:
    first = contact.name.split(" ")[0] if contact.name else ""
    known = {
        "name": contact.name,
        "first_name": first,
        "address": contact.address,
        "organisation": contact.organisation,
    }
    return {**{key: value for key, value in known.items() if value}, **contact.fields}

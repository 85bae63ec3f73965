"""The station that understands arrived mail: MAIL_ARRIVED becomes a message and its event.

It works in two steps (`bus.stations.Station.prepare`). First, with no transaction open, the bytes
are read from the spool, the sender is authenticated (which asks name servers), the answered message
is looked for and the content analysed. Then one transaction claims the arrival by compare-and-set
on its state and files everything (`filing`); who loses the claim writes nothing.

While one arrival is waited for, the next ones are looked at too, so that one sender's slow name
servers hold up nobody else's mail.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from bus.stations import Station
from config.settings import Settings
from inbound import headers
from inbound.analysis import Analysis, analyse
from inbound.authentication import Envelope, Login, Names, Verdict, authenticate
from inbound.filing import Finding, file, hold
from inbound.lines import html_lines
from inbound.parse import split_headers
from inbound.purpose import Purpose, only_in_copy, people_reached, purpose_of
from inbound.tie import Clue, How, Tie, decide, find_candidates, read_tokens, tokens_within
from mail.address import parse_address
from mail.errors import PermanentError, TemporaryError
from mail.tokens import Token, TokenKeys, TokenKind
from mta.accounts import domain_of
from mta.compose import Composer, Letter
from mta.srs import is_rewritten
from mta.template import CompiledTemplate, TemplateKind
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Arrival, Company, Credential, Domain, Event, Message, Template

log = structlog.get_logger()

NO_TIE = Tie(None, How.NONE, 0.0, ())
LOOK_AHEAD = 8
"""Arrivals that are looked at side by side; each may hold a whole message in memory."""

LOOK_SECONDS = 60.0
"""The longest that understanding one message may take, name servers included."""

AGAIN_AFTER_SECONDS = 1.0
"""Name servers that were silent about the sender of an approval are asked once more after this."""


class Spool(Protocol):
    """Where message bytes are kept."""

    def read(self, place: Mapping[str, Any]) -> bytes: ...


def stations(
    *,
    sessions: Sessions,
    settings: Settings,
    keys: TokenKeys,
    spool: Spool,
    resolver: Names,
    clock: Callable[[], datetime],
) -> list[Station]:
    """The one station of this package."""
    intake = Intake(sessions, settings, keys, spool, resolver, clock)
    kinds = frozenset({Kind.MAIL_ARRIVED})
    return [Station("inbound", kinds, intake.handle, intake.prepare)]


async def try_again(session: AsyncSession, arrival_id: UUID, *, now: datetime) -> bool:
    """Has a held arrival looked at again; False if it is not held."""
    again = update(Arrival).where(Arrival.id == arrival_id, Arrival.state == "held")
    changed = await session.execute(again.values(state="waiting", cause=""))
    if not getattr(changed, "rowcount", 0):
        return False
    await publish(session, Kind.MAIL_ARRIVED, occurred_at=now, arrival=arrival_id)
    return True


class Intake:
    """Looks at arrivals ahead of the transaction, then files them."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        keys: TokenKeys,
        spool: Spool,
        resolver: Names,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._keys = keys
        self._spool = spool
        self._resolver = resolver
        self._clock = clock
        self._composer = Composer(keys, settings.public.url)
        self._looks: OrderedDict[UUID, asyncio.Task[Finding | str | None]] = OrderedDict()

    async def prepare(self, event: Event) -> None:
        """Finds out all about the event's arrival, and begins with those behind it."""
        wanted = UUID(str(event.payload["arrival"]))
        async with self._sessions.read(EVERY_COMPANY) as session:
            waiting = select(Arrival.id).where(Arrival.state == "waiting")
            ids = set(await session.scalars(waiting.order_by(Arrival.id).limit(LOOK_AHEAD)))
            if await session.scalar(waiting.where(Arrival.id == wanted)) is None:
                return
        for key in self._looks.keys() - ids - {wanted}:
            self._looks.pop(key).cancel()  # Another process has filed it.
        for key in (wanted, *ids):
            if key not in self._looks:
                self._looks[key] = asyncio.create_task(self._look(key))
        await asyncio.wait([self._looks[wanted]])

    async def handle(self, session: AsyncSession, event: Event) -> None:
        """Files what `prepare` has found, once."""
        key = UUID(str(event.payload["arrival"]))
        look = self._looks.pop(key, None)
        arrival = await session.scalar(select(Arrival).where(Arrival.id == key))
        if arrival is None or arrival.state != "waiting":
            return
        if look is None or not look.done() or (found := look.result()) is None:
            raise TemporaryError("the message was not looked at yet")
        claimed = await session.execute(
            update(Arrival)
            .where(Arrival.id == key, Arrival.state == "waiting")
            .values(state="done")
            .execution_options(synchronize_session=False)
        )
        if not getattr(claimed, "rowcount", 0):
            return
        now = self._clock()
        if isinstance(found, str):
            log.error("arrival.held", arrival_id=str(key), cause=found)
            await hold(session, arrival, found, now=now)
            return
        await file(session, arrival, found, now=now)
        log.info(
            "arrival.filed",
            arrival_id=str(key),
            purpose=found.purpose,
            tie=found.tie.how,
            may_act=found.verdict.may_act,
        )

    async def _look(self, key: UUID) -> Finding | str | None:
        """What is known about an arrival, or the cause why it has to be held."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                async with self._sessions.read(EVERY_COMPANY) as session:
                    arrival = await session.scalar(select(Arrival).where(Arrival.id == key))
                    if arrival is None or arrival.state != "waiting":
                        return None
                raw = await asyncio.to_thread(self._spool.read, arrival.spool)
                return await self._understand(arrival, raw)
        except TimeoutError:
            return f"It could not be understood within {LOOK_SECONDS:.0f} seconds."
        except Exception as error:  # Whatever it is about this message, it is kept.
            return f"{type(error).__name__}: {error}"[:1000]

    async def _understand(self, arrival: Arrival, raw: bytes) -> Finding:
        head = _Head(raw)
        async with self._sessions.read(arrival.company_id) as session:
            company = (
                await session.scalars(select(Company).where(Company.id == arrival.company_id))
            ).one()
            tokens, notes = read_tokens(
                [str(r) for r in arrival.recipients], self._keys, company.number
            )
            clue = Clue(tokens, head.references, head.sender, head.subject)
            # What comes back to a rewritten return path is about mail that we passed on to a rep;
            # it says nothing of the contact whose answer that was.
            returned = bool(arrival.recipients) and all(
                is_rewritten(str(recipient)) for recipient in arrival.recipients
            )
            tie = NO_TIE
            if not returned:
                tie = decide(clue, await find_candidates(session, clue, now=self._clock()))
            login = await _login(session, arrival)
            domains = await _own_domains(session)
            again = head.message_id and await session.scalar(
                select(Message.id).where(
                    Message.direction == "out",
                    Message.rfc_message_id.in_([head.message_id, f"<{head.message_id}>"]),
                )
            )
            tie = await _tie_of_approval(session, tokens, tie)
            sent_text = await self._sent_text(session, company, tie)

        def ours(address: str) -> bool:
            local, _, domain = address.lower().rpartition("@")
            return domain in domains or isinstance(self._keys.read_local_part(local), Token)

        verdict = await self._verdict(arrival, raw, login, tokens)
        analysis = await asyncio.to_thread(analyse, raw, sent_text=sent_text, own_addresses=ours)
        if tie.answers is None and not returned:
            tie = await self._tie_by_content(arrival, company.number, raw, analysis, clue, tie)
        kinds = {token.kind for token in tokens}
        purpose = purpose_of(
            analysis,
            tokens,
            passed_on=bool(kinds & {TokenKind.REPLY, TokenKind.FORWARD})
            and only_in_copy(analysis.parsed.to, ours),
            null_sender=arrival.mail_from.strip() in ("", "<>") and arrival.source != "submission",
        )
        if again:
            purpose, notes = Purpose.LOOP, (*notes, "it is a message of ours that came back")
        found = Finding(
            analysis, verdict, tie, purpose, _fingerprint(raw, head, tokens), tokens, notes
        )
        if purpose is Purpose.FORWARD:
            people = people_reached(analysis, ours, but=[found.sender])
            found = replace(found, people=tuple(people))
        return found

    async def _verdict(
        self, arrival: Arrival, raw: bytes, login: Login | None, tokens: Sequence[Token]
    ) -> Verdict:
        submitted = arrival.source == "submission"
        envelope = Envelope(
            arrival.mail_from,
            "" if submitted else arrival.remote_ip,  # A rep's own line is in nobody's SPF record.
            arrival.helo,
            login,
        )
        verdict = await authenticate(raw, envelope, self._resolver)
        if verdict.uncertain and any(token.kind is TokenKind.APPROVAL for token in tokens):
            await asyncio.sleep(AGAIN_AFTER_SECONDS)
            verdict = await authenticate(raw, envelope, self._resolver)
        return verdict

    async def _tie_by_content(
        self,
        arrival: Arrival,
        company: int,
        raw: bytes,
        analysis: Analysis,
        clue: Clue,
        tie: Tie,
    ) -> Tie:
        """A second try for what comes without a token: the original that a report encloses."""
        tokens = tokens_within(raw, self._keys, company)
        named = (analysis.original_message_id.strip("<>"),) if analysis.original_message_id else ()
        if not tokens and not named:
            return tie
        deeper = Clue(tokens, (*named, *clue.references), clue.sender, clue.subject)
        async with self._sessions.read(arrival.company_id) as session:
            found = decide(deeper, await find_candidates(session, deeper, now=self._clock()))
        return tie if found.answers is None or found.how is How.SENDER else found

    async def _sent_text(self, session: AsyncSession, company: Company, tie: Tie) -> str | None:
        """The text of the answered message as its reader saw it, if it can be made again."""
        if tie.answers is None:
            return None
        message = await session.scalar(select(Message).where(Message.id == tie.answers))
        if message is None or message.template_id is None:
            return message.body or None if message else None
        template = await session.scalar(select(Template).where(Template.id == message.template_id))
        domain = await domain_of(session, message.sender)
        if template is None:
            return None
        letter = Letter(
            id=message.id,
            company=company.number,
            kind=message.kind,
            sender=message.sender,
            sender_name=message.sender_name,
            recipient=message.recipient,
            recipient_name=message.recipient_name,
            values=message.values,
            rfc_message_id=message.rfc_message_id,
            references=message.references,
            reply_domain=domain.reply_domain if domain else "",
            postal_address=company.postal_address,
            created_at=message.created_at,
        )
        try:
            compiled = CompiledTemplate(
                TemplateKind.of(template.headers), template.subject, template.text, template.html
            )
            values = self._composer.values(compiled, letter)
            if compiled.has_text:
                return compiled.text.fill(values)
            return "\n".join(line.text for line in html_lines(compiled.html.fill(values)))
        except PermanentError:
            return None  # The quotation is then found without knowing what we wrote.


class _Head:
    """The header fields that decide what is looked up."""

    def __init__(self, raw: bytes) -> None:
        fields, self.body = split_headers(raw, lambda problem: None)
        first = dict(reversed(fields))
        senders = headers.addresses(first.get("from", ""))
        address = parse_address(senders[0].address) if senders else None
        self.sender = address.canonical if address else ""
        self.subject = headers.tidy(headers.decode_words(first.get("subject", "")))
        self.date = first.get("date", "")
        self.message_id = next(iter(headers.message_ids(first.get("message-id", ""))), "")
        answered = headers.message_ids(first.get("in-reply-to", ""))
        before = headers.message_ids(first.get("references", ""))
        self.references = tuple(dict.fromkeys((*answered, *reversed(before))))


def _fingerprint(raw: bytes, head: _Head, tokens: Sequence[Token]) -> str:
    """The same for two copies of one message to the same address of ours, by whatever way."""
    named = head.message_id or f"{head.sender}|{head.date}|{head.subject}"
    places = sorted(f"{token.kind}:{token.subject}" for token in tokens)
    made = hashlib.sha256("\n".join([named, *places, ""]).encode("utf-8", "surrogatepass"))
    made.update(b"\n".join(line.rstrip() for line in head.body.rstrip().split(b"\n")))
    return made.hexdigest()


async def _login(session: AsyncSession, arrival: Arrival) -> Login | None:
    """The credential that handed the message in, if it is this company's."""
    if arrival.source != "submission" or not arrival.login:
        return None
    credential = await session.scalar(
        select(Credential).where(Credential.login == arrival.login, Credential.revoked_at.is_(None))
    )
    if credential is None:
        return None
    address = parse_address(credential.address) if credential.address else None
    if credential.address and address is None:
        return None
    return Login(credential.login, address.canonical if address else None)


async def _own_domains(session: AsyncSession) -> frozenset[str]:
    rows = (await session.execute(select(Domain.name, Domain.reply_domain))).all()
    return frozenset(name for row in rows for name in row)


async def _tie_of_approval(session: AsyncSession, tokens: Sequence[Token], tie: Tie) -> Tie:
    """An approval answers the mail that asked for it."""
    token = next((token for token in tokens if token.kind is TokenKind.APPROVAL), None)
    if token is None:
        return tie
    asked = await session.scalar(
        select(Message.id)
        .where(Message.direction == "out", Message.draft_id == token.subject)
        .where(Message.kind == "approval")
        .order_by(Message.created_at.desc())
        .limit(1)
    )
    return Tie(asked, How.TOKEN, 1.0, ("tied by its approval address",)) if asked else tie

"""The pages on which people unsubscribe or choose what they get.

GET and HEAD show and change nothing. POST changes something in two cases alone: a mail provider
sends `List-Unsubscribe=One-Click` for its user (RFC 8058 §3.1), or a person presses a button of our
page, whose form carries a ticket that is good for a day. Link scanners that post forms or empty
bodies do neither, and one that calls itself a machine is shown the page again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from litestar import Response
from sqlalchemy import select

from bus.events import Agent, Kind, publish
from inbound.agents import Hit, judge
from inbound.forms import read_fields
from inbound.words import Words, language_for
from mail.tokens import Token, TokenKind
from mta.preferences import (
    EVERY_DAYS,
    PAUSES,
    Choices,
    choices_of,
    choose,
    live_topics,
    topic_of,
    unsubscribe_scope,
)
from mta.recipients import ensure_contact, is_suppressed, suppress
from storage.tables import Company, Contact, Message, Topic

if TYPE_CHECKING:
    from inbound.hits import Call, Pages

TICKET_HOURS = 24
ONE_CLICK = "One-Click"


@dataclass(frozen=True, slots=True)
class Choice:
    """One topic as the page shows it."""

    key: str
    name: str
    description: str
    wanted: bool


class Choosing:
    """Answers for `/u/…` and `/preferences/…`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def unsubscribe(self, call: Call) -> Response[Any]:
        """GET asks; POST does it, also when a mail provider posts (RFC 8058)."""
        pages = self._pages
        token = pages.token(call, TokenKind.UNSUBSCRIBE)
        company = await pages.company(token)
        firm, message, topics = await self._about(company, token)
        scope = unsubscribe_scope(firm.policy, message.campaign, topics)
        words = self._words(call, firm, message)
        topic = topic_of(message.campaign, topics) if scope else None
        name = named(topic, words.language)[0] if topic else ""
        lead = words("unsubscribe_topic", topic=name) if topic else words("unsubscribe_all")
        fields = await _fields(call) if call.method == "POST" else {}
        one_click = fields.get("List-Unsubscribe") == [ONE_CLICK]
        pressed = fields.get("from") == ["page"] and self._pressed(call, token, fields)
        if not (one_click or pressed):
            return pages.page(
                "unsubscribe.html",
                words("unsubscribe_title"),
                firm,
                language=words.language,
                words=words,
                lead=lead,
                notice=words("press_again") if call.method == "POST" else "",
                ticket=self._ticket(token),
                preferences=self._preferences(token),
            )
        # No limit on callers here: mail providers post for all their users from a few addresses.
        await self._stop(company, message, "one_click" if one_click else "page", scope)
        return pages.page(
            "base.html",
            words("unsubscribed_title"),
            firm,
            language=words.language,
            lines=[lead, words("may_still_arrive")],
        )

    async def preferences(self, call: Call) -> Response[Any]:
        """Topics, how often, a pause, or the end of all mail."""
        pages = self._pages
        token, company = await pages.entitled(call, TokenKind.PREFERENCES)
        firm, message, topics = await self._about(company, token)
        words = self._words(call, firm, message)
        async with pages.sessions.read(company) as session:
            if await is_suppressed(session, message.recipient):
                return self._said(firm, words, "unsubscribed_title", "stopped")
            contact = await self._contact(session, message)
            before = Choices({t.key: t.chosen for t in topics}, 0, None)
            if contact is not None:
                before = await choices_of(session, contact.id)
        fields = await _fields(call) if call.method == "POST" else {}
        pressed = self._pressed(call, token, fields)
        if pressed and fields.get("do") == ["stop"]:
            await self._stop(company, message, "preferences", "")
            return self._said(firm, words, "unsubscribed_title", "stopped")
        if pressed and fields.get("do") == ["save"]:
            await self._save(company, message, _chosen(fields, topics, before, pages.clock()))
            return self._said(firm, words, "saved_title", "saved")
        paused = before.paused_until
        return pages.page(
            "preferences.html",
            words("preferences_title"),
            firm,
            language=words.language,
            words=words,
            notice=words("press_again") if call.method == "POST" else "",
            ticket=self._ticket(token),
            topics=[Choice(t.key, *named(t, words.language), before.topics[t.key]) for t in topics],
            often=EVERY_DAYS,
            every_days=before.every_days,
            pauses=PAUSES,
            paused_until=f"{paused:%Y-%m-%d}" if paused and paused > pages.clock() else "",
        )

    async def _about(self, company: UUID, token: Token) -> tuple[Company, Message, list[Topic]]:
        async with self._pages.sessions.read(company) as session:
            message = await self._pages.message(session, token.subject)
            firm = (await session.scalars(select(Company).where(Company.id == company))).one()
            return firm, message, await live_topics(session)

    def _words(self, call: Call, firm: Company, message: Message) -> Words:
        language = language_for(call.headers.get("accept-language", ""))
        return Words(language, company=firm.name, address=veiled(message.recipient))

    def _said(self, firm: Company, words: Words, title: str, line: str) -> Response[Any]:
        return self._pages.page(
            "base.html", words(title), firm, language=words.language, lines=[words(line)]
        )

    def _preferences(self, token: Token) -> str:
        of = Token(TokenKind.PREFERENCES, token.company, token.subject)
        return f"/preferences/{self._pages.keys.in_link(of)}"

    def _ticket(self, token: Token) -> str:
        """Shows on a form that it came from our page today; a scanner that makes one up can't."""
        hour = int(self._pages.clock().timestamp() // 3600) & 0xFFFF
        return self._pages.keys.in_link(Token(TokenKind.FORM, token.company, token.subject, hour))

    def _pressed(self, call: Call, token: Token, fields: dict[str, list[str]]) -> bool:
        """Whether a person sent our form: with its ticket, and not calling itself a machine."""
        given = self._pages.keys.read_link(fields.get("ticket", [""])[0], TokenKind.FORM)
        if not isinstance(given, Token):
            return False
        hour = int(self._pages.clock().timestamp() // 3600)
        fresh = (hour - given.slot) & 0xFFFF <= TICKET_HOURS
        same = (given.company, given.subject) == (token.company, token.subject)
        headers = {name.lower(): value for name, value in call.headers.items()}
        now = self._pages.clock()
        opinion = judge(Hit(now, call.method, headers), delivered_at=now - timedelta(days=1))
        return fresh and same and opinion.agent is not Agent.MACHINE

    async def _contact(self, session: Any, message: Message) -> Contact | None:
        if message.contact_id is None:
            return None
        found = select(Contact).where(Contact.id == message.contact_id)
        contact: Contact | None = await session.scalar(found)
        return contact

    async def _stop(self, company: UUID, message: Message, how: str, scope: str) -> None:
        now = self._pages.clock()
        detail = {"how": how, "message": str(message.id)}
        async with self._pages.sessions.begin(company) as session:
            new = await suppress(
                session, message.recipient, "unsubscribed", now=now, detail=detail, scope=scope
            )
            if not new:
                return
            stopped: dict[str, Any] = {"how": how}
            if scope:
                stopped["changed"] = {scope: False}
            await publish(
                session,
                Kind.PREFERENCES_CHANGED if scope else Kind.UNSUBSCRIBED,
                contact=message.contact_id,
                message=message.id,
                enrolment=None if scope else message.enrolment_id,
                occurred_at=now,
                **stopped,
            )

    async def _save(self, company: UUID, message: Message, choices: Choices) -> None:
        now = self._pages.clock()
        async with self._pages.sessions.begin(company) as session:
            contact = await self._contact(session, message) or await ensure_contact(
                session,
                message.recipient,
                origin={"by": "preferences", "message": str(message.id)},
                now=now,
            )
            changed = await choose(session, contact, choices, now=now)
            if changed:
                await publish(
                    session,
                    Kind.PREFERENCES_CHANGED,
                    contact=contact.id,
                    message=message.id,
                    occurred_at=now,
                    changed=changed,
                    how="preferences",
                )


def _chosen(
    fields: dict[str, list[str]], topics: list[Topic], before: Choices, now: datetime
) -> Choices:
    """What the form says; anything that it doesn't offer is left as it was."""
    wanted = set(fields.get("topic", []))
    often, pause = fields.get("every_days", [""])[0], fields.get("pause", [""])[0]
    every_days = int(often) if often in map(str, EVERY_DAYS) else before.every_days
    until = before.paused_until
    if pause in map(str, PAUSES):
        until = now + timedelta(days=int(pause)) if int(pause) else None
    return Choices({topic.key: topic.key in wanted for topic in topics}, every_days, until)


def named(topic: Topic, language: str) -> tuple[str, str]:
    """Name and description in the reader's language, else English, else whichever there is."""
    names = topic.names
    words: dict[str, Any] = names.get(language) or names.get("en") or next(iter(names.values()), {})
    return str(words.get("name") or topic.key), str(words.get("description") or "")


async def _fields(call: Call) -> dict[str, list[str]]:
    """The form's text fields; providers send multipart/form-data as well (RFC 8058 §3.2)."""
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind:
        return read_fields(await call.body())
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return {}
    try:
        form = await call.form()
    except Exception:  # Whatever the body is, it is no form, and then nothing is changed.
        return {}
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str) and len(fields) < 100:
            fields.setdefault(str(name)[:64], []).append(value[:200].strip())
    return fields


def veiled(address: str) -> str:
    """An address that its owner recognises and nobody else learns from a forwarded link."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"

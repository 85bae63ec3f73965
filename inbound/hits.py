"""The public web host: links, pictures and forms that recipients see.

A token in the path says which message or person it is about, and is checked before the database is
asked. It is also what entitles: whoever has the link may fill in the form behind it. That is why no
CSRF token is needed: there is no sign-in and no cookie that another site could misuse; a stranger's
page would have to know the signed link, and then it needs nobody's browser.

GET and HEAD change nothing but the record of hits: mail filters call for every link. Only POST
unsubscribes, invites or consents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from jinja2 import Environment, FileSystemLoader
from litestar import Litestar, MediaType, Request, Response, route
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import Message as AsgiMessage
from litestar.types import Scope
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from bus.events import Kind, publish
from config.settings import Settings
from inbound import mail_policy
from inbound.agents import Hit, Opinion, judge
from inbound.choosing import Choosing, veiled
from inbound.forms import (
    MAX_BODY_BYTES,
    Buckets,
    Friend,
    network_of,
    one,
    read_fields,
    read_invitation,
)
from inbound.showing import Showing
from inbound.targets import target
from mail.address import parse_address
from mail.tokens import Token, TokenKeys, TokenKind, TokenProblem
from mta.recipients import ensure_contact
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Consent, Contact, Delivery, Event, Message, Referral, Template

log = structlog.get_logger()

Call = Request[Any, Any, Any]
Clock = Callable[[], datetime]

_FOLDER = Path(__file__).parent / "pages"
_PICTURE = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",  # The path holds a token that entitles.
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
_WORDING = (
    "Somebody you know thought that {company} may be of interest to you and gave us the address "
    "{address}. May {company} write to you there by e-mail? You can unsubscribe in every mail."
)


class PageError(Exception):
    """A page that says what is wrong and what to do."""

    def __init__(self, status: int, title: str, *lines: str) -> None:
        super().__init__(title)
        self.status, self.title, self.lines = status, title, lines


class Pages:
    """Answers the calls. One transaction per change; the network is only the caller's."""

    def __init__(
        self, sessions: Sessions, settings: Settings, keys: TokenKeys, clock: Clock
    ) -> None:
        self.sessions = sessions
        self._url = settings.public.url.rstrip("/")
        self.keys = keys
        self.clock = clock
        self._companies: dict[int, UUID] = {}
        self._forms = Buckets(20, timedelta(minutes=10))
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True
        )

    # Links and pictures.

    async def click(self, call: Call) -> Response[Any]:
        """On to where the link of the message leads."""
        token = self.token(call, TokenKind.CLICK)
        company = await self.company(token)
        async with self.sessions.read(company) as session:
            message = await _message(session, token.subject)
            template = await session.get(Template, message.template_id)
            links = template.links if template else []
            url = target(links, token.slot, message.values)
            opinion = await self.opinion(session, call, message.id, token.slot, len(links))
        if not url:
            raise PageError(
                404,
                "This link leads nowhere",
                "The message has no such link any more. Answer the mail and ask for it.",
            )
        await self.record(company, Kind.CLICKED, message, opinion, slot=token.slot, url=url[:2000])
        return Response(b"", status_code=302, headers={"Location": _ascii_url(url)})

    async def open(self, call: Call) -> Response[Any]:
        """The picture that tells that a message was shown."""
        token = self.token(call, TokenKind.OPEN)
        company = await self.company(token)
        async with self.sessions.read(company) as session:
            message = await _message(session, token.subject)
            opinion = await self.opinion(session, call, message.id, None, 0)
        await self.record(company, Kind.OPENED, message, opinion, slot=None, url="")
        return Response(_PICTURE, media_type="image/gif")

    async def opinion(
        self, session: AsyncSession, call: Call, message: UUID, slot: int | None, links: int
    ) -> Opinion:
        """Whether a person or a machine called."""
        now = self.clock()
        delivered_at = await session.scalar(
            select(Delivery.finished_at).where(
                Delivery.message_id == message, Delivery.state == "delivered"
            )
        )
        earlier: list[tuple[datetime, int]] = []
        if slot is not None:
            clicks = select(Event.occurred_at, Event.payload).where(
                Event.message_id == message,
                Event.kind == Kind.CLICKED,
                Event.occurred_at > now - timedelta(seconds=30),
            )
            rows = (await session.execute(clicks.limit(100))).all()
            earlier = [(at, int(payload.get("slot") or 0)) for at, payload in rows]
        headers = {name.lower(): value for name, value in call.headers.items()}
        hit = Hit(now, call.method, headers, slot)
        return judge(hit, delivered_at=delivered_at, links=links, earlier=earlier)

    async def record(
        self, company: UUID, kind: Kind, message: Message, opinion: Opinion, **payload: Any
    ) -> None:
        """Keeps a hit as an event; a reader is served even if that fails."""
        try:
            async with self.sessions.begin(company) as session:
                await publish(
                    session,
                    kind,
                    contact=message.contact_id,
                    message=message.id,
                    enrolment=message.enrolment_id,
                    agent=opinion.agent,
                    reasons=opinion.reasons,
                    occurred_at=self.clock(),
                    **payload,
                )
        except SQLAlchemyError as error:  # A reader gets to the page all the same.
            log.warning("hit.lost", message_id=str(message.id), cause=str(error)[:200])

    # Inviting and consenting.

    async def forward(self, call: Call) -> Response[Any]:
        """The form by which a recipient invites friends."""
        token, company = await self.entitled(call, TokenKind.SHARE)
        async with self.sessions.read(company) as session:
            message = await _message(session, token.subject)
            firm = await session.get(Company, company)
        if message.contact_id is None:
            raise _gone()
        given = read_invitation(
            read_fields(await call.body()) if call.method == "POST" else {},
            inviter=message.recipient.lower(),
        )
        ours = [f for f in given.friends if self._is_ours(f.address)]
        problems = [*given.problems, *(f"{f.address} is an address of ours." for f in ours)]
        if call.method != "POST" or problems:
            return self.page(
                "forward.html",
                "Show this to a friend",
                firm,
                status=200 if call.method != "POST" else 422,
                subject=message.subject,
                rows=given.rows,
                note=given.note,
                problems=problems if call.method == "POST" else [],
            )
        invitations = []
        async with self.sessions.begin(company) as session:
            now = self.clock()
            for friend in given.friends:
                contact = await ensure_contact(
                    session,
                    friend.address,
                    name=friend.name,
                    origin={
                        "by": "referral",
                        "mode": "form",
                        "inviter": str(message.contact_id),
                        "message": str(message.id),
                    },
                    now=now,
                )
                invitations.append(self._invitation(token.company, contact.id, friend))
            await publish(
                session,
                Kind.FORM_FORWARDED,
                contact=message.contact_id,
                message=message.id,
                enrolment=message.enrolment_id,
                occurred_at=now,
                people=[{"address": f.address, "name": f.name} for f in given.friends],
                note=given.note,
            )
        return self.page(
            "forwarded.html", "Your invitations are ready", firm, invitations=invitations
        )

    def _invitation(self, company: int, contact: UUID, friend: Friend) -> dict[str, str]:
        link = self.keys.in_link(Token(TokenKind.CONSENT, company, contact))
        return {"name": friend.name, "address": friend.address, "url": f"{self._url}/k/{link}"}

    def _is_ours(self, address: str) -> bool:
        return isinstance(self.keys.read_local_part(address.rpartition("@")[0]), Token)

    async def consent(self, call: Call) -> Response[Any]:
        """Where an invited person says yes or no."""
        token, company = await self.entitled(call, TokenKind.CONSENT)
        async with self.sessions.read(company) as session:
            contact = await session.scalar(select(Contact).where(Contact.id == token.subject))
            firm = await session.get(Company, company)
            if contact is None or firm is None:
                raise _gone()
            open_to = await _may_answer(session, contact)
        wording = _WORDING.format(company=firm.name, address=veiled(contact.address))
        answer = one(read_fields(await call.body()), "answer") if call.method == "POST" else ""
        if answer not in ("yes", "no"):
            problems = ["Choose one of the two answers."] if call.method == "POST" else []
            return self.page(
                "consent.html",
                f"May {firm.name} write to you?",
                firm,
                status=422 if problems else 200,
                wording=wording,
                problems=problems,
            )
        kind = Kind.CONSENT_GIVEN if answer == "yes" else Kind.CONSENT_REFUSED
        if answer in open_to:
            await self._consented(company, kind, contact.id, call, wording, page="invitation")
        elif answer == "yes" and open_to:
            return self._say(
                firm,
                "Please write to us",
                f"The answer for this address was no. Write to {firm.name} from it to change that.",
            )
        if answer == "yes":
            return self._say(firm, "Thank you", f"{firm.name} may now write to you.")
        return self._say(firm, "Understood", f"{firm.name} will not write to you.")

    async def join(self, call: Call) -> Response[Any]:
        """Where somebody whom a mail was forwarded to asks to be written to as well.

        The answer is the same whether or not the address is known: the page tells nobody whom a
        company knows.
        """
        token, company = await self.entitled(call, TokenKind.SHARE)
        async with self.sessions.read(company) as session:
            message = await _message(session, token.subject)
            firm = await session.get(Company, company)
            if firm is None:
                raise _gone()
            typed = one(read_fields(await call.body()), "address") if call.method == "POST" else ""
            address = parse_address(typed)
            invited = None
            if address is not None:
                invited = await session.scalar(
                    select(Contact)
                    .join(Referral, Referral.invitee_id == Contact.id)
                    .where(Contact.address == address.canonical)
                    .limit(1)
                )
            if invited is not None and "yes" not in await _may_answer(session, invited):
                invited = None
        if address is None:
            problem = "That is not an e-mail address. It looks like name@example.com."
            return self.page(
                "join.html",
                "Write to me too",
                firm,
                status=422 if call.method == "POST" else 200,
                subject=message.subject,
                address=typed[:254],
                problems=[problem] if call.method == "POST" else [],
            )
        if invited is not None:
            wording = f"{firm.name} may write to {veiled(invited.address)} by e-mail."
            await self._consented(
                company, Kind.CONSENT_GIVEN, invited.id, call, wording, page="join"
            )
        return self._say(
            firm,
            "Thank you",
            f"If that is the address you were invited with, {firm.name} may now write to you.",
            "If nothing comes, ask the person who told you to invite you with this address.",
        )

    async def _consented(
        self, company: UUID, kind: Kind, contact: UUID, call: Call, wording: str, *, page: str
    ) -> None:
        now = self.clock()
        evidence = {
            "page": page,
            "wording": wording,
            "at": now.isoformat(),
            "client": call.client.host if call.client else "",
            "agent": call.headers.get("user-agent", "")[:200],
        }
        async with self.sessions.begin(company) as session:
            await publish(session, kind, contact=contact, occurred_at=now, evidence=evidence)

    # What all pages share.

    def gone(self) -> PageError:
        """For what a token names and is there no more."""
        return _gone()

    def over(self, firm: Company) -> PageError:
        """For a page that was taken back or has ended."""
        return PageError(
            410,
            "This page is no longer shown",
            f"{firm.name} has ended it. Answer the mail and ask if you still need it.",
        )

    async def message(self, session: AsyncSession, key: UUID) -> Message:
        """A message that went out. Raises `PageError` if it is gone."""
        return await _message(session, key)

    def token(self, call: Call, kind: TokenKind) -> Token:
        """The token in the path. Raises `PageError` saying what is wrong with it."""
        token = self.keys.read_link(str(call.path_params["token"]), kind)
        if isinstance(token, Token):
            return token
        if token is TokenProblem.UNKNOWN_KEY:
            raise PageError(
                410, "This link has expired", "It is too old to be checked. Use a newer mail."
            )
        raise PageError(
            404,
            "This link is not complete",
            "A part of it was lost or changed on the way. Open it from the mail again, or copy the "
            "whole link, which may run over several lines.",
        )

    async def entitled(self, call: Call, kind: TokenKind) -> tuple[Token, UUID]:
        """Token and company of a form; those who send forms too often have to wait."""
        token = self.token(call, kind)
        if call.method == "POST":
            client = network_of(call.client.host) if call.client else ""
            if not self._forms.take([client, str(token.subject)], self.clock()):
                raise PageError(
                    429, "Too many at once", "Please wait ten minutes and send the form again."
                )
        return token, await self.company(token)

    async def company(self, token: Token) -> UUID:
        """The company that the token names. Raises `PageError` if it is gone."""
        known = self._companies.get(token.company)
        if known is None:
            async with self.sessions.read(EVERY_COMPANY) as session:
                known = await session.scalar(
                    select(Company.id).where(Company.number == token.company)
                )
            if known is None:
                raise _gone()
            self._companies[token.company] = known
        return known

    def page(
        self,
        template: str,
        title: str,
        firm: Company | None = None,
        *,
        status: int = 200,
        **values: Any,
    ) -> Response[str]:
        """A page from its template."""
        html = self._templates.get_template(template).render(
            title=title,
            company=firm.name if firm else "",
            postal_address=firm.postal_address if firm else "",
            **values,
        )
        return Response(html, status_code=status, media_type=MediaType.HTML)

    def _say(self, firm: Company | None, title: str, *lines: str) -> Response[str]:
        return self.page("base.html", title, firm, lines=lines)

    def problem(self, call: Call, error: Exception) -> Response[str]:
        """The one place where an error becomes a page."""
        if isinstance(error, PageError):
            return self.page("base.html", error.title, status=error.status, lines=error.lines)
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status >= 500:
            log.error("page.failed", path=call.url.path[:3], cause=repr(error)[:500])
        title, line = _PROBLEMS.get(status, ("This did not work", "Open the link again."))
        return self.page("base.html", title, status=status, lines=[line])


_PROBLEMS = {
    404: ("Nothing here", "Open the link from the mail again."),
    405: ("Not in this way", "Open the link in a browser."),
    413: ("Too long", f"A form may have {MAX_BODY_BYTES // 1024} KiB at most. Shorten the note."),
    500: ("That is our fault", "Something went wrong here. Please try again in a few minutes."),
}


def _gone() -> PageError:
    return PageError(
        404,
        "This link is no longer known",
        "What it belongs to has been deleted. If you need it, answer the mail and ask.",
    )


async def _message(session: AsyncSession, message_id: UUID) -> Message:
    message = await session.scalar(
        select(Message).where(Message.id == message_id, Message.direction == "out")
    )
    if message is None:
        raise _gone()
    return message


async def _may_answer(session: AsyncSession, contact: Contact) -> frozenset[str]:
    """Which answers count for a person.

    The links pass through the hands of whoever invited them. So nobody is signed on again who has
    said no, and the company's own contacts, who were never asked, can't be signed off by others.
    """
    state = await session.scalar(select(Consent.state).where(Consent.contact_id == contact.id))
    if state is None and "inviter" not in contact.origin:
        return frozenset()
    return frozenset({"no"} if state == "refused" else {"yes", "no"})


def _ascii_url(url: str) -> str:
    """A header value: whatever is not ASCII is percent-encoded (RFC 3987 §3.1)."""
    return "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in url)


def _with_headers(extra: dict[str, str]) -> Callable[[AsgiMessage, Scope], Awaitable[None]]:
    pairs = [(name.lower().encode(), value.encode()) for name, value in extra.items()]

    async def before_send(message: AsgiMessage, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            more = [pair for pair in pairs if pair[0] not in present]
            message["headers"] = [*message["headers"], *more]

    return before_send


def make_app(sessions: Sessions, settings: Settings, keys: TokenKeys, clock: Clock) -> Litestar:
    """The web application of the public host."""
    pages = Pages(sessions, settings, keys, clock)
    choosing, showing = Choosing(pages), Showing(pages)
    style = (_FOLDER / "style.css").read_bytes()

    async def css(call: Call) -> Response[Any]:
        return Response(
            style, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"}
        )

    seen = ("GET", "HEAD")
    form = ("GET", "HEAD", "POST")
    places = [
        ("/c/{token:str}", seen, pages.click),
        ("/o/{token:str}", seen, pages.open),
        ("/u/{token:str}", form, choosing.unsubscribe),
        ("/preferences/{token:str}", form, choosing.preferences),
        ("/f/{token:str}", form, pages.forward),
        ("/k/{token:str}", form, pages.consent),
        ("/j/{token:str}", form, pages.join),
        ("/p/{token:str}", seen, showing.page),
        ("/p/{token:str}/{number:int}", seen, showing.file),
        ("/style.css", seen, css),
        (mail_policy.PATH, seen, mail_policy.MailPolicy(sessions, settings).show),
    ]
    headers = dict(_HEADERS)
    if settings.public.url.startswith("https://"):
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return Litestar(
        [_handler(path, methods, answer) for path, methods, answer in places],
        exception_handlers={Exception: pages.problem},
        before_send=[_with_headers(headers)],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def _handler(
    path: str, methods: tuple[str, ...], answer: Callable[[Call], Awaitable[Response[Any]]]
) -> HTTPRouteHandler:
    async def handle(request: Request[Any, Any, Any]) -> Response[Any]:
        return await answer(request)

    handle.__name__ = f"answer_{path.strip('/')[:1]}"
    return route(path, http_method=list(methods))(handle)  # type: ignore[arg-type]

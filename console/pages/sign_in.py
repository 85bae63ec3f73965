"""Coming in and going out: a mailed link that works once, or a password."""

from __future__ import annotations

import ipaddress
from typing import Any

from litestar import Response
from litestar.datastructures import Cookie
from sqlalchemy import select

from console import access
from console.desk import Call, Desk, PageError, go, plain_form
from mta.submission import Order, submit
from storage.sessions import EVERY_COMPANY
from storage.tables import Domain, User

MAX_ADDRESS = 320
"""Characters of an address: 64, @ and 255 (RFC 5321 §4.5.3.1)."""

SLOW_DOWN = ("Too many tries", "Wait ten minutes, then try again.")


async def show(desk: Desk, call: Call) -> Response[Any]:
    """The form."""
    back = call.query_params.get("next", "/")
    return desk.page("sign_in.html", None, back=back, said="", email="")


async def enter(desk: Desk, call: Call) -> Response[Any]:
    """A password signs in; without one a link is mailed, if there is such a user."""
    fields = await plain_form(call)
    email, password = fields.get("email", "").strip()[:MAX_ADDRESS], fields.get("password", "")
    back = fields.get("next", "/")
    if not desk.brake.allows(f"address {_network(call)}", f"account {email.lower()}"):
        raise PageError(429, *SLOW_DOWN)
    if password:
        user = await access.check_password(desk.sessions, email, password)
        if user is None:
            said = "This address and password do not fit. Leave the password empty for a link."
            return desk.page("sign_in.html", None, status=401, back=back, said=said, email=email)
        return await _come_in(desk, call, user, back)
    await _mail_link(desk, email)
    return desk.page("link_sent.html", None, email=email, lifetime=_minutes(desk))


async def show_link(desk: Desk, call: Call) -> Response[Any]:
    """A page with one button: a link that is only looked at, as scanners do, is not used up."""
    secret = str(call.path_params["secret"])
    async with desk.sessions.read(EVERY_COMPANY) as session:
        works = await access.link_works(session, secret, now=desk.clock())
    status = 200 if works else 410
    return desk.page("sign_in_link.html", None, status=status, works=works, secret=secret)


async def use_link(desk: Desk, call: Call) -> Response[Any]:
    """The button: signs in, once."""
    async with desk.sessions.begin(EVERY_COMPANY) as session:
        user = await access.use_sign_in_link(
            session, str(call.path_params["secret"]), now=desk.clock()
        )
    if user is None:
        return desk.page("sign_in_link.html", None, status=410, works=False, secret="")
    return await _come_in(desk, call, user, "/")


async def leave(desk: Desk, call: Call) -> Response[Any]:
    """Signs out."""
    who = await desk.signed_in(call)
    await desk.form(call, who)
    async with desk.sessions.begin(who.company.id) as session:
        await access.end_session(session, who.session, now=desk.clock())
    answer = go("/sign-in")
    answer.set_cookie(Cookie(key=desk.cookie, value="", max_age=0, path="/", secure=desk.secure))
    return answer


def _network(call: Call) -> str:
    """Where a caller is: one person's IPv6 line has 2^64 addresses, so its prefix counts."""
    host = call.client.host if call.client else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host


async def _come_in(desk: Desk, call: Call, user: User, back: str) -> Response[Any]:
    async with desk.sessions.begin(EVERY_COMPANY) as session:
        await access.end_session_of(session, call.cookies.get(desk.cookie, ""), now=desk.clock())
        secret = await access.begin_session(session, user, now=desk.clock())
    answer = go(back)
    answer.set_cookie(
        Cookie(
            key=desk.cookie,
            value=secret,
            path="/",
            httponly=True,
            secure=desk.secure,
            samesite="lax",
        )
    )
    return answer


async def _mail_link(desk: Desk, email: str) -> None:
    """Says nothing of whether there is such a user: the page looks the same."""
    now = desk.clock()
    async with desk.sessions.read(EVERY_COMPANY) as session:
        found = await session.scalars(
            select(User).where(User.email == email.lower(), User.disabled_at.is_(None))
        )
        user = found.one_or_none()
    if user is None:
        return
    lifetime = desk.settings.console.sign_in_link
    async with desk.sessions.begin(user.company_id) as session:
        domain = (await session.scalars(select(Domain).order_by(Domain.created_at))).first()
        if domain is None:
            return
        secret = await access.make_sign_in_link(session, user, now=now, lifetime=lifetime)
        url = f"{desk.settings.console.url.rstrip('/')}/sign-in/{secret}"
        order = Order(
            key=f"sign-in:{secret[:16]}",
            kind="system",
            sender=f"waypost@{domain.name}",
            sender_name="Waypost",
            recipient=user.email,
            recipient_name=user.name,
            subject="Your sign-in link",
            text=f"Hello {user.name},\n\nsign in here, once, within {_minutes(desk)} minutes:\n\n"
            f"{url}\n\nIf you did not ask for this, do nothing.\n",
            user_id=user.id,
            lane=0,
            expires=now + lifetime,
        )
        await submit(session, order, now=now)


def _minutes(desk: Desk) -> int:
    return int(desk.settings.console.sign_in_link.total_seconds() // 60)

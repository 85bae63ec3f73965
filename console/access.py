"""Who may come in: companies, users, passwords, one-time sign-in links, browser sessions.

Secrets are random, shown once and kept as hashes. The session's secret is made here and changed at
every sign-in; nothing that a client sends ever becomes one.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mail.address import parse_address
from mail.errors import ConfigError
from mta.enclosures import MAX_ATTACH_UP_TO
from storage.sessions import EVERY_COMPANY, Sessions, company_of
from storage.tables import Audit, Company, SignInLink, User, WebSession

ROLES = ("owner", "manager", "rep")
LEAST_PASSWORD = 12
SEEN_EVERY = timedelta(minutes=1)
"""A session's last visit is written at most this often."""

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _hasher.hash(secrets.token_hex(16))
"""Checked when there is no such user, so that both answers take as long."""


async def add_company(
    session: AsyncSession, name: str, *, postal_address: str = "", now: datetime
) -> Company:
    """A new company; the session serves every company. Raises `ConfigError`."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= 200:
        raise ConfigError("A company's name has 1 to 200 characters.")
    number = (await session.scalar(select(func.max(Company.number))) or 0) + 1
    company = Company(
        number=number, name=name, postal_address=postal_address, policy={}, created_at=now
    )
    try:
        async with session.begin_nested():
            session.add(company)
    except IntegrityError:
        raise ConfigError(f'There is a company "{name}" already.') from None
    return company


def set_bulk_policy(
    company: Company,
    *,
    postal_address: str | None = None,
    mails: int | None = None,
    days: int | None = None,
    unsubscribe: str | None = None,
    attach_up_to: int | None = None,
) -> None:
    """What bulk mail of this company has to keep to; None leaves a thing as it is.

    `mails` within `days` to one person (0 mails: no limit); `unsubscribe` is company or topic, what
    one click ends; `attach_up_to` bytes go as attachments, more as a link. Raises `ConfigError`.
    """
    policy = dict(company.policy)
    if postal_address is not None:
        line = " ".join(postal_address.split())
        if not 5 <= len(line) <= 300:
            raise ConfigError("A postal address has 5 to 300 characters: street, place, country.")
        company.postal_address = line
    if mails is not None:
        within = 7 if days is None else days
        if not (0 <= mails <= 400 and 1 <= within <= 400):
            raise ConfigError("Give 0 to 400 mails in 1 to 400 days; 0 mails is no limit.")
        policy.pop("bulk_cap", None)
        if mails:
            policy["bulk_cap"] = {"mails": mails, "days": within}
    elif days is not None:
        raise ConfigError("Give --most together with --days.")
    if unsubscribe is not None:
        if unsubscribe not in ("company", "topic"):
            raise ConfigError('unsubscribe is "company" or "topic".')
        policy["unsubscribe"] = unsubscribe
    if attach_up_to is not None:
        if not 0 <= attach_up_to <= MAX_ATTACH_UP_TO:
            raise ConfigError(f"Attachments are 0 to {MAX_ATTACH_UP_TO >> 20} MiB; more is a link.")
        policy["attach_up_to"] = attach_up_to
    company.policy = policy


async def add_user(
    session: AsyncSession,
    *,
    email: str,
    name: str,
    role: str,
    password: str | None = None,
    zone: str = "UTC",
    now: datetime,
) -> User:
    """A new user of the session's company. Raises `ConfigError` naming what is wrong."""
    address = parse_address(email)
    if address is None:
        raise ConfigError(f'"{email[:100]}" is not an e-mail address.')
    if role not in ROLES:
        raise ConfigError(f'"{role}" is not a role. There are {", ".join(ROLES)}.')
    if zone not in zoneinfo.available_timezones():
        raise ConfigError(f'"{zone}" is not a time zone. Write for example Europe/Vienna.')
    user = User(
        email=address.canonical,
        name=" ".join(name.split())[:200] or address.local,
        role=role,
        password_hash=hash_password(password) if password is not None else None,
        zone=zone,
        created_at=now,
        disabled_at=None,
    )
    try:
        async with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise ConfigError(f"{address} signs in here already.") from None
    return user


async def forward_replies(session: AsyncSession, user: User, *, on: bool) -> None:
    """Whether people's answers to this user's mail go to the user's own mailbox as well."""
    user.forward_replies = on
    await session.flush()


def hash_password(password: str) -> str:
    """argon2id (RFC 9106). Raises `ConfigError` if the password is too short."""
    if len(password) < LEAST_PASSWORD:
        raise ConfigError(f"A password has {LEAST_PASSWORD} characters or more.")
    return _hasher.hash(password[:1000])


async def check_password(sessions: Sessions, email: str, password: str) -> User | None:
    """The user with this address and password, if they may sign in."""
    async with sessions.read(EVERY_COMPANY) as session:
        found = await session.scalars(select(User).where(User.email == email.strip().lower()))
        user = found.one_or_none()
    known = user.password_hash if user is not None and user.password_hash else _NOBODY
    try:
        await asyncio.to_thread(_hasher.verify, known, password[:1000])
    except (VerificationError, InvalidHashError):
        return None
    return user if user is not None and user.password_hash and not user.disabled_at else None


async def make_sign_in_link(
    session: AsyncSession, user: User, *, now: datetime, lifetime: timedelta
) -> str:
    """The secret of a link that signs this user in, once, within `lifetime`."""
    secret = secrets.token_urlsafe(32)
    session.add(
        SignInLink(
            company_id=user.company_id,
            user_id=user.id,
            secret_hash=_hash(secret),
            expires_at=now + lifetime,
            used_at=None,
        )
    )
    await session.flush()
    return secret


async def link_works(session: AsyncSession, secret: str, *, now: datetime) -> bool:
    """Whether this link would sign somebody in; looking does not use it up."""
    found = select(SignInLink.id).where(
        SignInLink.secret_hash == _hash(secret),
        SignInLink.used_at.is_(None),
        SignInLink.expires_at > now,
    )
    return await session.scalar(found) is not None


async def use_sign_in_link(session: AsyncSession, secret: str, *, now: datetime) -> User | None:
    """The user whom this link signs in; None if it is unknown, used up or too old."""
    used = await session.execute(
        update(SignInLink)
        .where(
            SignInLink.secret_hash == _hash(secret),
            SignInLink.used_at.is_(None),
            SignInLink.expires_at > now,
        )
        .values(used_at=now)
    )
    if not getattr(used, "rowcount", 0):
        return None
    found = await session.scalars(
        select(User)
        .join(SignInLink, SignInLink.user_id == User.id)
        .where(SignInLink.secret_hash == _hash(secret), User.disabled_at.is_(None))
    )
    return found.one_or_none()


async def begin_session(session: AsyncSession, user: User, *, now: datetime) -> str:
    """The secret of a fresh browser session for this user."""
    secret = secrets.token_urlsafe(32)
    session.add(
        WebSession(
            company_id=user.company_id,
            user_id=user.id,
            secret_hash=_hash(secret),
            csrf=secrets.token_urlsafe(24),
            created_at=now,
            last_seen_at=now,
            ended_at=None,
        )
    )
    await record(session, user, "signed in", now=now)
    return secret


@dataclass(frozen=True, slots=True)
class Visit:
    """A signed-in request: who, of which company, and the session it came with."""

    user: User
    company: Company
    session: WebSession

    @property
    def may_manage(self) -> bool:
        """Whether this user may see and change what concerns the whole company."""
        return self.user.role in {"owner", "manager"}


async def visit(sessions: Sessions, secret: str, *, now: datetime, idle: timedelta) -> Visit | None:
    """Who comes with this session's secret; None if it is unknown, ended or idle for too long."""
    if not secret or len(secret) > 100:
        return None
    query = (
        select(WebSession, User, Company)
        .join(User, User.id == WebSession.user_id)
        .join(Company, Company.id == User.company_id)
        .where(
            WebSession.secret_hash == _hash(secret),
            WebSession.ended_at.is_(None),
            WebSession.last_seen_at > now - idle,
            User.disabled_at.is_(None),
        )
    )
    async with sessions.read(EVERY_COMPANY) as session:
        found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    kept, user, company = found
    if now - kept.last_seen_at > SEEN_EVERY:
        async with sessions.begin(company.id) as session:
            await session.execute(
                update(WebSession).where(WebSession.id == kept.id).values(last_seen_at=now)
            )
    return Visit(user, company, kept)


async def end_session_of(session: AsyncSession, secret: str, *, now: datetime) -> None:
    """Ends the session with this secret, if there is one: a new sign-in takes its place."""
    await session.execute(
        update(WebSession)
        .where(WebSession.secret_hash == _hash(secret), WebSession.ended_at.is_(None))
        .values(ended_at=now)
    )


async def end_session(session: AsyncSession, kept: WebSession, *, now: datetime) -> None:
    """Signs this browser out."""
    await session.execute(update(WebSession).where(WebSession.id == kept.id).values(ended_at=now))


async def record(
    session: AsyncSession,
    user: User | None,
    action: str,
    *,
    now: datetime,
    subject: str = "",
    **detail: Any,
) -> None:
    """Writes into the audit trail who did what; without a user it was the command line."""
    row = Audit(
        company_id=user.company_id if user else company_of(session),
        user_id=user.id if user else None,
        at=now,
        action=action,
        subject=subject,
        detail=detail,
    )
    session.add(row)
    await session.flush()


class Brake:
    """Slows guessing: so many tries in a while for each key, kept in memory.

    One process serves the console, so its memory is the truth; a restart forgives.
    """

    def __init__(
        self, tries: int, window: timedelta, clock: Callable[[], datetime], size: int = 10_000
    ) -> None:
        self._tries, self._window, self._clock, self._size = tries, window, clock, size
        self._seen: dict[str, list[datetime]] = {}

    def allows(self, *keys: str) -> bool:
        """Counts one try for every key; False if any has had too many."""
        now = self._clock()
        allowed = True
        for key in keys:
            recent = [at for at in self._seen.pop(key, []) if now - at < self._window]
            allowed = allowed and len(recent) < self._tries
            self._seen[key] = [*recent[-self._tries :], now]
        while len(self._seen) > self._size:
            del self._seen[next(iter(self._seen))]
        return allowed


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

"""What companies send with: their domains with DKIM keys, and passwords for apps and reps."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mail.address import parse_address
from mail.errors import ConfigError
from mta.domains.records import (
    Machine,
    Pair,
    Record,
    Selector,
    domain_records,
    machine_records,
)
from mta.scram import make_verifier
from mta.signing import DkimKey, load_key
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Credential, Domain, DomainCheck, DomainKeys

RSA_BITS = 2048
"""RFC 8301 §3.2 asks for 2048; longer keys do not fit one UDP answer."""

API_PREFIX = "wp_"
"""API tokens begin with this, so that scanners for leaked secrets can know them."""

SCOPES = {
    "send": "hand messages and contacts in, and cancel what waits",
    "read": "see messages, contacts, drafts and events",
    "approve": "approve and reject drafts as a user",
    "manage": "set webhooks up",
}
"""What an API token may be for."""

MAX_DOMAINS = 1000
"""Of one company: each costs a tenth of a second of key making and forty questions a night."""

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{1,98}\Z")
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _hasher.hash(secrets.token_hex(16))


async def add_domain(
    session: AsyncSession,
    seal: Seal,
    name: str,
    *,
    reply_domain: str | None = None,
    now: datetime,
) -> Domain:
    """A new sending domain with fresh RSA-2048 and Ed25519 keys.

    `now` also names the selectors. Raises `ConfigError` if the name is no domain or is taken.
    """
    name = _domain_name(name)
    reply = _domain_name(reply_domain or f"reply.{name}")
    if reply == name:
        raise ConfigError(
            f"{name}: replies need a domain of their own, because its MX points here. "
            f"Write for example reply.{name}."
        )
    count = await session.scalar(select(func.count(Domain.id))) or 0
    if count >= MAX_DOMAINS:
        raise ConfigError(f"There are {count} domains already, and {MAX_DOMAINS} may be there.")
    rsa_pem, ed_pem = await asyncio.to_thread(fresh_keys)
    stamp = now.strftime("%Y%m")
    domain = Domain(
        name=name,
        reply_domain=reply,
        rsa_selector=f"wp{stamp}r",
        rsa_key=seal.seal(rsa_pem),
        ed25519_selector=f"wp{stamp}e",
        ed25519_key=seal.seal(ed_pem),
        checks={},
        verified_at=None,
        created_at=now,
    )
    try:
        async with session.begin_nested():
            session.add(domain)
    except IntegrityError:
        # Whose it is stays untold: one company may not learn what another has.
        raise ConfigError(f"{name}: this domain or its reply domain is in use already.") from None
    return domain


def _domain_name(text: str) -> str:
    text = text.strip().rstrip(".").lower()
    try:
        if parse_address(f"x@{text}") is not None:
            return text.encode("idna").decode("ascii")
    except UnicodeError:
        pass
    raise ConfigError(f'"{text[:100]}" is not a domain name. Write for example example.com.')


def fresh_keys() -> tuple[str, str]:
    made: tuple[rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey] = (
        rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS),
        ed25519.Ed25519PrivateKey.generate(),
    )
    first, second = (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode("ascii")
        for key in made
    )
    return first, second


def dns_records(
    domain: Domain, seal: Seal, *, host: str, public_host: str, addresses: Sequence[str] = ()
) -> list[Record]:
    """Everything that has to be published so that this domain's mail is believed.

    The domain's records first, then those of the machine.
    """
    machine = Machine(host, public_host, tuple(addresses))
    pairs = [active_pair(domain, seal)]
    records = domain_records(domain.name, domain.reply_domain, pairs, machine, domain.created_at)
    return [*records, *(one for one in machine_records(machine) if one.value)]


def active_pair(domain: Domain, seal: Seal) -> Pair:
    """The public halves of the keys that sign."""
    return Pair(
        (
            Selector(domain.rsa_selector, "rsa", public_text(seal.open(domain.rsa_key))),
            Selector(
                domain.ed25519_selector, "ed25519", public_text(seal.open(domain.ed25519_key))
            ),
        )
    )


def public_text(pem: str) -> str:
    """The `p=` text of a private key: SPKI for RSA (RFC 6376 §3.6.1), 32 bytes for Ed25519."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.public_key().public_bytes_raw()
    else:
        raw = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return base64.b64encode(raw).decode("ascii")


def signing_keys(domain: Domain, seal: Seal) -> tuple[DkimKey, ...]:
    """The keys that sign the domain's mail, decoded: only those known to be published.

    Keys of a rotation stand elsewhere (`DomainKeys`) and come here when they are published.
    """
    return (
        load_key(domain.rsa_selector, seal.open(domain.rsa_key)),
        load_key(domain.ed25519_selector, seal.open(domain.ed25519_key)),
    )


async def remove_domain(session: AsyncSession, domain: Domain) -> None:
    """Takes a domain and its keys away; what waits to be sent from it will fail."""
    for kind in (DomainKeys, DomainCheck):
        await session.execute(delete(kind).where(kind.domain_id == domain.id))
    await session.delete(domain)
    await session.flush()


async def add_credential(
    session: AsyncSession,
    kind: Literal["smtp", "api"],
    *,
    login: str | None = None,
    address: str | None = None,
    scopes: Sequence[str] | None = None,
    domains: Sequence[str] | None = None,
    now: datetime,
) -> tuple[Credential, str]:
    """A new password or API token, and its secret, which is shown this once.

    `address` is the only one that may be sent as, `domains` the only ones that may be sent from
    and `scopes` all that an API token is good for; None leaves each of them open. Raises
    `ConfigError` for what none of these can be, and if the login is taken.
    """
    kept_scopes = _scopes(kind, scopes)
    kept_domains = await _own_domains(session, domains)
    verifier = None
    if kind == "smtp":
        login = (login or address or "").strip().lower()
        if not _LOGIN.match(login):
            raise ConfigError(
                f'"{login[:60]}" can\'t be a login. '
                "Use 2 to 99 of a-z, 0-9 and . _ @ + -, for example shop@example.com."
            )
        secret = secrets.token_urlsafe(24)
        digest = await asyncio.to_thread(_hasher.hash, secret)
        verifier = str(await asyncio.to_thread(make_verifier, secret))
    else:
        login = secrets.token_hex(8)
        secret = f"{API_PREFIX}{login}_{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
    if address is not None:
        parsed = parse_address(address)
        if parsed is None:
            raise ConfigError(f'"{address[:100]}" is not a mail address.')
        address = parsed.canonical
    credential = Credential(
        kind=kind,
        login=login,
        secret_hash=digest,
        scram=verifier,
        address=address,
        scopes=kept_scopes,
        domains=kept_domains,
        created_at=now,
        revoked_at=None,
    )
    try:
        async with session.begin_nested():
            session.add(credential)
    except IntegrityError:
        raise ConfigError(f"{login}: this login is taken. Choose another.") from None
    return credential, secret


def _scopes(kind: str, scopes: Sequence[str] | None) -> str | None:
    if scopes is None:
        return None
    wrong = sorted(set(scopes) - set(SCOPES))
    if wrong or kind != "api" or not scopes:
        what = wrong[0] if wrong else "an SMTP password" if kind != "api" else "an empty list"
        raise ConfigError(f"{what}: scopes are of API tokens, among {', '.join(SCOPES)}.")
    return " ".join(scope for scope in SCOPES if scope in scopes)


async def _own_domains(session: AsyncSession, domains: Sequence[str] | None) -> str | None:
    if domains is None:
        return None
    names = [_domain_name(name) for name in domains]
    if not names:
        raise ConfigError("domains: an empty list would be good for nothing. Name one.")
    for name in names:
        if await domain_of(session, f"x@{name}") is None:
            raise ConfigError(f"{name}: is not a domain of this company.")
    return " ".join(dict.fromkeys(names))


def may_do(credential: Credential, scope: str) -> bool:
    """Whether an API token is good for this."""
    return credential.scopes is None or scope in credential.scopes.split()


def why_not_as(credential: Credential, sender: str) -> str:
    """Empty if this login may send as this canonical address, otherwise the reason why not."""
    if credential.address is not None and sender != credential.address:
        return f"this login sends as <{credential.address}> only"
    if credential.domains is not None:
        host = sender.rpartition("@")[2].lower()
        names = credential.domains.split()
        if not any(host == name or host.endswith(f".{name}") for name in names):
            return f"this login sends from {', '.join(names)} only"
    return ""


async def revoke_credential(session: AsyncSession, credential_id: UUID, *, now: datetime) -> bool:
    """Ends a credential from the next sign-in on; False if it was over or is not ours."""
    credential = await session.scalar(select(Credential).where(Credential.id == credential_id))
    if credential is None or credential.revoked_at is not None:
        return False
    credential.revoked_at = now
    await session.flush()
    return True


async def find_smtp(sessions: Sessions, login: str) -> Credential | None:
    """The credential of a login that was not revoked; its password is still to be proved."""
    async with sessions.read(EVERY_COMPANY) as session:
        found: Credential | None = await session.scalar(
            select(Credential).where(
                Credential.kind == "smtp",
                Credential.login == login.strip().lower()[:100],
                Credential.revoked_at.is_(None),
            )
        )
    return found


async def all_have_verifiers(sessions: Sessions) -> bool:
    """Whether every login can sign in by SCRAM; those of before it was there can not."""
    async with sessions.read(EVERY_COMPANY) as session:
        without = await session.scalar(
            select(Credential.id)
            .where(
                Credential.kind == "smtp",
                Credential.scram.is_(None),
                Credential.revoked_at.is_(None),
            )
            .limit(1)
        )
    return without is None


async def check_smtp(sessions: Sessions, login: str, password: str) -> Credential | None:
    """The credential that this login and password belong to.

    Takes as long for an unknown login as for a wrong password.
    """
    credential = await find_smtp(sessions, login)
    digest = credential.secret_hash if credential else _NOBODY
    fits = await asyncio.to_thread(_verify, digest, password[:1000])
    return credential if fits else None


def _verify(digest: str, password: str) -> bool:
    try:
        return _hasher.verify(digest, password)
    except (VerificationError, InvalidHashError):
        return False


async def check_api(sessions: Sessions, token: str) -> Credential | None:
    """The credential of an API token."""
    login = token.removeprefix(API_PREFIX).partition("_")[0]
    if not token.startswith(API_PREFIX) or len(token) > 200:
        return None
    async with sessions.read(EVERY_COMPANY) as session:
        credential = await session.scalar(
            select(Credential).where(
                Credential.kind == "api",
                Credential.login == login,
                Credential.revoked_at.is_(None),
            )
        )
    if credential is None:
        return None
    digest = hashlib.sha256(token.encode()).hexdigest()
    return credential if secrets.compare_digest(digest, credential.secret_hash) else None


async def domain_of(session: AsyncSession, address: str) -> Domain | None:
    """The session's own domain that mail from `address` is signed by; the longest that fits."""
    host = address.rpartition("@")[2].lower()
    labels = host.split(".")
    names = [".".join(labels[i:]) for i in range(len(labels) - 1)]
    found = (await session.scalars(select(Domain).where(Domain.name.in_(names)))).all()
    return max(found, key=lambda domain: len(domain.name), default=None)


async def forward_replies(session: AsyncSession, domain: Domain, *, on: bool) -> None:
    """Whether answers to this domain's mail also go to whoever the mail was from."""
    domain.forward_replies = on
    await session.flush()

"""What companies send with: their domains with DKIM keys, and passwords for apps and reps."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mail.address import parse_address
from mail.errors import ConfigError
from storage.sealing import Seal
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Credential, Domain

RSA_BITS = 2048
"""RFC 8301 §3.2 asks for 2048; longer keys do not fit one UDP answer."""

API_PREFIX = "wp_"
"""API tokens begin with this, so that scanners for leaked secrets can know them."""

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{1,98}\Z")
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _hasher.hash(secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One record that the owner has to publish, and what it is for."""

    name: str
    type: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class DnsFinding:
    """What was found where a record should be. `problem` is empty if all is well."""

    record: DnsRecord
    found: tuple[str, ...]
    problem: str


class Names(Protocol):
    """The questions about a domain that a check asks; `mta.resolver.Resolver` answers them."""

    async def txt(self, name: str) -> list[str]:
        """Texts at this name; none if there are none."""
        ...

    async def mx_hosts(self, name: str) -> list[str]:
        """Mail servers of this name, best first."""
        ...


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
    rsa_pem, ed_pem = await asyncio.to_thread(_fresh_keys)
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


def _fresh_keys() -> tuple[str, str]:
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


def dns_records(domain: Domain, seal: Seal, *, host: str, public_host: str) -> list[DnsRecord]:
    """Everything that the owner has to publish so that this domain's mail is believed."""
    rsa_key = serialization.load_pem_private_key(seal.open(domain.rsa_key).encode(), None)
    ed_key = serialization.load_pem_private_key(seal.open(domain.ed25519_key).encode(), None)
    assert isinstance(rsa_key, rsa.RSAPrivateKey)
    assert isinstance(ed_key, ed25519.Ed25519PrivateKey)
    spki = rsa_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    raw = ed_key.public_key().public_bytes_raw()
    rsa_text, ed_text = (base64.b64encode(part).decode("ascii") for part in (spki, raw))
    name, reply = domain.name, domain.reply_domain
    records = [
        DnsRecord(reply, "MX", f"10 {host}.", "Replies and bounces come to this machine."),
        DnsRecord(
            f"{domain.rsa_selector}._domainkey.{name}",
            "TXT",
            f"v=DKIM1; k=rsa; p={rsa_text}",
            "Receivers check our signatures with this key (RFC 6376).",
        ),
        DnsRecord(
            f"{domain.ed25519_selector}._domainkey.{name}",
            "TXT",
            f"v=DKIM1; k=ed25519; p={ed_text}",
            "The same for receivers that know Ed25519 (RFC 8463).",
        ),
        DnsRecord(
            reply,
            "TXT",
            f"v=spf1 a:{host} -all",
            "This machine may send with this return path (RFC 7208).",
        ),
        DnsRecord(
            f"_dmarc.{name}",
            "TXT",
            "v=DMARC1; p=none; adkim=r; aspf=r",
            "Says what to do with mail that fails; begin with none, end with reject (RFC 9989).",
        ),
    ]
    if "." in public_host and public_host != host:
        why = "Links in mails lead to this name; an address record does as well."
        records.append(DnsRecord(public_host, "CNAME", f"{host}.", why))
    return records


async def check_domain(names: Names, domain: Domain, seal: Seal, *, host: str) -> list[DnsFinding]:
    """Looks every TXT and MX record up and says what is missing and how to mend it.

    Raises `TemporaryError` if the name servers could not tell.
    """
    findings = []
    for record in dns_records(domain, seal, host=host, public_host=""):
        if record.type == "MX":
            found = [h.rstrip(".").lower() for h in await names.mx_hosts(record.name)]
            good = host.lower() in found
        else:
            found = await names.txt(record.name)
            good = _says(record.value, found)
        problem = ""
        if not good:
            seen = f"found {'; '.join(found)[:300]}" if found else "nothing is there"
            problem = f"{record.name}: {seen}. Publish {record.type} {record.value}"
        findings.append(DnsFinding(record, tuple(found), problem))
    return findings


def _says(wanted: str, found: list[str]) -> bool:
    """Whether one of the texts does what `wanted` does; a stricter policy of theirs is fine."""
    tag = wanted.split(";")[0].split(" ")[0]
    if tag == "v=DMARC1":
        return sum(text.strip().startswith("v=DMARC1") for text in found) == 1
    if tag == "v=spf1":
        spf = [text for text in found if text.lower().startswith("v=spf1")]
        return len(spf) == 1 and wanted.split()[1] in spf[0].split()
    key = wanted.partition("p=")[2]
    return any("".join(text.split()).partition("p=")[2].startswith(key) for text in found)


async def add_credential(
    session: AsyncSession,
    kind: Literal["smtp", "api"],
    *,
    login: str | None = None,
    address: str | None = None,
    now: datetime,
) -> tuple[Credential, str]:
    """A new password or API token, and its secret, which is shown this once.

    `address` is the only one that may be sent as. Raises `ConfigError` if the login is taken.
    """
    if kind == "smtp":
        login = (login or address or "").strip().lower()
        if not _LOGIN.match(login):
            raise ConfigError(
                f'"{login[:60]}" can\'t be a login. '
                "Use 2 to 99 of a-z, 0-9 and . _ @ + -, for example shop@example.com."
            )
        secret = secrets.token_urlsafe(24)
        digest = await asyncio.to_thread(_hasher.hash, secret)
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
        address=address,
        created_at=now,
        revoked_at=None,
    )
    try:
        async with session.begin_nested():
            session.add(credential)
    except IntegrityError:
        raise ConfigError(f"{login}: this login is taken. Choose another.") from None
    return credential, secret


async def revoke_credential(session: AsyncSession, credential_id: UUID, *, now: datetime) -> bool:
    """Ends a credential from the next sign-in on; False if it was over or is not ours."""
    credential = await session.scalar(select(Credential).where(Credential.id == credential_id))
    if credential is None or credential.revoked_at is not None:
        return False
    credential.revoked_at = now
    await session.flush()
    return True


async def check_smtp(sessions: Sessions, login: str, password: str) -> Credential | None:
    """The credential that this login and password belong to.

    Takes as long for an unknown login as for a wrong password.
    """
    async with sessions.read(EVERY_COMPANY) as session:
        credential = await session.scalar(
            select(Credential).where(
                Credential.kind == "smtp",
                Credential.login == login.strip().lower()[:100],
                Credential.revoked_at.is_(None),
            )
        )
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

"""New DKIM keys for old: made, published, checked, and only then signed with.

A rotation has four stations. `begin` makes keys, which nobody uses yet. The owner publishes them.
`switch`, called with what a look at DNS found, signs with them from then on, if and only if both
are published; the old public keys stay for mail that is on its way. When their time is over the
owner removes the records, and `forget` drops what the next look no longer finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import ConfigError
from mta import accounts
from mta.domains.check import is_published
from mta.domains.findings import Finding, State
from mta.domains.records import Need, Pair, Selector
from storage.sealing import Seal
from storage.tables import Domain, DomainKeys

KEEP = timedelta(days=14)
"""How long the old key stays published: mail is retried for five days and then forwarded."""


async def pairs_of(session: AsyncSession, seal: Seal, domain: Domain) -> list[Pair]:
    """All keys of the domain that have to be published: those that sign, next ones, old ones."""
    found = await _stored(session, domain)
    return [accounts.active_pair(domain, seal), *map(as_pair, found)]


def as_pair(keys: DomainKeys) -> Pair:
    """The public halves of stored keys."""
    return Pair(
        (
            Selector(keys.rsa_selector, "rsa", keys.rsa_public),
            Selector(keys.ed25519_selector, "ed25519", keys.ed25519_public),
        ),
        "new" if keys.state == "new" else "retired",
        keys.keep_until,
    )


async def _stored(session: AsyncSession, domain: Domain) -> Sequence[DomainKeys]:
    query = select(DomainKeys).where(DomainKeys.domain_id == domain.id)
    return (await session.scalars(query.order_by(DomainKeys.created_at))).all()


async def waiting(session: AsyncSession, domain: Domain) -> DomainKeys | None:
    """The keys that wait to be published."""
    return next((keys for keys in await _stored(session, domain) if keys.state == "new"), None)


async def begin(session: AsyncSession, seal: Seal, domain: Domain, *, now: datetime) -> DomainKeys:
    """Makes the next keys. Raises `ConfigError` if some wait already."""
    query = select(Domain).where(Domain.id == domain.id).with_for_update()
    domain = (await session.scalars(query.execution_options(populate_existing=True))).one()
    stored = await _stored(session, domain)
    if any(keys.state == "new" for keys in stored):
        raise ConfigError(
            f"{domain.name}: new keys wait already. Publish their records and check again, or "
            "cancel the rotation first."
        )
    rsa_pem, ed_pem = await asyncio.to_thread(accounts.fresh_keys)
    taken = {domain.rsa_selector, *(keys.rsa_selector for keys in stored)}
    stem = _free_stem(f"wp{now:%Y%m}", taken)
    keys = DomainKeys(
        domain_id=domain.id,
        state="new",
        rsa_selector=f"{stem}r",
        rsa_key=seal.seal(rsa_pem),
        rsa_public=accounts.public_text(rsa_pem),
        ed25519_selector=f"{stem}e",
        ed25519_key=seal.seal(ed_pem),
        ed25519_public=accounts.public_text(ed_pem),
        created_at=now,
        keep_until=None,
    )
    session.add(keys)
    await session.flush()
    return keys


def _free_stem(stem: str, taken: set[str]) -> str:
    number = 2
    tried = stem
    while f"{tried}r" in taken:
        tried, number = f"{stem}-{number}", number + 1
    return tried


async def cancel(session: AsyncSession, domain: Domain) -> bool:
    """Drops keys that were never signed with; False if there are none."""
    keys = await waiting(session, domain)
    if keys is not None:
        await session.delete(keys)
        await session.flush()
    return keys is not None


async def switch(
    session: AsyncSession,
    seal: Seal,
    domain: Domain,
    findings: Sequence[Finding],
    *,
    now: datetime,
    keep: timedelta = KEEP,
) -> bool:
    """Signs with the new keys from now on, if `findings` saw both of them published."""
    keys = await session.scalar(
        select(DomainKeys)
        .where(DomainKeys.domain_id == domain.id, DomainKeys.state == "new")
        .with_for_update()
    )
    if keys is None or not is_published(findings, as_pair(keys)):
        return False
    assert keys.rsa_key is not None
    assert keys.ed25519_key is not None
    old = accounts.active_pair(domain, seal)
    domain.rsa_selector, domain.rsa_key = keys.rsa_selector, keys.rsa_key
    domain.ed25519_selector, domain.ed25519_key = keys.ed25519_selector, keys.ed25519_key
    await session.delete(keys)
    session.add(_retired(domain, old, now=now, keep=keep))
    await session.flush()
    return True


def _retired(domain: Domain, old: Pair, *, now: datetime, keep: timedelta) -> DomainKeys:
    rsa, ed25519 = old.selectors
    return DomainKeys(
        domain_id=domain.id,
        state="retired",
        rsa_selector=rsa.name,
        rsa_key=None,  # Nobody needs it again, so nobody can steal it.
        rsa_public=rsa.key,
        ed25519_selector=ed25519.name,
        ed25519_key=None,
        ed25519_public=ed25519.key,
        created_at=now,
        keep_until=now + keep,
    )


async def forget(session: AsyncSession, domain: Domain, findings: Sequence[Finding]) -> int:
    """Drops old keys whose time is over and whose records are gone; says how many."""
    gone = {
        finding.record.value.partition("p=")[2]
        for finding in findings
        if finding.record.need is Need.REMOVE and finding.state is State.GOOD
    }
    dropped = 0
    for keys in await _stored(session, domain):
        if keys.state == "retired" and {keys.rsa_public, keys.ed25519_public} <= gone:
            await session.delete(keys)
            dropped += 1
    await session.flush()
    return dropped

"""Keeps in the database what shaping has learnt, and brings people's orders to what sends.

Every process that sends calls `load` once and then `turn` every few seconds (`run` does both). An
order of people is a row that no process owns, so it reaches all of them within one turn and holds
after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import PermanentError
from mta.shaping.shaper import MAX_SITES, Shaper
from mta.shaping.site import MAX_NAME
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import SiteRecord

log = structlog.get_logger()

ORDERS = ""
"""The process that people's orders stand under."""

WARMTH = ""
"""The site that the warming of source addresses stands under."""

KEEP_RESUMING = timedelta(hours=1)
"""For how long an order to go on is kept; a process that starts later needs none."""

LONGEST = timedelta(days=366)
AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Order:
    """What people said about a site: nothing until then, or go on (`until` is None)."""

    site: str
    until: datetime | None
    reason: str
    given_at: datetime


async def suspend_site(
    session: AsyncSession, site: str, *, until: datetime, reason: str, now: datetime
) -> None:
    """Nothing goes to a site until then. Raises `PermanentError` if that is no good time."""
    if not now < until <= now + LONGEST:
        raise PermanentError("A suspension ends in the future and within a year.")
    await _order(session, site, {"until": until.timestamp(), "reason": reason[:300]}, now)


async def resume_site(session: AsyncSession, site: str, *, now: datetime) -> None:
    """Mail to a site goes on, whoever or whatever stopped it."""
    await _order(session, site, {"resume": True}, now)


async def orders(session: AsyncSession, now: datetime) -> list[Order]:
    """What people said and what still holds, by site."""
    rows = await session.scalars(
        select(SiteRecord).where(SiteRecord.process == ORDERS).order_by(SiteRecord.site)
    )
    found = [_read(row) for row in rows]
    return [one for one in found if _holds(one, now)]


async def learnt(session: AsyncSession, site: str | None = None) -> Sequence[SiteRecord]:
    """What the processes last wrote about sites, for lists of other processes."""
    query = select(SiteRecord).where(SiteRecord.process != ORDERS, SiteRecord.site != WARMTH)
    if site is not None:
        query = query.where(SiteRecord.site == site)
    return (await session.scalars(query.order_by(SiteRecord.site, SiteRecord.process))).all()


async def _order(session: AsyncSession, site: str, state: dict[str, Any], now: datetime) -> None:
    site = site.strip().lower()
    if not site or len(site) > MAX_NAME:
        raise PermanentError(
            "That is no site. `waypost shaping explain DOMAIN` names a domain's site."
        )
    await session.execute(
        delete(SiteRecord).where(SiteRecord.process == ORDERS, SiteRecord.site == site)
    )
    session.add(SiteRecord(process=ORDERS, site=site, state=state, updated_at=now))


def _read(row: SiteRecord) -> Order:
    until = row.state.get("until")
    when = datetime.fromtimestamp(until, UTC) if isinstance(until, (int, float)) else None
    return Order(row.site, when, str(row.state.get("reason", "")), row.updated_at)


def _holds(order: Order, now: datetime) -> bool:
    if order.until is not None:
        return order.until > now
    return order.given_at > now - KEEP_RESUMING


class SiteStore:
    """Writes one process's shaper down and brings it orders."""

    def __init__(self, sessions: Sessions, process: str, clock: Callable[[], datetime]) -> None:
        """`process` names this process the same way each time it is started."""
        self._sessions = sessions
        self._process = process
        self._clock = clock
        self._written: dict[str, dict[str, Any]] = {}
        self._followed: dict[str, Order] = {}

    async def load(self, shaper: Shaper) -> None:
        """Gives a fresh shaper what its predecessor learnt."""
        now = self._clock()
        async with self._sessions.read(EVERY_COMPANY) as session:
            rows = await session.scalars(
                select(SiteRecord).where(SiteRecord.process == self._process).limit(MAX_SITES)
            )
            self._written = {row.site: row.state for row in rows}
        sites = {name: state for name, state in self._written.items() if name != WARMTH}
        warmth = self._written.get(WARMTH, {}).get("warmth")
        shaper.load({"sites": sites, "warmth": warmth}, now.timestamp())
        await self._follow(shaper, now)

    async def turn(self, shaper: Shaper) -> None:
        """One round: follows new orders and writes what has changed."""
        now = self._clock()
        await self._follow(shaper, now)
        await self._write(shaper, now)

    async def run(self, shaper: Shaper, stop: asyncio.Event, *, every: float = 2.0) -> None:
        """Rounds until `stop` is set and one more then; a store that fails is tried again."""
        await self.load(shaper)
        while not stop.is_set():
            try:
                await self.turn(shaper)
            except SQLAlchemyError as error:  # What was learnt is still in memory.
                log.warning("shaping.not_written", cause=str(error)[:300])
            try:
                await asyncio.wait_for(stop.wait(), every)
            except TimeoutError:
                continue
        await self.turn(shaper)

    async def _follow(self, shaper: Shaper, now: datetime) -> None:
        async with self._sessions.read(EVERY_COMPANY) as session:
            holding = {one.site: one for one in await orders(session, now)}
        for site, order in holding.items():
            if self._followed.get(site) == order:
                continue
            if order.until is None:
                shaper.resume(site)
            else:
                shaper.suspend(site, order.until.timestamp(), order.reason)
            log.info("shaping.order_followed", site=site, until=order.until)
        self._followed = holding

    async def _write(self, shaper: Shaper, now: datetime) -> None:
        """Writes the rows that differ from what is written, and takes away what is forgotten."""
        dump = shaper.dump(now.timestamp())
        states: dict[str, dict[str, Any]] = dict(dump["sites"])
        if dump["warmth"]:
            states[WARMTH] = {"warmth": dump["warmth"]}
        changed = [name for name, state in states.items() if self._written.get(name) != state]
        gone = [name for name in self._written if name not in states]
        touched = [*changed, *gone]
        for at in range(0, len(touched), AT_ONCE):
            names = touched[at : at + AT_ONCE]
            async with self._sessions.begin(EVERY_COMPANY) as session:
                await session.execute(
                    delete(SiteRecord).where(
                        SiteRecord.process == self._process, SiteRecord.site.in_(names)
                    )
                )
                session.add_all(
                    SiteRecord(process=self._process, site=name, state=states[name], updated_at=now)
                    for name in names
                    if name in states
                )
            for name in names:
                if name in states:
                    self._written[name] = states[name]
                else:
                    del self._written[name]

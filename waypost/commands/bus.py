"""`waypost bus`."""

from __future__ import annotations

from argparse import Namespace
from uuid import UUID

from sqlalchemy import select

from bus.stations import Line, standings
from mail.errors import PermanentError
from storage.sessions import EVERY_COMPANY
from storage.tables import Company, Event, Hold
from waypost.commands.running import run
from waypost.commands.tables import table
from waypost.roles import engine_stations
from waypost.wiring import Appliance


def status(chosen: Namespace) -> int:
    """How far each station is."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.read(EVERY_COMPANY) as session:
            found = await standings(session, engine_stations(parts))
        rows = [(s.station, s.behind, s.held, s.seq, s.moved_at) for s in found]
        table(("station", "waiting", "on hold", "place", "last moved (UTC)"), rows, "No station.")
        return 0

    return run(chosen, work)


def list_holds(chosen: Namespace) -> int:
    """Events set aside, each with the last line of its cause."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        query = (
            select(Hold, Event.kind, Company.name)
            .join(Event, Event.seq == Hold.event_seq)
            .join(Company, Company.id == Hold.company_id)
            .where(Hold.released_at.is_(None))
            .order_by(Hold.id)
            .limit(1000)
        )
        async with parts.sessions.read(EVERY_COMPANY) as session:
            found = (await session.execute(query)).all()
        rows = [
            (hold.id, hold.station, kind, company, hold.tries, hold.cause.strip().split("\n")[-1])
            for hold, kind, company in found
        ]
        heads = ("id", "station", "event", "company", "tries", "cause")
        table(heads, rows, "Nothing is on hold.")
        return 0

    return run(chosen, work)


def retry(chosen: Namespace) -> int:
    """Tries held events again; the exit code says whether all went well."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        query = select(Hold).where(Hold.released_at.is_(None)).order_by(Hold.event_seq)
        if chosen.hold:
            query = query.where(Hold.id.in_([_key(text) for text in chosen.hold]))
        async with parts.sessions.read(EVERY_COMPANY) as session:
            holds = (await session.scalars(query)).all()
        line = Line(parts.sessions, engine_stations(parts), tick=1)
        failed = 0
        for hold in holds:
            done = await line.retry(hold)
            failed += not done
            print(f"{hold.id}  {hold.station}  {'done' if done else 'failed again'}")
        print(f"{len(holds) - failed} done, {failed} still on hold.")
        return 1 if failed else 0

    return run(chosen, work)


def _key(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise PermanentError(f"{text} is no id. `waypost bus hold list` shows them.") from None

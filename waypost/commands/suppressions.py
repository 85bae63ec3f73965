"""`waypost suppression` and `waypost topic`: whom a company never writes to, and about what."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from console import access
from mail.errors import PermanentError
from mta import preferences, suppression
from mta.enclosures import ATTACH_UP_TO
from storage.sessions import EVERY_COMPANY
from storage.tables import Company, Topic
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance

PAGE = 1000
MAX_FILE_BYTES = 32 << 20


def show(chosen: Namespace) -> int:
    """Lists the suppressed addresses, or writes them as CSV."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        after, rows, export = "", [], chosen.action == "export"
        while True:
            async with parts.sessions.read(company) as session:
                found = await suppression.page(
                    session, words=getattr(chosen, "words", None) or "", after=after, limit=PAGE
                )
            if export:
                sys.stdout.write(suppression.as_csv(found, header=not after))
            else:
                rows += [(r.address, r.reason, r.scope or "all mail", r.created_at) for r in found]
            if len(found) < PAGE:
                break
            after = f"{found[-1].address} {found[-1].scope}"
        if not export:
            table(("address", "why", "for", "since (UTC)"), rows, "No address is suppressed.")
        return 0

    return run(chosen, work)


def add(chosen: Namespace) -> int:
    """Suppresses addresses by hand."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        rows = [(n, one, chosen.reason, chosen.scope) for n, one in enumerate(chosen.address, 1)]
        return await _add(parts, company, rows)

    return run(chosen, work)


def import_file(chosen: Namespace) -> int:
    """Reads a CSV file of addresses."""
    path = Path(chosen.file)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PermanentError(f"{path}: is larger than 32 MiB. Split it.")
        text = path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise PermanentError(f"{path}: can't be read: {error}") from None
    rows = list(suppression.read_file(text))

    async def work(parts: Appliance, chosen: Namespace) -> int:
        return await _add(parts, await company_named(parts.sessions, chosen.company), rows)

    return run(chosen, work)


async def _add(parts: Appliance, company: object, rows: list[tuple[int, str, str, str]]) -> int:
    added = known = wrong = 0
    for start in range(0, len(rows), PAGE):
        async with parts.sessions.begin(company) as session:  # type: ignore[arg-type]
            read = await suppression.import_rows(
                session, rows[start : start + PAGE], by="command line", now=parts.clock()
            )
            await access.record(
                session, None, "suppression added", now=parts.clock(), rows=read.added
            )
        added, known, wrong = added + read.added, known + read.known, wrong + len(read.problems)
        for problem in read.problems:
            print(problem, file=sys.stderr)
    print(f"{added} added, {known} known before, {wrong} wrong.")
    return 1 if wrong else 0


def remove(chosen: Namespace) -> int:
    """Takes an address off the list, with a reason that is kept."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            rows = await suppression.remove(
                session,
                chosen.address,
                scope=chosen.scope,
                why=chosen.why,
                confirmed=chosen.confirmed,
            )
            detail: dict[str, Any] = {
                "why": chosen.why,
                "was": [row.reason for row in rows],
                "scope": chosen.scope,
            }
            await access.record(
                session, None, "suppression removed", now=parts.clock(),
                subject=rows[0].address, **detail,
            )  # fmt: skip
        print(f"{rows[0].address} may be written to again.")
        return 0

    return run(chosen, work)


def add_topic(chosen: Namespace) -> int:
    """Adds a topic that people may choose, or changes it."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        names: dict[str, dict[str, str]] = {}
        for field, given in (("name", chosen.name), ("description", chosen.description or [])):
            for words in given:
                language, colon, rest = words.partition(":")
                if not colon or len(language) not in (2, 3):
                    language, rest = "en", words
                names.setdefault(language, {})[field] = rest.strip()
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            topic = await preferences.set_topic(
                session,
                chosen.key,
                names=names,
                campaigns=chosen.campaign or [],
                chosen=not chosen.opt_in,
                now=parts.clock(),
            )
        print(f"{topic.key}: people can choose it on their preferences page.")
        return 0

    return run(chosen, work)


def list_topics(chosen: Namespace) -> int:
    """Lists the topics."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.read(company) as session:
            found = await preferences.live_topics(session)
        rows = [
            (t.key, "; ".join(f"{k}: {v['name']}" for k, v in sorted(t.names.items())),
             ", ".join(t.campaigns) or t.key, "yes" if t.chosen else "no")
            for t in found
        ]  # fmt: skip
        table(("topic", "names", "campaigns", "chosen at first"), rows, "No topic yet.")
        return 0

    return run(chosen, work)


def remove_topic(chosen: Namespace) -> int:
    """Takes a topic away; what people chose is kept in case it comes back."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.begin(company) as session:
            topic = await session.scalar(select(Topic).where(Topic.key == chosen.key))
            if topic is None:
                raise PermanentError(f"There is no topic {chosen.key}.")
            topic.retired_at = parts.clock()
        print(f"{chosen.key} is no topic any more.")
        return 0

    return run(chosen, work)


def bulk_policy(chosen: Namespace) -> int:
    """Shows and sets what a company allows itself with bulk mail."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        key = await company_named(parts.sessions, chosen.name)
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            company = (await session.scalars(select(Company).where(Company.id == key))).one()
            access.set_bulk_policy(
                company,
                postal_address=chosen.postal_address,
                mails=chosen.most,
                days=chosen.days,
                unsubscribe=chosen.unsubscribe,
                attach_up_to=None if chosen.attach is None else chosen.attach << 20,
            )
        cap = preferences.Cap.of(company.policy)
        limit = f"{cap.mails} in {cap.days} days to one person" if cap else "no limit"
        ends = "its topic" if company.policy.get("unsubscribe") == "topic" else "all mail"
        attach = int(company.policy.get("attach_up_to", ATTACH_UP_TO)) >> 20
        print(f"attachments      up to {attach} MiB; what is more goes as a link")
        print(f"postal address   {company.postal_address or '(none: no bulk mail can be sent)'}")
        print(f"at most          {limit}")
        print(f"unsubscribe ends {ends}")
        return 0

    return run(chosen, work)

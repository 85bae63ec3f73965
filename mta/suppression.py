"""The list of addresses that a company never writes to: looked at, added to, and, with a reason,
taken from.

Taking an address off the list is a person's decision and says why. A complaint is only taken off
if the person has asked for mail again: whoever called our mail spam and gets more of it harms every
sender on this machine.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.address import parse_address
from mail.errors import PermanentError
from mta.recipients import canonical_address, forms_of, suppress
from storage.sessions import company_of
from storage.tables import Suppression

REASONS = ("unsubscribed", "bounced", "complained", "asked")
MAX_ROWS = 200_000
"""Of one file that is read in."""

MAX_REASON = 500
COLUMNS = ("address", "reason", "scope", "since")
_SCOPE = re.compile(r"(topic:[a-z0-9][a-z0-9._-]{0,63}|campaign:[^\x00-\x1f]{1,200})?")


def checked_scope(scope: str) -> str:
    """The scope if it is one. Raises `PermanentError`."""
    if not _SCOPE.fullmatch(scope):
        raise PermanentError(
            f'scope: "{scope[:80]}" is none. Leave it empty for all mail, or write topic:KEY or '
            "campaign:NAME."
        )
    return scope


async def page(
    session: AsyncSession, *, words: str = "", after: str = "", limit: int = 100
) -> list[Suppression]:
    """Rows of the session's company by address, beginning after `after` (address and scope)."""
    query = select(Suppression).where(Suppression.company_id == company_of(session))
    if words:
        plain = words.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        query = query.where(Suppression.address.like(f"%{plain[:254]}%", escape="\\"))
    if after:
        address, _, scope = after.partition(" ")
        query = query.where(
            (Suppression.address > address)
            | ((Suppression.address == address) & (Suppression.scope > scope))
        )
    query = query.order_by(Suppression.address, Suppression.scope).limit(limit)
    return list(await session.scalars(query))


async def count(session: AsyncSession) -> int:
    """How many rows the session's company has."""
    found = select(func.count(Suppression.id)).where(Suppression.company_id == company_of(session))
    return await session.scalar(found) or 0


async def remove(
    session: AsyncSession, address: str, *, scope: str = "", why: str, confirmed: bool = False
) -> list[Suppression]:
    """Takes an address off the list; returns what stood there, for the audit.

    Raises `PermanentError` without a reason, or for a complaint that isn't `confirmed`.
    """
    why = " ".join(why.split())
    if not 3 <= len(why) <= MAX_REASON:
        raise PermanentError(
            f"why: say in 3 to {MAX_REASON} characters why this address may be written to again."
        )
    canonical_address(address)
    found = select(Suppression).where(
        Suppression.company_id == company_of(session),
        Suppression.address.in_(forms_of(address)),
        Suppression.scope == checked_scope(scope),
    )
    rows = list(await session.scalars(found))
    if not rows:
        raise PermanentError(
            f"{address[:254]} is not suppressed" + (f" for {scope}." if scope else ".")
        )
    if any(row.reason == "complained" for row in rows) and not confirmed:
        raise PermanentError(
            f"{rows[0].address} reported mail as spam. It comes off the list only if the person "
            "asked for mail again: confirm that."
        )
    for row in rows:
        await session.delete(row)
    await session.flush()
    return rows


@dataclass(slots=True)
class Read:
    """What became of a file: rows that are new, known before, and wrong (with their lines)."""

    added: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)


async def import_rows(
    session: AsyncSession, rows: Sequence[tuple[int, str, str, str]], *, by: str, now: datetime
) -> Read:
    """Adds rows of line number, address, reason and scope; wrong ones are told and left out."""
    read = Read()
    for line, address, reason, scope in rows:
        if parse_address(address) is None:
            read.problems.append(f'line {line}: "{address[:80]}" is not a mail address.')
            continue
        if reason not in REASONS:
            read.problems.append(
                f'line {line}: reason "{reason[:40]}" is none of {", ".join(REASONS)}.'
            )
            continue
        try:
            checked_scope(scope)
        except PermanentError as error:
            read.problems.append(f"line {line}: {error}")
            continue
        detail = {"by": by}
        if await suppress(session, address, reason, now=now, detail=detail, scope=scope):
            read.added += 1
        else:
            read.known += 1
    return read


def read_file(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Rows of a CSV file: a header line with `address`, or one bare address a line.

    Raises `PermanentError` for a file that is too long or has no addresses to read.
    """
    lines = text.lstrip("\ufeff").splitlines()
    if len(lines) > MAX_ROWS:
        raise PermanentError(f"The file has more than {MAX_ROWS:,} lines. Split it.")
    sample = lines[0] if lines else ""
    separator = max(",;\t", key=sample.count)
    names = [name.strip().lower() for name in sample.split(separator)]
    headed = bool({"address", "email", "e-mail"} & set(names))
    if not headed and parse_address(names[0]) is None:
        raise PermanentError('The first line is neither an address nor a header with "address".')
    places = {name: place for place, name in enumerate(names)} if headed else {"address": 0}
    where = next(places[name] for name in ("address", "email", "e-mail") if name in places)
    reader = csv.reader(lines, delimiter=separator)
    try:
        for number, row in enumerate(reader, 1):
            if (number == 1 and headed) or not any(cell.strip() for cell in row):
                continue

            def cell(place: int | None, row: list[str] = row) -> str:
                return row[place].strip() if place is not None and place < len(row) else ""

            reason = cell(places.get("reason")).lower() or "asked"
            yield number, cell(where), reason, cell(places.get("scope"))
    except csv.Error as error:
        raise PermanentError(f"line {reader.line_num}: is not CSV: {error}.") from None


def as_csv(rows: Sequence[Suppression], *, header: bool = True) -> str:
    """The rows as a file that `read_file` reads; cells can't become a spreadsheet's formulas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for row in rows:
        since = row.created_at.isoformat(timespec="seconds")
        writer.writerow([row.address, row.reason, row.scope, since])
    return out.getvalue()

"""Takes contacts in from a CSV file, as it comes out of spreadsheets and other people's programs.

Encoding, delimiter and columns are recognised; every row that can't be taken is reported with its
line, its column, the reason and a remedy, and the others go in. Doing it again changes nothing:
contacts are found by address, and only their empty fields are filled.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.address import Address, parse_address
from mta.recipients import ensure_contact
from storage.sessions import Sessions
from storage.tables import Contact, Suppression, User

MAX_BYTES = 512 << 20
MAX_COLUMNS = 200
MAX_FIELD = 4_000
MAX_PROBLEMS = 10_000
"""Kept in a report; further ones are only counted."""

BATCH = 500
"""Rows in one transaction: few enough that mail does not have to wait for the store."""

COLUMNS = {
    "address": ("email", "e mail", "mail", "address", "email address", "e mail address", "adresse"),
    "name": ("name", "full name", "contact", "contact name", "display name", "nom"),
    "first_name": ("first name", "firstname", "given name", "vorname", "prenom", "prénom"),
    "last_name": ("last name", "lastname", "surname", "family name", "nachname"),
    "organisation": ("organisation", "organization", "company", "company name", "firm", "firma"),
    "zone": ("zone", "time zone", "timezone", "tz"),
    "owner": ("owner", "owner email", "rep", "sales rep", "account owner"),
}
"""Our fields and the headings they are known by; other columns become merge fields."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row was not taken, or not wholly: `line` counts from 1, with the heading."""

    line: int
    column: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{where}: {self.reason} {self.remedy}"


@dataclass(slots=True)
class Report:
    """What became of a file. `problems` has at most `MAX_PROBLEMS`; `not_listed` counts others."""

    rows: int = 0
    added: int = 0
    known: int = 0
    merged: int = 0
    """Rows with an address that an earlier row of the file has."""
    rejected: int = 0
    suppressed: int = 0
    encoding: str = ""
    delimiter: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    """Heading → field it went to."""
    problems: list[RowProblem] = field(default_factory=list)
    not_listed: int = 0

    def note(self, problem: RowProblem) -> None:
        """Adds a problem."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.not_listed += 1


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    address: Address
    name: str
    organisation: str
    zone: str | None
    owner: str
    fields: dict[str, str]


async def import_csv(
    sessions: Sessions, company: UUID, source: Path | bytes | IO[bytes], now: datetime
) -> Report:
    """Adds the contacts of a file to a company; what can't be taken is in the report."""
    report = Report()
    seen: set[int] = set()
    with ExitStack() as files:
        stream = _opened(source)
        if stream is not source:
            files.enter_context(stream)
        batch: list[_Row] = []
        for row in _rows(stream, report):
            batch.append(row)
            if len(batch) == BATCH:
                await _take(sessions, company, batch, report, seen, now)
                batch = []
        if batch:
            await _take(sessions, company, batch, report, seen, now)
    return report


def _opened(source: Path | bytes | IO[bytes]) -> IO[bytes]:
    if isinstance(source, Path):
        return source.open("rb")
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return source if source.seekable() else io.BytesIO(source.read(MAX_BYTES + 1))


def guess_encoding(stream: IO[bytes]) -> str:
    """UTF-16 if it says so, UTF-8 if all of it is, else what Windows programs write."""
    start = stream.tell()
    head = stream.read(4)
    stream.seek(start)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
    try:
        while block := stream.read(1 << 16):
            decoder.decode(block)
        decoder.decode(b"", final=True)
        return "utf-8-sig"
    except UnicodeDecodeError:
        return "windows-1252"
    finally:
        stream.seek(start)


def guess_delimiter(heading: str) -> str:
    """The separator that the heading has most of, outside quotes."""
    bare = re.sub(r'"[^"]*"', "", heading)
    return max(",;\t|", key=lambda mark: (bare.count(mark), mark == ","))


def _rows(stream: IO[bytes], report: Report) -> Iterator[_Row]:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size > MAX_BYTES:
        limit = f"Split it into files of less than {MAX_BYTES >> 20} MiB."
        report.note(RowProblem(1, "", "The file is too large.", limit))
        return
    report.encoding = guess_encoding(stream)
    text = codecs.getreader(report.encoding)(stream, "replace")
    heading = text.readline(MAX_COLUMNS * 200)
    if not heading.strip():
        report.note(RowProblem(1, "", "The file has no heading.", "Name the columns in line 1."))
        return
    report.delimiter = guess_delimiter(heading)
    names = next(csv.reader([heading], delimiter=report.delimiter), [])
    columns = _columns(names, report)
    if columns is None:
        return
    reader = csv.reader(_lines(text), delimiter=report.delimiter, strict=True)
    while True:
        line = reader.line_num + 2
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            report.rows += 1
            report.rejected += 1
            last = reader.line_num + 1  # A quotation mark left open takes the lines after it along.
            what = "The row" if last <= line else f"All from here to line {last}"
            mend = "Check that every quotation mark has its partner."
            report.note(RowProblem(line, "", f"{what} can't be read ({error}).", mend))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        report.rows += 1
        row = _row(line, cells, columns, report)
        if row is None:
            report.rejected += 1
        else:
            yield row


def _lines(text: codecs.StreamReader) -> Iterator[str]:
    """Lines of bounded length without NUL, which the reader refuses."""
    while line := text.readline(1 << 17):
        yield line.replace("\0", "\ufffd")


def _columns(names: Sequence[str], report: Report) -> list[tuple[str, str]] | None:
    """For each column its field and heading; None if there is no address among them."""
    if len(names) > MAX_COLUMNS:
        mend = f"Keep at most {MAX_COLUMNS} columns."
        report.note(RowProblem(1, "", f"There are {len(names)} columns.", mend))
        return None
    found: list[tuple[str, str]] = []
    for number, heading in enumerate(names, 1):
        plain = re.sub(r"[\W_]+", " ", heading.lower()).strip()
        fields = (ours for ours, known in COLUMNS.items() if plain in known)
        ours = next((name for name in fields if name not in [f for f, _ in found]), "")
        if not ours:
            ours = "field:" + (re.sub(r"\W+", "_", plain) or f"column_{number}")
        found.append((ours, heading.strip() or str(number)))
        report.columns[heading.strip() or str(number)] = ours.removeprefix("field:")
    if "address" not in [ours for ours, _ in found]:
        near = [h for _, h in found if get_close_matches(h.lower(), COLUMNS["address"], 1, 0.6)]
        mend = f'Rename "{near[0]}" to "email".' if near else 'Name one of the columns "email".'
        report.note(RowProblem(1, "", "No column holds e-mail addresses.", mend))
        return None
    return found


def _row(
    line: int, cells: Sequence[str], columns: Sequence[tuple[str, str]], report: Report
) -> _Row | None:
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        mend = f'Put cells that contain "{report.delimiter}" into quotation marks.'
        what = f"The row has {len(cells)} cells, the heading {len(columns)}."
        report.note(RowProblem(line, "", what, mend))
        return None
    values: dict[str, str] = {}
    heading_of = dict(columns)
    for (ours, heading), cell in zip(columns, cells, strict=False):
        value = " ".join(cell.split())
        if len(value) > MAX_FIELD:
            mend = f"Shorten it to {MAX_FIELD} letters."
            report.note(RowProblem(line, heading, "The cell is too long.", mend))
            return None
        if value:
            values[ours] = value
    written = values.get("address", "")
    address = parse_address(written)
    if address is None:
        what = f'"{written[:80]}" is not an e-mail address.' if written else "It is empty."
        mend = 'Write it as "name@company.example".'
        report.note(RowProblem(line, heading_of["address"], what, mend))
        return None
    zone = values.get("zone")
    if zone and not _is_zone(zone):
        what = f'"{zone[:80]}" is not a time zone; the contact was taken without.'
        mend = 'Write for example "Europe/Berlin".'
        report.note(RowProblem(line, heading_of["zone"], what, mend))
        zone = None
    both = f"{values.get('first_name', '')} {values.get('last_name', '')}".strip()
    fields = {k.removeprefix("field:"): v for k, v in values.items() if k.startswith("field:")}
    fields |= {k: values[k] for k in ("first_name", "last_name") if k in values}
    name = values.get("name") or both
    owner = values.get("owner", "")
    return _Row(line, address, name, values.get("organisation", ""), zone, owner, fields)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # Unknown, or not the form of a name.
        return False
    return True


async def _take(
    sessions: Sessions,
    company: UUID,
    rows: Sequence[_Row],
    report: Report,
    seen: set[int],
    now: datetime,
) -> None:
    """One transaction. `seen` holds hashes of the file's addresses: exact enough for counts."""
    async with sessions.begin(company) as session:
        addresses = {row.address.canonical for row in rows}
        there = select(Contact.address).where(Contact.address.in_(addresses))
        known = frozenset(await session.scalars(there))
        refused = select(Suppression.address).where(
            Suppression.address.in_(addresses), Suppression.scope == ""
        )
        never = frozenset(await session.scalars(refused))
        owners = await _owners(session, {row.owner.lower() for row in rows if row.owner})
        for row in rows:
            address = row.address.canonical
            if address in never:
                report.suppressed += 1
                mend = "Nothing to do: this person does not want our mail."
                report.note(RowProblem(row.line, "", "The address is suppressed.", mend))
                continue
            owner = owners.get(row.owner.lower())
            if row.owner and owner is None:
                what = f'No user has the address "{row.owner[:80]}"; taken without an owner.'
                mend = "Add the user first, or leave the cell empty."
                report.note(RowProblem(row.line, "owner", what, mend))
            await ensure_contact(
                session,
                str(row.address),
                name=row.name,
                organisation=row.organisation,
                fields=dict(row.fields),
                zone=row.zone,
                owner=owner,
                origin={"by": "import", "line": row.line},
                now=now,
            )
            if hash(address) in seen:
                report.merged += 1
            elif address in known:
                report.known += 1
            else:
                report.added += 1
            seen.add(hash(address))


async def _owners(session: AsyncSession, emails: set[str]) -> dict[str, UUID]:
    if not emails:
        return {}
    found = select(User.email, User.id).where(func.lower(User.email).in_(emails))
    return {row.email: row.id for row in (await session.execute(found)).all()}


def to_csv(problems: Sequence[RowProblem]) -> str:
    """The problems as a file that a spreadsheet opens."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["line", "column", "reason", "remedy"])
    for problem in problems:
        cells: list[Any] = [problem.line, problem.column, problem.reason, problem.remedy]
        # A cell that begins with one of these would run as a formula (OWASP, CSV injection).
        writer.writerow([f"'{c}" if str(c).startswith(tuple("=+-@\t\r")) else c for c in cells])
    return out.getvalue()

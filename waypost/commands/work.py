"""`waypost contact`, `waypost content` and `waypost sequence`."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path

from sqlalchemy import func, select

from content import files, library
from leads import intake
from mail.errors import PermanentError
from sequencer import service as sequencer
from sequencer.plan import Plan, read_plan
from storage.tables import Contact, Enrolment, Sequence
from waypost.commands.running import company_named, run
from waypost.commands.tables import table
from waypost.wiring import Appliance


def import_contacts(chosen: Namespace) -> int:
    """Imports a CSV file; every row that is refused is named with its reason."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        report = await intake.import_csv(
            parts.sessions, company, Path(chosen.file), now=parts.clock()
        )
        for problem in report.problems:
            print(problem)
        if report.not_listed:
            print(f"… and {report.not_listed} more.")
        print(
            f"{report.added} added, {report.known} known before, "
            f"{report.merged} twice in the file, {report.rejected} refused."
        )
        return 1 if report.rejected else 0

    return run(chosen, work)


def import_content(chosen: Namespace) -> int:
    """Imports a YAML file of items, each as a new version of its key."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        items = files.read_items(_text(chosen.file), chosen.file)
        async with parts.sessions.begin(company) as session:
            for item in items:
                await library.add_item(session, **item, now=parts.clock())
        print(f"{len(items)} items are in the library.")
        return 0

    return run(chosen, work)


def list_content(chosen: Namespace) -> int:
    """Lists the items that are in use."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.read(company) as session:
            items = await library.live_items(session)
        rows = [(i.key, i.version, i.kind, i.language, i.theme, i.title) for i in items]
        heads = ("key", "version", "kind", "language", "theme", "title")
        table(heads, rows, "No content yet: waypost content import FILE --company NAME")
        return 0

    return run(chosen, work)


def check_sequence(chosen: Namespace) -> int:
    """Says whether a sequence file is right, and where it is not."""
    plan = read_plan(_text(chosen.file), chosen.file)
    if not isinstance(plan, Plan):
        for problem in plan:
            print(problem)
        return 1
    print(f"{chosen.file}: right; {plan.name}, {len(plan.steps)} steps.")
    return 0


def install_sequence(chosen: Namespace) -> int:
    """Puts a version of a sequence in force for those who enter it from now on."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        source = _text(chosen.file)
        async with parts.sessions.begin(company) as session:
            version = await sequencer.install(session, source, path=chosen.file, now=parts.clock())
        print(f"Version {version.number} is in force; who is under way stays on theirs.")
        return 0

    return run(chosen, work)


def start_sequence(chosen: Namespace) -> int:
    """Enrols contacts; who is in it already is left alone."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        wanted = [address.lower() for address in chosen.address or ()]
        async with parts.sessions.read(company) as session:
            query = select(Contact).order_by(Contact.id)
            if not chosen.all:
                query = query.where(Contact.address.in_(wanted))
            contacts = (await session.scalars(query)).all()
        for address in sorted(set(wanted) - {contact.address for contact in contacts}):
            print(f"{address}: is no contact of {chosen.company}; `waypost contact import` first.")
        enrolled = 0
        for contact in contacts:
            async with parts.sessions.begin(company) as session:
                enrolled += bool(
                    await sequencer.enrol(
                        session,
                        chosen.name,
                        contact,
                        now=parts.clock(),
                        speed=parts.settings.engine.speed,
                    )
                )
        print(f"{enrolled} enrolled, {len(contacts) - enrolled} were in it already or may not be.")
        return 0

    return run(chosen, work)


def sequence_status(chosen: Namespace) -> int:
    """How many people are at which step."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        company = await company_named(parts.sessions, chosen.company)
        async with parts.sessions.read(company) as session:
            found = await session.execute(
                select(Enrolment.state, Enrolment.step_id, Enrolment.reason, func.count())
                .join(Sequence, Sequence.id == Enrolment.sequence_id)
                .where(Sequence.name == chosen.name)
                .group_by(Enrolment.state, Enrolment.step_id, Enrolment.reason)
            )
            counts = Counter({tuple(row[:3]): row[3] for row in found})
        rows = [(*place, count) for place, count in sorted(counts.items(), key=str)]
        table(("state", "step", "reason", "people"), rows, f"Nobody is in {chosen.name}.")
        return 0

    return run(chosen, work)


def _text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise PermanentError(f"{path}: can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PermanentError(f"{path}:{line}: is not UTF-8. Save the file as UTF-8.") from None

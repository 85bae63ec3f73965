"""How the demo stands while it runs, and whether it ended as it should."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import dkim
from sqlalchemy import and_, func, or_, select

from bus.events import Kind
from storage.sessions import Sessions
from storage.tables import (
    Arrival,
    Consent,
    Contact,
    Delivery,
    Draft,
    Enrolment,
    Event,
    Hold,
    Lead,
    Message,
    Reading,
    StepRun,
    Suppression,
    Task,
)
from waypost.demo import cast
from waypost.demo.expected import EXPECTED, Expected
from waypost.demo.stage import Stage
from waypost.demo.world import Person, World

SOON = timedelta(seconds=90)
"""Who is paused for longer than this is at rest, as far as the demo goes."""

OPEN_DELIVERIES = ("queued", "sending", "deferred", "uncertain")
SIGNATURES_CHECKED = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """One line of figures."""

    delivered: int
    replies: int
    drafts: int
    leads: int
    under_way: int
    unsent: int
    unread: int
    steps: int

    @property
    def at_rest(self) -> bool:
        """Nobody is in the sequence, and no mail waits anywhere."""
        return self.steps > 0 and not (self.under_way or self.unsent or self.unread or self.drafts)

    def __str__(self) -> str:
        return (
            f"delivered {self.delivered} · came back {self.replies} · drafts waiting {self.drafts}"
            f" · leads {self.leads} · in the sequence {self.under_way} · waiting {self.unsent}"
        )


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison."""

    what: str
    expected: str
    got: str
    right: bool


async def standing(sessions: Sessions, company: UUID) -> Standing:
    """The figures now."""
    async with sessions.read(company) as session:
        deliveries = dict(
            (
                await session.execute(
                    select(Delivery.state, func.count(Delivery.id)).group_by(Delivery.state)
                )
            ).all()
        )
        came_back = select(func.count(Message.id)).where(Message.direction == "in")
        drafts = select(func.count(Draft.id)).where(Draft.state == "proposed")
        soon = datetime.now(UTC) + SOON
        under_way = select(func.count(Enrolment.id)).where(
            or_(
                Enrolment.state.in_(("active", "waiting")),
                and_(Enrolment.state == "paused", Enrolment.due_at < soon),
            )
        )
        unread = select(func.count(Arrival.id)).where(Arrival.state == "waiting")
        return Standing(
            delivered=deliveries.get("delivered", 0),
            replies=await session.scalar(came_back) or 0,
            drafts=await session.scalar(drafts) or 0,
            leads=await session.scalar(select(func.count(Lead.id))) or 0,
            under_way=await session.scalar(under_way) or 0,
            unsent=sum(deliveries.get(state, 0) for state in OPEN_DELIVERIES),
            unread=await session.scalar(unread) or 0,
            steps=await session.scalar(select(func.count()).select_from(StepRun)) or 0,
        )


async def compare(
    sessions: Sessions, stage: Stage, world: World, people: list[Person], *, kills: int
) -> list[Result]:
    """Every expectation beside what happened."""
    facts = await _facts(sessions, stage.company)
    results = []
    for role in dict.fromkeys(person.role for person in people):
        of_role = [person for person in people if person.role == role]
        results += _of_role(role, of_role, EXPECTED[role], facts, world, kills)
    results += _of_customers(world)
    results += _of_everything(facts, world, kills)
    results.append(await asyncio.to_thread(_signatures, world))
    return results


def report(results: list[Result], *, seconds: float, kills: int) -> int:
    """Prints the table; 0 if everything is right."""
    width = max(len(result.what) for result in results)
    for result in results:
        sign = "right" if result.right else "WRONG"
        shown = "" if result.right else f", expected {result.expected}"
        print(f"{sign}  {result.what.ljust(width)}  {result.got}{shown}")
    wrong = sum(not result.right for result in results)
    killed = f", {kills} processes killed on the way" if kills else ""
    print(f"\n{len(results) - wrong} right, {wrong} wrong, in {seconds:.0f} seconds{killed}.")
    return 1 if wrong else 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store says at the end, by address."""

    contacts: dict[str, UUID]
    suppressed: dict[str, str]
    consent: dict[str, str]
    leads: set[str]
    enrolment: dict[str, Enrolment]
    reading: dict[str, Reading]
    draft: dict[str, Draft]
    tasks: Counter[str]
    events: Counter[str]
    human_clicks: Counter[str]
    attempts: Counter[str]
    holds: list[str]
    unread: int
    arrivals: int
    failures: list[str]


async def _facts(sessions: Sessions, company: UUID) -> Facts:
    async with sessions.read(company) as session:
        contacts = {c.address: c.id for c in await session.scalars(select(Contact))}
        address = {key: name for name, key in contacts.items()}
        clicks = select(Event.contact_id).where(Event.kind == Kind.CLICKED, Event.agent == "human")
        kinds = select(Event.kind, func.count(Event.seq)).group_by(Event.kind)
        suppressed = await session.scalars(select(Suppression))
        consents = await session.scalars(select(Consent))
        stuck = select(Enrolment).where(Enrolment.state == "asking")
        facts = Facts(
            contacts=contacts,
            suppressed={row.address: row.reason for row in suppressed},
            consent={address[row.contact_id]: row.state for row in consents},
            leads={address[row.contact_id] for row in await session.scalars(select(Lead))},
            enrolment={
                address[row.contact_id]: row for row in await session.scalars(select(Enrolment))
            },
            reading={
                address[row.contact_id]: row
                for row in await session.scalars(select(Reading).order_by(Reading.id.desc()))
                if row.contact_id
            },
            draft={
                address[row.contact_id]: row
                for row in await session.scalars(select(Draft).order_by(Draft.id.desc()))
            },
            tasks=Counter(
                address[row.contact_id]
                for row in await session.scalars(select(Task))
                if row.contact_id
            ),
            events=Counter(dict((await session.execute(kinds)).all())),
            human_clicks=Counter(address[key] for key in await session.scalars(clicks) if key),
            attempts=Counter(
                {
                    row.recipient: row.attempts
                    for row in await session.scalars(select(Delivery).order_by(Delivery.attempts))
                }
            ),
            holds=[
                f"{row.station}: {row.cause.strip().splitlines()[-1]}"
                for row in await session.scalars(select(Hold).where(Hold.released_at.is_(None)))
            ],
            unread=0,
            arrivals=await session.scalar(select(func.count(Arrival.id))) or 0,
            failures=[f"asking: {row.reason}" for row in await session.scalars(stuck)],
        )
    return facts


def _of_role(
    role: str, people: list[Person], expected: Expected, facts: Facts, world: World, kills: int
) -> list[Result]:
    results = []
    # While the engine is down, days pass: a reminder may go out before an answer is read.
    letters = {*expected.letters, *(n + 1 for n in expected.letters if kills and 0 < n < 3)}

    def add(what: str, wanted: Iterable[object], got: Iterable[object]) -> None:
        allowed = sorted({str(item) for item in wanted})
        found = Counter(str(item) for item in got)
        shown = ", ".join(f"{name} × {count}" for name, count in sorted(found.items()))
        right = all(name in allowed for name in found)
        results.append(
            Result(f"{role} ({len(people)}): {what}", " or ".join(allowed), shown, right)
        )

    mails = [world.letters.get(p.address, []) for p in people]
    add("letters", letters, [sum(x.bulk for x in letters) for letters in mails])
    add("answers", [expected.answers], [sum(not x.bulk for x in letters) for letters in mails])
    add(
        "suppressed",
        [expected.suppressed],
        ["yes" if p.address in facts.suppressed else "no" for p in people],
    )
    add("follow-up", [expected.follow_up], [facts.enrolment[p.address].state for p in people])
    if expected.intents:
        add("read as", expected.intents, [_top(facts, p) for p in people])
        add("decision", expected.decisions, [_decision(facts, p) for p in people])
    if expected.draft:
        add("draft", [expected.draft], [_draft(facts, p) for p in people])
    if expected.words:
        add(
            "words of the answer",
            ["as edited"],
            ["as edited" if any(expected.words in x.text for x in m) else "other" for m in mails],
        )
    if expected.human_click is not None:
        wanted = ["yes" if expected.human_click else "no"]
        got = ["yes" if facts.human_clicks[p.address] else "no" for p in people]
        add("human click", wanted, got)
    if expected.friend:
        friends = [f"friend.of.{p.address}" for p in people]
        add("friend's consent", [expected.friend], [facts.consent.get(f, "none") for f in friends])
        add("friend is a lead", ["yes"], ["yes" if f in facts.leads else "no" for f in friends])
        add("letters to the friend", [0], [len(world.letters.get(f, [])) for f in friends])
    if expected.tried_again:
        again = ["yes" if facts.attempts[p.address] > 1 else "no" for p in people]
        add("tried again", ["yes"], again)
    return results


def _of_customers(world: World) -> list[Result]:
    results = []
    for number, customer in enumerate(cast.customers()):
        letters = world.letters.get(customer.address, [])
        wanted = (
            f"Your order {1001 + number} is on its way, Pat"
            if number < 2
            else "The plan for your building"
        )
        got = "; ".join(letter.subject for letter in letters) or "nothing"
        door = "API" if number < 2 else "SMTP submission"
        results.append(Result(f"customer by {door}", wanted, got, got == wanted))
    return results


def _of_everything(facts: Facts, world: World, kills: int) -> list[Result]:
    steps = Counter(
        (letter.rcpt_to, letter.subject)
        for letters in world.letters.values()
        for letter in letters
        if letter.bulk
    )
    often = {cast.REMINDER: 2}
    again = sum(max(0, count - often.get(subject, 1)) for (_, subject), count in steps.items())
    untraced = [address for address, row in facts.reading.items() if not row.trace]
    copies = sum(world.copies.values())
    refusals = [f"{who}: {code} {text}" for who, code, text in world.refused]
    impostor = facts.events[Kind.APPROVAL_REFUSED]
    return [
        Result("steps done twice", "0", str(again), again == 0),
        Result(
            "second copies (same Message-ID)",
            "0" if not kills else f"at most {kills * 50}, of mail in flight when killed",
            str(copies),
            copies <= kills * 50,
        ),
        Result("forged approvals refused", "1 or more", str(impostor), impostor >= 1),
        Result("readings without a trace", "0", str(len(untraced)), not untraced),
        Result("events on hold", "0", "; ".join(facts.holds) or "0", not facts.holds),
        Result("people stuck", "0", "; ".join(facts.failures) or "0", not facts.failures),
        Result("mail of the world refused", "0", "; ".join(refusals) or "0", not refusals),
        Result("scripts that failed", "0", "; ".join(world.failures) or "0", not world.failures),
        Result(
            "messages that came in",
            f"{world.sent - len(world.refused)} or more",
            str(facts.arrivals),
            facts.arrivals >= world.sent - len(world.refused),
        ),
    ]


def _signatures(world: World) -> Result:
    """An independent verifier (dkimpy) checks both signatures of some letters."""
    letters = [letters[0] for letters in world.letters.values() if letters][:SIGNATURES_CHECKED]
    good = 0
    for letter in letters:
        count = letter.raw.lower().count(b"dkim-signature:")
        good += count == 2 and all(
            dkim.DKIM(letter.raw, timeout=5).verify(idx=index, dnsfunc=world.dns_text)
            for index in range(count)
        )
    return Result(
        "letters whose two signatures verify",
        str(len(letters)),
        str(good),
        good == len(letters) > 0,
    )


def _top(facts: Facts, person: Person) -> str:
    reading = facts.reading.get(person.address)
    return reading.top if reading else "not read"


def _decision(facts: Facts, person: Person) -> str:
    reading = facts.reading.get(person.address)
    return reading.decision if reading else "none"


def _draft(facts: Facts, person: Person) -> str:
    draft = facts.draft.get(person.address)
    return f"{draft.state} by {draft.decided_via}" if draft else "none"

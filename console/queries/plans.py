"""Sequences: their steps as a picture, how many people stand where, and who they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from storage.tables import Contact, Enrolment, Sequence, SequenceVersion, StepRun

PAGE = 100
ROW, WIDTH = 64, 460


@dataclass(frozen=True, slots=True)
class Summary:
    """One sequence of the list."""

    sequence: Sequence
    states: dict[str, int]


@dataclass(frozen=True, slots=True)
class Box:
    """A step in the picture, with how many are there and how often it was done."""

    id: str
    what: str
    y: int
    here: int
    done: int
    indent: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One sequence with its picture and people."""

    sequence: Sequence
    version: SequenceVersion
    boxes: list[Box]
    wires: list[tuple[int, int, str]] = field(default_factory=list)
    people: Rows[tuple[Enrolment, Contact]] = ()
    states: dict[str, int] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """Of the picture, in pixels."""
        return ROW * max(1, len(self.boxes)) + 16


async def all_plans(session: AsyncSession) -> list[Summary]:
    """Every sequence with its counts by state."""
    counts: dict[Any, dict[str, int]] = {}
    query = select(Enrolment.sequence_id, Enrolment.state, func.count(Enrolment.id)).group_by(
        Enrolment.sequence_id, Enrolment.state
    )
    for key, state, number in await session.execute(query):
        counts.setdefault(key, {})[state] = number
    found = await session.scalars(select(Sequence).order_by(Sequence.name))
    return [Summary(one, counts.get(one.id, {})) for one in found]


async def plan(session: AsyncSession, name: str, *, state: str, step: str) -> Plan | None:
    """One sequence by its name; None if this company has none of that name."""
    sequence = (await session.scalars(select(Sequence).where(Sequence.name == name))).one_or_none()
    if sequence is None:
        return None
    version = (
        await session.scalars(
            select(SequenceVersion).where(
                SequenceVersion.sequence_id == sequence.id,
                SequenceVersion.number == sequence.latest,
            )
        )
    ).one()
    mine = Enrolment.sequence_id == sequence.id
    here = await session.execute(
        select(Enrolment.step_id, func.count(Enrolment.id))
        .where(mine, Enrolment.state != "ended")
        .group_by(Enrolment.step_id)
    )
    done = await session.execute(
        select(StepRun.step_id, func.count(StepRun.enrolment_id))
        .join(Enrolment, Enrolment.id == StepRun.enrolment_id)
        .where(mine)
        .group_by(StepRun.step_id)
    )
    states = await session.execute(
        select(Enrolment.state, func.count(Enrolment.id)).where(mine).group_by(Enrolment.state)
    )
    people = (
        select(Enrolment, Contact)
        .join(Contact, Contact.id == Enrolment.contact_id)
        .where(mine)
        .order_by(Enrolment.state == "ended", Enrolment.due_at, Enrolment.id)
        .limit(PAGE)
    )
    if state:
        people = people.where(Enrolment.state == state)
    if step:
        people = people.where(Enrolment.step_id == step)
    boxes, wires = draw(version.plan, Counter(dict(here.all())), Counter(dict(done.all())))
    return Plan(
        sequence,
        version,
        boxes,
        wires,
        [(e, c) for e, c in (await session.execute(people))],
        dict(states.all()),
    )


def draw(
    outline: dict[str, Any], here: Counter[str | None], done: Counter[str]
) -> tuple[list[Box], list[tuple[int, int, str]]]:
    """Boxes from the top in the order of the plan, and wires between them (from, to, label)."""
    steps = outline.get("steps", [])
    places = {str(step["id"]): number for number, step in enumerate(steps)}
    boxes = [
        Box(
            str(step["id"]),
            str(step["label"]),
            number * ROW + 8,
            here[step["id"]],
            done[step["id"]],
            len(step["inside"]),
        )
        for number, step in enumerate(steps)
    ]
    wires = [
        (number, places[edge["to"]], str(edge["why"]))
        for number, step in enumerate(steps)
        for edge in step["edges"]
        if edge["to"] in places
    ]
    return boxes, wires

"""The parts of a sequence as the machine runs it: frozen, made by `sequencer/plan.py`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from rules.tree import Node


class Do(StrEnum):
    """What a reply can do to its sequence."""

    STOP = "stop"
    PAUSE = "pause"
    GOTO = "goto"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion with its text, for explanations."""

    source: str
    tree: Node = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Send:
    """Mails a content item; in the thread of the last mail, if `thread`."""

    content: str
    thread: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Lets time pass."""

    length: timedelta


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Waits until something happens, at most so long."""

    event: str
    where: Criterion | None
    timeout: timedelta
    on_timeout: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One way out of a branch; without `when` it is the other way."""

    when: Criterion | None
    then: str | None


@dataclass(frozen=True, slots=True)
class Branch:
    """Goes the way of the first case that holds; without any, to the next step."""

    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Does its steps up to `times` times, `every` so often, until a criterion holds."""

    times: int
    every: timedelta
    until: Criterion | None
    first: str


@dataclass(frozen=True, slots=True)
class TaskFor:
    """Gives a rep something to do."""

    title: str
    due: timedelta | None
    owner: str


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more happens."""


What = Send | Wait | WaitFor | Branch | Repeat | TaskFor | End


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `next` is the id of the step that follows, None for the end of the sequence.

    `inside` are the repeats that it is in, outermost first.
    """

    id: str
    what: What
    next: str | None
    inside: tuple[str, ...]
    line: int

    @property
    def kind(self) -> str:
        """How the step is called in the document."""
        return _WORD[type(self.what)]


_WORD: Mapping[type[Any], str] = {
    Send: "send",
    Wait: "wait",
    WaitFor: "wait",
    Branch: "branch",
    Repeat: "repeat",
    TaskFor: "task",
    End: "end",
}
KINDS = ("send", "wait", "branch", "repeat", "task", "end")


@dataclass(frozen=True, slots=True)
class OnReply:
    """What a reply does when a criterion holds."""

    when: Criterion
    do: Do
    to: str | None = None
    pause: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Who comes in: by hand, or by an event that meets a criterion. `again`: once it has ended."""

    event: str | None = None
    where: Criterion | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A sequence as the machine runs it."""

    name: str
    entry: Entry
    stop: frozenset[str]
    on_reply: tuple[OnReply, ...]
    steps: Mapping[str, Step]
    first: str
    max_lateness: timedelta

    def outline(self) -> dict[str, Any]:
        """The steps and their edges as JSON, to be drawn."""
        return {
            "name": self.name,
            "first": self.first,
            "entry": self.entry.event or "manual",
            "stop": sorted(self.stop),
            "steps": [
                {
                    "id": step.id,
                    "kind": step.kind,
                    "label": label(step),
                    "inside": list(step.inside),
                    "edges": [{"to": to, "why": why} for to, why in edges(step)],
                }
                for step in self.steps.values()
            ],
        }


def edges(step: Step) -> list[tuple[str | None, str]]:
    """Where a step leads (None is the end), and when."""
    match step.what:
        case End():
            return []
        case WaitFor(event=event, on_timeout=late):
            return [(step.next, event), (late, "time-out")]
        case Branch(cases=cases):
            found = [(case.then, case.when.source if case.when else "else") for case in cases]
            return found if cases and cases[-1].when is None else [*found, (step.next, "else")]
        case Repeat(first=first):
            return [(first, "again"), (step.next, "done")]
    return [(step.next, "")]


def label(step: Step) -> str:
    """A step in a few words."""
    match step.what:
        case Send(content=content):
            return f"send {content}"
        case Wait(length=length):
            return f"wait {_span(length)}"
        case WaitFor(event=event, timeout=timeout):
            return f"wait for {event}, at most {_span(timeout)}"
        case Repeat(times=times, every=every):
            return f"repeat {times} times, every {_span(every)}"
        case TaskFor(title=title):
            return f"task: {title}"
    return step.kind


def _span(length: timedelta) -> str:
    """A duration as it is written in a plan: 3d, 90m."""
    seconds = int(length.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"

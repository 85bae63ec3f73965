"""The graph of who passed our mail on to whom: generations, what came of them, and a picture.

The edges of one cluster are a tree from its first recipient, apart from people who were told of us
twice and people who passed it back: the tree takes the earliest edge into each person, the others
are drawn as additional lines. Pure, and the same edges in any order give the same picture.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

Person = TypeVar("Person", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Edge(Generic[Person]):
    """`inviter` passed it on to `invitee`; `accepted` says whether that one agreed."""

    inviter: Person
    invitee: Person
    at: datetime
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """How many people were reached in so many steps, and how many of them agreed."""

    number: int
    invited: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Spot(Generic[Person]):
    """Where a person stands in the picture: columns from the left, generations from the top."""

    person: Person
    x: float
    y: int
    accepted: bool
    reached: int
    """People below this one."""


@dataclass(frozen=True, slots=True)
class Line(Generic[Person]):
    """A line of the picture; one that is not `first` is a second way to the same person."""

    inviter: Person
    invitee: Person
    first: bool


@dataclass(frozen=True, slots=True)
class Picture(Generic[Person]):
    """A cluster as plain data; `width` is in columns and `height` in generations."""

    width: float
    height: int
    spots: tuple[Spot[Person], ...]
    lines: tuple[Line[Person], ...]


def parents(root: Person, edges: Iterable[Edge[Person]]) -> dict[Person, Edge[Person]]:
    """The edge by which each person was first reached from `root`, in order of generation."""
    out: dict[Person, list[Edge[Person]]] = defaultdict(list)
    for edge in sorted(edges, key=lambda edge: (edge.at, str(edge.inviter), str(edge.invitee))):
        out[edge.inviter].append(edge)
    found: dict[Person, Edge[Person]] = {}
    waiting = deque([root])
    while waiting:
        for edge in out[waiting.popleft()]:
            if edge.invitee != root and edge.invitee not in found:
                found[edge.invitee] = edge
                waiting.append(edge.invitee)
    return found


def generations(root: Person, edges: Iterable[Edge[Person]]) -> dict[Person, int]:
    """How many steps each person is from the first recipient, who is 0."""
    found = {root: 0}
    for person, edge in parents(root, edges).items():
        found[person] = found[edge.inviter] + 1
    return found


def growth(root: Person, edges: Iterable[Edge[Person]]) -> list[Generation]:
    """Invited and accepted for each generation; somebody invited twice counts once."""
    edges = list(edges)
    steps = generations(root, edges)
    agreed = {edge.invitee for edge in edges if edge.accepted}
    people: dict[int, list[Person]] = defaultdict(list)
    for person, step in steps.items():
        people[step].append(person)
    return [
        Generation(step, len(people[step]), len(agreed.intersection(people[step])))
        for step in sorted(people)
        if step
    ]


def brokers(root: Person, edges: Iterable[Edge[Person]]) -> list[tuple[Person, int]]:
    """Who opened the most doors: people by how many are below them, most first."""
    below = _below(root, parents(root, edges))
    found = [(person, count) for person, count in below.items() if count]
    return sorted(found, key=lambda pair: (-pair[1], str(pair[0])))


def picture(root: Person, edges: Iterable[Edge[Person]]) -> Picture[Person]:
    """A tree with every person above the middle of those they brought."""
    edges = list(edges)
    tree = parents(root, edges)
    children: dict[Person, list[Person]] = defaultdict(list)
    for person, edge in tree.items():
        children[edge.inviter].append(person)
    steps = {root: 0}
    for person, edge in tree.items():
        steps[person] = steps[edge.inviter] + 1
    x = _columns(root, children)
    below = _below(root, tree)
    agreed = {edge.invitee for edge in edges if edge.accepted}
    spots = tuple(
        Spot(person, x[person], step, person in agreed, below[person])
        for person, step in sorted(steps.items(), key=lambda pair: (pair[1], x[pair[0]]))
    )
    drawn = sorted(
        (e for e in edges if e.inviter in steps and e.invitee in steps),
        key=lambda e: (steps[e.inviter], x[e.inviter], x[e.invitee], e.at),
    )
    lines = tuple(Line(e.inviter, e.invitee, tree.get(e.invitee) == e) for e in drawn)
    return Picture(max(x.values()) + 1, max(steps.values()) + 1, spots, lines)


def _columns(root: Person, children: Mapping[Person, list[Person]]) -> dict[Person, float]:
    """Those without children take the next column; the others stand over the middle of theirs."""
    x: dict[Person, float] = {}
    column = 0
    waiting = [(root, False)]  # No recursion: chains of forwards may be long.
    while waiting:
        person, done = waiting.pop()
        brought = children.get(person, [])
        if not brought:
            x[person] = float(column)
            column += 1
        elif done:
            x[person] = (x[brought[0]] + x[brought[-1]]) / 2
        else:
            waiting.append((person, True))
            waiting += [(child, False) for child in reversed(brought)]
    return x


def _below(root: Person, tree: dict[Person, Edge[Person]]) -> dict[Person, int]:
    below = dict.fromkeys([root, *tree], 0)
    for person in reversed(tree):  # The last generation comes first.
        below[tree[person].inviter] += below[person] + 1
    return below

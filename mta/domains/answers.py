"""Asking DNS while judging: a judgement runs on what is known, and says what it has to know more.

So the judging stays pure. `settle` runs it, asks for the name that it misses, and runs it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from mta.resolver import Look

MAX_QUESTIONS = 150
"""For one judgement: ten SPF look-ups with ten hosts each, and some."""

T = TypeVar("T")


class Names(Protocol):
    """Who answers; `mta.resolver.Resolver` does."""

    async def look(self, name: str, kind: str) -> Look:
        """What DNS says now. Never raises."""
        ...


class UnaskedError(Exception):
    """A judgement needs an answer that is not there yet."""

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name, kind)
        self.name, self.kind = name, kind


class Answers:
    """What DNS said, by name and type."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Look] = {}

    def look(self, name: str, kind: str) -> Look:
        """What is known. Raises `UnaskedError` if nobody has asked yet."""
        try:
            return self._known[_key(name, kind)]
        except KeyError:
            raise UnaskedError(*_key(name, kind)) from None

    def learn(self, name: str, kind: str, look: Look) -> None:
        """Keeps an answer."""
        self._known[_key(name, kind)] = look


def _key(name: str, kind: str) -> tuple[str, str]:
    return name.rstrip(".").lower(), kind


async def settle(judge: Callable[[Answers], T], answers: Answers, names: Names) -> T | None:
    """Asks until the judgement can be made; None if it never has enough."""
    for _ in range(MAX_QUESTIONS):
        try:
            return judge(answers)
        except UnaskedError as missing:
            look = await names.look(missing.name, missing.kind)
            answers.learn(missing.name, missing.kind, look)
    return None

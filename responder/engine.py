"""Decides what to do about a reply: facts in, rules of `rules/*.clp` fire, a decision comes out.

The rules run in CLIPS. They come from this package's files only; what people wrote is asserted slot
by slot (`assert_fact`), so that no text of theirs is ever read as a rule, and a run is bounded.
One environment serves a process and is reset for each reply (a new one costs 30 ms and memory).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import clips

from mail.errors import PermanentError
from responder.facts import Case, Fact, facts_of, pause_end

TOPICS = (
    "vocabulary",
    "weigh",
    "suppression",
    "automatic",
    "referral",
    "questions",
    "interest",
    "objections",
    "undecided",
)
RUN_LIMIT = 10_000
"""Firings of one run; a reply needs some thirty."""

_NEED = "need"
SUPPRESSING = frozenset({"suppress", "escalate"})


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that fired, what that means in plain words, and the facts it matched."""

    rule: str
    says: str
    facts: tuple[Mapping[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """As it is kept with the reading."""
        return {"rule": self.rule, "says": self.says, "facts": [dict(fact) for fact in self.facts]}


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do. `needs` are the intents that an answer has to speak about, the surest first.

    `kind`: answer, ask_rep, pause, stop, suppress, refer, escalate or nothing.
    """

    kind: str
    rule: str
    certainty: float
    needs: tuple[str, ...]
    pause_until: datetime | None
    trace: tuple[Firing, ...]
    rules_version: str

    @property
    def suppresses(self) -> bool:
        """Whether the contact is never written to again."""
        return self.kind in SUPPRESSING


class Engine:
    """An environment with our rules; threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._trace: list[Firing] = []
        self._environment = clips.Environment()
        self._environment.define_function(self._explain, "explain")
        digest = hashlib.sha256()
        for topic in TOPICS:
            source = files("responder").joinpath("rules", f"{topic}.clp").read_text("utf-8")
            digest.update(source.encode())
            for construct in _constructs(source):
                self._environment.build(construct)
        self.version = digest.hexdigest()[:16]

    def rules(self) -> list[str]:
        """The names of all rules."""
        return [rule.name for rule in self._environment.rules()]

    def decide(self, case: Case) -> Decision:
        """The decision about one case, with its trace."""
        with self._turn:
            self._trace = []
            self._environment.reset()
            for fact in facts_of(case):
                self._assert(fact)
            fired = self._environment.run(limit=RUN_LIMIT)
            if fired >= RUN_LIMIT:
                raise PermanentError("the rules did not come to an end about this reply")
            facts = [(fact.template.name, dict(fact)) for fact in self._environment.facts()]
            trace = tuple(self._trace)
        needs = sorted(
            (
                (float(slots["certainty"]), str(slots["intent"]))
                for n, slots in facts
                if n == "need"
            ),
            key=lambda need: (-need[0], need[1]),
        )
        slots = next(slots for name, slots in facts if name == "decision")
        kind = str(slots["kind"])
        return Decision(
            kind=kind,
            rule=str(slots["rule"]),
            certainty=round(float(slots["certainty"]), 4),
            needs=tuple(intent for _, intent in needs),
            pause_until=pause_end(case, int(slots["days"])) if kind == "pause" else None,
            trace=trace,
            rules_version=self.version,
        )

    def _assert(self, fact: Fact) -> None:
        symbols = {name: clips.Symbol(str(value)) for name, value in fact.symbols.items()}
        template = self._environment.find_template(fact.template)
        template.assert_fact(**symbols, **fact.values)

    def _explain(self, rule: str, says: str, *facts: Any) -> None:
        matched = tuple(
            {"fact": fact.template.name, **{key: _value(v) for key, v in dict(fact).items()}}
            for fact in facts
        )
        self._trace.append(Firing(str(rule), str(says), matched))


@cache
def engine() -> Engine:
    """The process's engine."""
    return Engine()


def decide(case: Case) -> Decision:
    """What to do about a reply."""
    return engine().decide(case)


def why(decision: Decision) -> list[str]:
    """The decision in sentences, in the order in which the rules fired."""
    lines = []
    for firing in decision.trace:
        phrases = [
            f'"{fact["phrase"]}"'
            for fact in firing.facts
            if fact.get("fact") == "evidence" and fact.get("phrase")
        ]
        words = f" The words: {', '.join(phrases)}." if phrases else ""
        lines.append(f"{firing.says}{words} [{firing.rule}]")
    until = f" until {decision.pause_until:%Y-%m-%d %H:%M} UTC" if decision.pause_until else ""
    lines.append(f"So: {decision.kind.replace('_', ' the ')}{until}. [{decision.rule}]")
    return lines


def _value(value: Any) -> Any:
    return (
        round(value, 4) if isinstance(value, float) else value if type(value) is int else str(value)
    )


def _constructs(source: str) -> list[str]:
    """The constructs of a file, one text each; comments and strings may hold parentheses."""
    found, depth, start = [], 0, 0
    in_text = in_comment = escaped = False
    for at, character in enumerate(source):
        if in_comment:
            in_comment = character != "\n"
        elif in_text:
            in_text = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == ";":
            in_comment = True
        elif character == '"':
            in_text, escaped = True, False
        elif character == "(":
            start = at if depth == 0 else start
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                found.append(source[start : at + 1])
    if depth or in_text:
        raise ValueError("a construct is not closed")
    return found

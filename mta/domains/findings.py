"""What was found where a record should be, what is wrong with it, and how to mend it.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from mta.domains.records import Need, Record
from mta.resolver import Look

MAX_SHOWN = 400
"""Characters of a stranger's record that are kept."""

MAX_VALUES = 10


class State(StrEnum):
    """How a record stands. `unsure`: DNS did not tell."""

    GOOD = "good"
    ADVICE = "advice"
    WRONG = "wrong"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Finding:
    """The judgement on one record.

    `code` is a fixed word for programs; `problem` and `remedy` are for people; `value` is what
    should stand there, which may differ from the record's own value where something was merged.
    """

    record: Record
    state: State
    code: str = "good"
    problem: str = ""
    remedy: str = ""
    value: str = ""
    found: tuple[str, ...] = ()
    note: str = ""

    @property
    def fine(self) -> bool:
        """Whether the record is there and does what it is for, be it better or worse."""
        return self.state is State.GOOD or (self.state is State.ADVICE and self.code != "missing")

    def as_json(self) -> dict[str, Any]:
        """For the database or a program."""
        return {
            "record": self.record.as_json(),
            "state": str(self.state),
            "code": self.code,
            "problem": self.problem,
            "remedy": self.remedy,
            "value": self.value,
            "found": list(self.found),
            "note": self.note,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `as_json` gave."""
        texts = {k: str(data.get(k, "")) for k in ("code", "problem", "remedy", "value", "note")}
        found = tuple(str(one) for one in data.get("found", ()))
        record = Record.from_json(data["record"])
        return cls(record, State(data["state"]), found=found, **texts)


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes the findings about one record from one look at it."""

    record: Record
    look: Look

    def good(self, note: str = "") -> Finding:
        """All is as it should be."""
        return Finding(self.record, State.GOOD, found=self._found(), note=note)

    def advice(self, code: str, problem: str, remedy: str, value: str = "") -> Finding:
        """It works, and could be better."""
        return self._finding(State.ADVICE, code, problem, remedy, value)

    def wrong(self, code: str, problem: str, remedy: str, value: str = "") -> Finding:
        """It does not work."""
        return self._finding(State.WRONG, code, problem, remedy, value)

    def missing(self, problem: str = "", remedy: str = "", value: str = "") -> Finding:
        """Nothing is there; only advice where the record is only advised."""
        record = self.record
        state = State.WRONG if record.need is Need.REQUIRED else State.ADVICE
        problem = problem or f"There is no {record.type} record at {record.name}."
        remedy = remedy or "Add this record."
        if self.look.alias:
            problem = (
                f"{record.name} is a CNAME to {self.look.alias}, where there is no {record.type} "
                "record."
            )
            remedy = f"Remove the CNAME at {record.name}, or let {self.look.alias} have the record."
        return self._finding(state, "missing", problem, remedy, value)

    def unsure(self, trouble: str = "", name: str = "") -> Finding:
        """DNS did not say."""
        where = name or self.record.name
        return Finding(
            self.record,
            State.UNSURE,
            "no_answer",
            f"DNS did not tell about {where}: {trouble or self.look.trouble}.",
            "Check again in some minutes. If it stays so, the name servers of this domain are down "
            "or misconfigured: ask whoever runs them.",
            self.record.value,
        )

    def _finding(self, state: State, code: str, problem: str, remedy: str, value: str) -> Finding:
        record, look = self.record, self.look
        note = ""
        if look.remembered >= 60:
            verb = "added" if not look.values else "changed"
            minutes = -(-look.remembered // 60)
            unit = "minute" if minutes == 1 else "minutes"
            note = (
                f"If you {verb} it lately: name servers may remember the old answer for "
                f"{minutes} {unit} more."
            )
        expected = value or record.value
        return Finding(record, state, code, problem, remedy, expected, self._found(), note)

    def _found(self) -> tuple[str, ...]:
        return shown(self.look.values)


def shown(values: Iterable[str]) -> tuple[str, ...]:
    """Strangers' texts, bounded and without what would change a terminal or a page."""
    texts = list(values)[:MAX_VALUES]
    return tuple(
        "".join(c if c.isprintable() else "�" for c in text[:MAX_SHOWN])
        + ("…" if len(text) > MAX_SHOWN else "")
        for text in texts
    )


def quoted_badly(text: str) -> str:
    """What a text would be without the quotes and backslashes that a form took for text.

    Empty if there are none.
    """
    if '"' not in text and "\\" not in text:
        return ""
    return text.replace('" "', "").replace('"', "").replace("\\;", ";").replace("\\", "").strip()


def tags(text: str) -> dict[str, str] | None:
    """A list of `tag=value;` (RFC 6376 §3.2) with white space taken out; None if it is none."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name.replace("_", "").isalnum() or name in found:
            return None
        found[name] = " ".join(value.split())
    return found

"""Reads a sequence: one YAML document → a frozen `Plan`, or all `Problem`s that it has.

The language is described in docs/sequences.md. Steps are numbered by nobody: they have ids of their
own, which stay when the plan changes, and everything that happened is recorded by id. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from difflib import get_close_matches

from rules.parse import parse
from rules.tree import RuleError
from rules.values import read_duration
from sequencer.document import Item, Problem, read_document
from sequencer.lint import lint
from sequencer.steps import (
    KINDS,
    Branch,
    Case,
    Criterion,
    Do,
    End,
    Entry,
    OnReply,
    Plan,
    Repeat,
    Send,
    Step,
    TaskFor,
    Wait,
    WaitFor,
    What,
)

__all__ = ["Plan", "Problem", "read_plan"]

NAMES = {
    "reply.intent": "text",
    "reply.certainty": "number",
    "reply.intents.*": "number",
    "reply.decision": "text",
    "contact.address": "text",
    "contact.name": "text",
    "contact.first_name": "text",
    "contact.organisation": "text",
    "contact.zone": "text",
    "contact.fields.*": "any",
    "event.kind": "text",
    "event.url": "text",
    "enrolment.started": "time",
    "enrolment.replies": "number",
    "enrolment.clicks": "number",
    "enrolment.last_human_event": "time",
    "now": "time",
}
"""What the criteria of a sequence can ask for."""

AWAITED = ("reply", "click", "task", "delivered")
STOPS = ("reply.human", "unsubscribe", "bounce.hard", "complaint")
ENTRY_EVENTS = ("lead.consented",)
MAX_STEPS = 500
MAX_TIMES = 100
LONGEST = timedelta(days=3650)
DEFAULT_LATENESS = timedelta(hours=24)


def read_plan(source: str, path: str = "sequence.yaml") -> Plan | list[Problem]:
    """The plan, or everything that is wrong with the document, in its order."""
    document = read_document(source, path)
    if isinstance(document, Problem):
        return [document]
    reader = _Reader(path)
    plan = reader.plan(document)
    if plan is None or reader.problems:
        return sorted(reader.problems, key=lambda problem: (problem.line, problem.column))
    return lint(plan, reader.places, path) or plan


class _Reader:
    """Collects problems instead of stopping at the first."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.places: dict[str, Item] = {}
        self._targets: list[Item] = []
        self._steps: dict[str, Step] = {}

    def _problem(self, item: Item, what: str, mend: str) -> None:
        self.problems.append(Problem(self.path, item.line, item.column, what, mend))

    def _fields(
        self, item: Item, allowed: Iterable[str], where: str, needed: Iterable[str] = ()
    ) -> dict[str, Item]:
        """The fields of a mapping; unknown ones are problems."""
        allowed = tuple(allowed)
        if not isinstance(item.value, tuple):
            self._problem(item, f"{where} needs fields.", f"There are {', '.join(allowed)}.")
            return {}
        found: dict[str, Item] = {}
        for name, key, value in item.entries():
            if name in allowed:
                found[name] = value
                continue
            near = get_close_matches(name, allowed, 1, 0.5)
            mend = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(allowed)}."
            self._problem(key, f'{where} has no field "{name}".', mend)
        for name in needed:
            if name not in found:
                self._problem(item, f'{where} needs "{name}".', f'Add "{name}: …".')
        return found

    def plan(self, document: Item) -> Plan | None:
        names = ("sequence", "entry", "stop", "max_lateness", "on_reply", "steps")
        found = self._fields(document, names, "A sequence", ("sequence", "steps"))
        name = self._text(found.get("sequence"), "The name of a sequence", 100)
        entry = self._entry(found["entry"]) if "entry" in found else Entry()
        stop = self._stop(found["stop"]) if "stop" in found else frozenset(STOPS)
        late = self._duration(found.get("max_lateness"), DEFAULT_LATENESS)
        steps = self._list(found.get("steps"), "steps")
        first = self._ids(steps)
        self._body(steps, None, ())
        on_reply = tuple(
            rule
            for item in self._list(found.get("on_reply"), "on_reply")
            if (rule := self._on_reply(item)) is not None
        )
        for target in self._targets:
            self._check_target(target)
        if not first and not self.problems:
            self._problem(document, "A sequence needs steps.", 'Add "steps:" with one at least.')
        if self.problems:
            return None
        return Plan(name, entry, stop, on_reply, self._steps, first, late)

    def _check_target(self, target: Item) -> None:
        if target.value in self.places:
            return
        near = get_close_matches(str(target.value), self.places, 1, 0.5)
        mend = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(self.places)}."
        self._problem(target, f'There is no step "{target.value}".', mend)

    def _list(self, item: Item | None, name: str) -> list[Item]:
        if item is None:
            return []
        if not isinstance(item.value, list):
            self._problem(item, f'"{name}" is a list.', 'Begin each of its entries with "- ".')
            return []
        return item.value

    def _text(self, item: Item | None, what: str, longest: int = 500) -> str:
        if item is None:
            return ""
        text = "" if item.value is None else item.value
        if not isinstance(text, str | int) or isinstance(text, bool) or not str(text).strip():
            self._problem(item, f"{what} is a text.", "Write a word, or put it into quotes.")
            return ""
        if len(str(text)) > longest:
            self._problem(item, f"{what} is too long.", f"Keep it under {longest} letters.")
        return " ".join(str(text).split())

    def _duration(self, item: Item | None, otherwise: timedelta) -> timedelta:
        if item is None:
            return otherwise
        found = read_duration(item.value) if isinstance(item.value, str) else None
        if found is None:
            mend = 'Write a whole number with m, h, d or w, for example "3d".'
            self._problem(item, f'"{_shown(item)}" is not a duration.', mend)
            return otherwise
        if found > LONGEST:
            self._problem(item, "This is more than ten years.", "Choose a shorter time.")
        return found

    def _criterion(self, item: Item | None, names: Iterable[str] = NAMES) -> Criterion | None:
        if item is None:
            return None
        if isinstance(item.value, bool):
            source = "true" if item.value else "false"
        else:
            source = item.value if isinstance(item.value, str) else ""
        try:
            return Criterion(source, parse(source, {name: NAMES[name] for name in names}))
        except RuleError as error:
            column = error.column + (item.column - 1 if error.line == 1 else 0)
            place = Item(None, item.line + error.line - 1, column)
            self._problem(place, error.what, error.mend)
            return None

    def _entry(self, item: Item) -> Entry:
        found = self._fields(item, ("on", "event", "where", "reentry"), "entry", ("on",))
        by = found.get("on")
        if by is not None and by.value not in ("manual", "event"):
            self._problem(by, f'"{_shown(by)}" is no way in.', 'Write "manual" or "event".')
        event = found.get("event")
        if by is not None and by.value == "event" and event is None:
            mend = f'Add "event: {ENTRY_EVENTS[0]}".'
            self._problem(item, "Which event lets people in?", mend)
        if event is not None and event.value not in ENTRY_EVENTS:
            mend = f"There is {', '.join(ENTRY_EVENTS)}."
            self._problem(event, f'"{_shown(event)}" lets nobody in.', mend)
        again = found.get("reentry")
        if again is not None and again.value not in ("never", "ended"):
            mend = 'Write "never" or "ended" (again, once it has ended).'
            self._problem(again, f'"{_shown(again)}" is no rule for coming in again.', mend)
        known = [name for name in NAMES if name.startswith("contact.") or name == "now"]
        where = self._criterion(found.get("where"), known)
        by_event = str(event.value) if event and by and by.value == "event" else None
        return Entry(by_event, where, again is not None and again.value == "ended")

    def _stop(self, item: Item) -> frozenset[str]:
        found = set()
        for part in self._list(item, "stop"):
            if part.value in STOPS:
                found.add(part.value)
                continue
            near = get_close_matches(str(part.value), STOPS, 1, 0.4)
            mend = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(STOPS)}."
            self._problem(part, f'"{_shown(part)}" is nothing that stops.', mend)
        return frozenset(found)

    def _on_reply(self, item: Item) -> OnReply | None:
        found = self._fields(item, ("when", "do"), "A rule for replies", ("when", "do"))
        when = self._criterion(found.get("when"))
        if when is None or "do" not in found:
            return None
        do = found["do"]
        word, _, rest = str(do.value).strip().partition(" ")
        rest = rest.strip()
        place = Item(rest, do.line, do.column + len(str(do.value)) - len(rest))
        if word == "goto" and rest:
            self._targets.append(place)
            return OnReply(when, Do.GOTO, to=rest)
        if word == "pause":
            length = self._duration(place, timedelta()) if rest else None
            return OnReply(when, Do.PAUSE, pause=length)
        if word in ("stop", "continue") and not rest:
            return OnReply(when, Do(word))
        mend = 'Write "stop", "pause", "pause 14d", "goto <step>" or "continue".'
        self._problem(do, f'"{_shown(do)}" can\'t be done.', mend)
        return None

    def _ids(self, items: list[Item]) -> str:
        """Notes the ids of all steps; the first of this list is given back."""
        first = ""
        for item in items:
            found = {name: value for name, _, value in item.entries()}
            name = found.get("id")
            if name is None:
                if isinstance(item.value, tuple):
                    what = "A step needs an id, which stays when the plan changes."
                    self._problem(item, what, 'Add for example "id: hello".')
                continue
            text = str(name.value)
            plain = text.replace("-", "").replace("_", "")
            if not (plain.isascii() and plain.isalnum() and len(text) <= 60):
                mend = "Use letters, digits, - and _, at most 60."
                self._problem(name, f'"{_shown(name)}" can\'t be an id.', mend)
            elif text in self.places:
                line = self.places[text].line
                self._problem(name, f'"{text}" is also the id of line {line}.', "Rename one.")
            else:
                self.places[text] = item
                first = first or text
            repeat = found.get("repeat")
            if repeat is not None:
                for inner, _, value in repeat.entries():
                    if inner == "steps" and isinstance(value.value, list):
                        self._ids(value.value)
        if len(self.places) > MAX_STEPS:
            self._problem(items[0], f"There are more than {MAX_STEPS} steps.", "Split it.")
        return first

    def _body(self, items: list[Item], after: str | None, inside: tuple[str, ...]) -> None:
        ids = [
            next((str(value.value) for name, _, value in item.entries() if name == "id"), None)
            for item in items
        ]
        for place, item in enumerate(items):
            following = ids[place + 1] if place + 1 < len(ids) else after
            self._step(item, ids[place], following, inside)

    def _step(
        self, item: Item, name: str | None, following: str | None, inside: tuple[str, ...]
    ) -> None:
        kinds = [word for word, _, _ in item.entries() if word in KINDS]
        if len(kinds) != 1:
            if not isinstance(item.value, tuple):
                mend = 'Write for example "- {id: hello, send: pump-hello}".'
                self._problem(item, "This is no step.", mend)
                return
            words = [word for word, _, _ in item.entries()]
            near = [found for w in words for found in get_close_matches(w, KINDS, 1, 0.6)]
            mend = f"Give it one of {', '.join(KINDS)}."
            if not kinds and near:
                mend = f'Did you mean "{near[0]}"?'
            said = "A step does one thing." if kinds else "This step does nothing."
            self._problem(item, said, mend)
            return
        kind = kinds[0]
        more = {"send": ("thread",), "task": ("due", "owner")}.get(kind, ())
        then = () if kind in ("branch", "end") else ("then",)
        found = self._fields(item, ("id", kind, *more, *then), f'A step "{kind}"')
        if "then" in found:
            following = self._target(found["then"])
        what = self._what(kind, found, name or "", inside)
        if what is not None and name:
            if isinstance(what, WaitFor) and what.on_timeout == "":
                what = replace(what, on_timeout=following)
            self._steps[name] = Step(name, what, following, inside, item.line)

    def _target(self, item: Item) -> str | None:
        if item.value == "end" and "end" not in self.places:
            return None
        self._targets.append(item)
        return str(item.value)

    def _what(
        self, kind: str, found: dict[str, Item], name: str, inside: tuple[str, ...]
    ) -> What | None:
        item = found[kind]
        if kind == "send":
            thread = found.get("thread")
            if thread is not None and not isinstance(thread.value, bool):
                self._problem(thread, '"thread" is true or false.', 'Write "thread: true".')
            key = self._text(item, "The key of a content item", 200)
            return Send(key, thread is not None and thread.value is True)
        if kind == "wait":
            return self._wait(item)
        if kind == "branch":
            return self._branch(item)
        if kind == "repeat":
            return self._repeat(item, name, inside)
        if kind == "task":
            due = self._duration(found["due"], timedelta()) if "due" in found else None
            owner = self._text(found.get("owner"), "The owner of a task", 254)
            return TaskFor(self._text(item, "The title of a task", 200), due, owner)
        return End()

    def _wait(self, item: Item) -> What | None:
        if not isinstance(item.value, tuple):
            length = self._duration(item, timedelta(1))
            return Wait(length)
        found = self._fields(item, ("for", "where", "timeout", "on_timeout"), "wait", ("for",))
        event = found.get("for")
        if event is None:
            return None
        if event.value not in AWAITED:
            near = get_close_matches(str(event.value), AWAITED, 1, 0.5)
            mend = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(AWAITED)}."
            self._problem(event, f'"{_shown(event)}" can\'t be waited for.', mend)
        if "timeout" not in found:
            what = "A wait for something needs a timeout, or it may never end."
            self._problem(item, what, 'Add for example "timeout: 3d".')
        timeout = self._duration(found.get("timeout"), timedelta(1))
        if not timeout:
            self._problem(found["timeout"], "This is no time at all.", 'Write for example "3d".')
        late = self._target(found["on_timeout"]) if "on_timeout" in found else ""
        where = self._criterion(found.get("where"))
        return WaitFor(str(event.value), where, timeout, late)

    def _branch(self, item: Item) -> What | None:
        cases: list[Case] = []
        for place, part in enumerate(parts := self._list(item, "branch")):
            words = {name for name, _, _ in part.entries()}
            if "else" in words:
                found = self._fields(part, ("else",), "The last case")
                if place + 1 < len(parts):
                    mend = "Put it last."
                    self._problem(part, 'Nothing can come after "else".', mend)
                cases.append(Case(None, self._target(found["else"])))
                continue
            found = self._fields(part, ("when", "then"), "A case", ("when", "then"))
            when = self._criterion(found.get("when"))
            if when is not None and "then" in found:
                cases.append(Case(when, self._target(found["then"])))
        if not parts:
            mend = 'Add "- {when: …, then: …}".'
            self._problem(item, "A branch needs cases.", mend)
        return Branch(tuple(cases))

    def _repeat(self, item: Item, name: str, inside: tuple[str, ...]) -> What | None:
        names = ("times", "every", "until", "steps")
        found = self._fields(item, names, "repeat", ("times", "every", "steps"))
        times = found.get("times")
        count = times.value if times is not None else 1
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_TIMES:
            if times is not None:
                mend = f"Write a whole number from 1 to {MAX_TIMES}."
                self._problem(times, f'"{_shown(times)}" is no number of times.', mend)
            count = 1
        every = self._duration(found.get("every"), timedelta(1))
        until = self._criterion(found.get("until"))
        steps = self._list(found.get("steps"), "steps")
        self._body(steps, name, (*inside, name))
        first = next(
            (str(v.value) for part in steps[:1] for n, _, v in part.entries() if n == "id"), ""
        )
        if not first:
            if not steps and "steps" in found:
                self._problem(found["steps"], "A repeat needs steps.", "Add one at least.")
            return None
        return Repeat(count, every, until, first)


def _shown(item: Item) -> str:
    if isinstance(item.value, tuple | list):
        return "this"
    return str(item.value)[:60]

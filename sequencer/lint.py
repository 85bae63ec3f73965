"""What a plan that can be read may still get wrong: steps that nobody reaches, rounds without end.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sequencer.document import Item, Problem
from sequencer.steps import Plan, Repeat, Step, Wait, WaitFor, edges


def lint(plan: Plan, places: Mapping[str, Item], path: str) -> list[Problem]:
    """Everything that would surprise whoever wrote the plan."""
    reached = _reached(plan)
    problems = [
        _problem(
            path,
            places[step.id],
            f'No way leads to the step "{step.id}".',
            "Lead one there with then, or take it out.",
        )
        for step in plan.steps.values()
        if step.id not in reached
    ]
    for name in _endless(plan):
        what = f'From "{name}" a round leads back to it, and no time passes.'
        mend = "Put a wait into the round, or use repeat."
        problems.append(_problem(path, places[name], what, mend))
    if not any(step.kind == "task" for step in plan.steps.values()):
        for step in plan.steps.values():
            if isinstance(step.what, WaitFor) and step.what.event == "task":
                what = f'"{step.id}" waits for a task, and no step gives one.'
                problems.append(_problem(path, places[step.id], what, 'Add a step "task".'))
    return problems


def _problem(path: str, item: Item, what: str, mend: str) -> Problem:
    return Problem(path, item.line, item.column, what, mend)


def _reached(plan: Plan) -> set[str]:
    waiting = [plan.first, *(rule.to for rule in plan.on_reply if rule.to)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [to for to, _ in edges(plan.steps[name]) if to is not None]
    return reached


def _endless(plan: Plan) -> list[str]:
    """Steps from which one gets back to them without any time passing, one for each round."""
    found: list[str] = []
    done: set[str] = set()
    for start in plan.steps:
        if start in done:
            continue
        path: list[str] = []
        on_path: set[str] = set()
        waiting: list[tuple[str, bool]] = [(start, False)]
        while waiting:
            name, leaving = waiting.pop()
            if leaving:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif name in on_path:
                found.append(name)
            elif name not in done:
                path.append(name)
                on_path.add(name)
                waiting.append((name, True))
                waiting += [(to, False) for to in _at_once(plan.steps[name])]
    return list(dict.fromkeys(found))


def _at_once(step: Step) -> list[str]:
    """Where a step leads without a wait; what waits, if only sometimes, breaks the round."""
    if isinstance(step.what, Wait) and step.what.length > timedelta():
        return []
    if isinstance(step.what, WaitFor):
        return []
    # A repeat counts its rounds, so it ends by itself.
    if isinstance(step.what, Repeat):
        return [step.next] if step.next else []
    return [to for to, _ in edges(step) if to is not None]

"""`waypost read`: replies read and decided on, for other programs (JSON lines) and for people.

With `--stream` one JSON object comes in on each line (`text`, and if known `subject` and `context`)
and one goes out, flushed at once. A line that can't be read gives `{"error": …}`; none ends it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any, Protocol, TextIO

import msgspec

from responder.engine import Decision, decide, why
from responder.facts import Case, Fact, ReadingOf, case_of, facts_of

MAX_LINE = 1 << 20
"""Characters of one line; a reply has some hundreds."""


class ReaderOf(Protocol):
    """What reads a reply."""

    def read(
        self,
        text: str,
        *,
        subject: str = "",
        context: str = "",
        now: datetime | None = None,
        headers_hint: str | None = None,
    ) -> ReadingOf: ...


def run(stdin: TextIO, stdout: TextIO, reader: ReaderOf) -> None:
    """Answers each line of `stdin` with one line until the input ends."""
    if isinstance(stdin, TextIOWrapper):
        stdin.reconfigure(errors="replace")  # What isn't UTF-8 is no reason to stop.
    while line := stdin.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE and not line.endswith("\n"):
            while (rest := stdin.readline(MAX_LINE)) and not rest.endswith("\n"):
                continue
            answer: Mapping[str, Any] = {"error": f"The line is longer than {MAX_LINE} characters."}
        else:
            answer = _answer(line, reader)
        print(json.dumps(answer), file=stdout, flush=True)


def explain(text: str, reader: ReaderOf) -> str:
    """One reply, in words for a person."""
    reading, _, decision = _decided(_clean(text), "", "", reader)
    surest = sorted(reading.intents.items(), key=lambda one: -one[1])[:3]
    lines = [
        "Meanings: " + ", ".join(f"{label} ({value:.2f})" for label, value in surest),
        f"Language: {reading.language}",
    ]
    lines += [f"Names {one.kind}: {one.text}" for one in reading.entities]
    lines += ["", *why(decision)]
    if decision.needs:
        lines.append(f"An answer speaks about: {', '.join(decision.needs)}.")
    return "\n".join(lines)


def _answer(line: str, reader: ReaderOf) -> Mapping[str, Any]:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"error": f"The line is not JSON: {str(error)[:200]}."}
    if not isinstance(asked, dict):
        return {"error": 'The line is not an object. Write {"text": "…"}.'}
    given = {name: asked.get(name) or "" for name in ("text", "subject", "context")}
    if "text" not in asked or not all(isinstance(value, str) for value in given.values()):
        return {"error": "text is missing, or text, subject or context is not a text."}
    try:
        clean = {name: _clean(value) for name, value in given.items()}
        reading, case, decision = _decided(
            clean["text"], clean["subject"], clean["context"], reader
        )
    except Exception as error:  # Whatever it is about this reply, the next one is answered.
        return {"error": f"It could not be read: {type(error).__name__}: {str(error)[:200]}"}
    return {
        "intents": {str(label): value for label, value in reading.intents.items()},
        "top": str(reading.top),
        "abstain": reading.abstain,
        "why_abstain": reading.why_abstain,
        "language": reading.language,
        "entities": msgspec.to_builtins(list(reading.entities)),
        "facts": [_fact(fact) for fact in facts_of(case)],
        "rules": [firing.as_json() for firing in decision.trace],
        "decision": decision.kind,
        "certainty": decision.certainty,
        "needs": list(decision.needs),
        "pause_until": decision.pause_until.isoformat() if decision.pause_until else None,
    }


def _decided(
    text: str, subject: str, context: str, reader: ReaderOf
) -> tuple[ReadingOf, Case, Decision]:
    now = datetime.now(UTC)
    reading = reader.read(text, subject=subject, context=context, now=now)
    case = case_of(reading, text, now=now)
    return reading, case, decide(case)


def _fact(fact: Fact) -> dict[str, Any]:
    return {"fact": fact.template, **fact.symbols, **fact.values}


def _clean(text: str) -> str:
    """Without halves of characters, which JSON can name and nothing can write."""
    return text.encode("utf-8", "replace").decode("utf-8")

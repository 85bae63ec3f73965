"""What docs/shaping.md says of the rules is what the rules say."""

from __future__ import annotations

from pathlib import Path

from mta.retry import ReplyClass, RetrySchedule
from mta.shaping.files import shipped
from mta.shaping.reading import read

PAGE = (Path(__file__).parents[3] / "docs" / "shaping.md").read_text(encoding="utf-8")


def test_the_page_tells_the_rules_of_every_provider() -> None:
    for rule in shipped().providers.values():
        [row] = [line for line in PAGE.splitlines() if line.startswith(f"| {rule.title} `")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == ", ".join(f"`*{suffix}`" for suffix in rule.mx)
        assert cells[2] == f"{rule.first_connections} to {rule.connections}"
        assert cells[3] == str(rule.deliveries_per_connection)
    for reply in shipped().default.replies:
        assert f"| {reply.name}: " in PAGE


def test_the_examples_of_the_page_can_be_read() -> None:
    examples = [part.partition("```")[0] for part in PAGE.split("```toml")[1:]]
    assert len(examples) == 2
    for text in examples:
        rules = read(text, "shaping.toml", shipped())
        assert rules != shipped()


def test_the_page_tells_the_waits() -> None:
    names = {"anything else": ReplyClass.OTHER, "greylisting": ReplyClass.GREYLISTED}
    rows = PAGE.partition("first wait")[2].splitlines()[2:]
    told = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row[:1] == "|"]
    assert len(told) == len(ReplyClass)
    for name, first, longest in told:
        kind = names.get(name) or ReplyClass(name)
        waits = [RetrySchedule().wait(attempts, kind).total_seconds() for attempts in (1, 40)]
        assert waits == [_seconds(first), _seconds(longest)]


def _seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"min": 60, "h": 3600}[unit]

"""The whole appliance, in its own processes, against a small world: every story ends as it should.

`waypost demo --check` compares the end of each scripted person, of every message and decision, with
what it should be (`waypost.demo.expected`); see its table when one of these fails.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "waypost", "demo", "--check", "--folder", str(folder), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=420,
    )
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    log = (folder / "log").read_text(errors="replace") if (folder / "log").exists() else ""
    said = "\n".join([*wrong, done.stdout[-600:], done.stderr[-3000:]])
    assert done.returncode == 0, f"{said}\nlog: {log[-2000:] if done.stderr else ''}"
    return done.stdout


@pytest.mark.timeout(450)
def test_twenty_kills_on_the_way_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    """kill -9 of random roles at random moments, on the embedded default (SQLite)."""
    out = run(tmp_path / "demo", "--kills", "20", "--seed", "7")
    assert "20 processes killed on the way" in out
    assert " 0 wrong" in out


@pytest.mark.timeout(450)
def test_the_story_ends_right_on_postgresql(tmp_path: Path) -> None:
    out = run(tmp_path / "demo", "--postgresql")
    assert " 0 wrong" in out

"""`waypost user set` and `waypost domain set`."""

from __future__ import annotations

from pathlib import Path

import pytest

from waypost.cli import main


def test_answers_as_mail_are_switched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["init", str(tmp_path / "box"), "--domain", "example.test", "--company", "Example Ltd"]
    assert main([*words, "--admin", "ann@example.test"]) == 0
    capsys.readouterr()

    def said(*words: str, code: int = 0) -> str:
        assert main([*words, "--config", str(tmp_path / "box" / "waypost.toml")]) == code
        shown = capsys.readouterr()
        return shown.out + shown.err

    on, off = ("--forward-replies", "yes"), ("--forward-replies", "no")
    assert "ann@example.test gets" in said("user", "set", "Ann@example.test", *on)
    assert "answers as mail" in said("user", "list")
    assert "does not get" in said("user", "set", "ann@example.test", *off)
    assert "No user has" in said("user", "set", "bo@example.test", *on, code=1)
    assert "of example.test go on" in said("domain", "set", "Example.test.", *on)
    assert "There is no domain" in said("domain", "set", "other.test", *on, code=1)

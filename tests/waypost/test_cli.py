"""The command line, called as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from waypost.cli import main, make_parser


def waypost(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "waypost", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def appliance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A fresh appliance; gives its configuration file."""
    assert main(_init(tmp_path / "box")) == 0
    capsys.readouterr()
    return str(tmp_path / "box" / "waypost.toml")


def _init(folder: Path) -> list[str]:
    words = ["init", str(folder), "--domain", "example.test", "--company", "Example Ltd"]
    return [*words, "--admin", "ann@example.test"]


def test_help_reads_well_and_loads_nothing_heavy() -> None:
    code, out, _ = waypost("--help")
    assert code == 0
    for word in ("init", "demo", "queue", "parse", "first steps"):
        assert word in out

    heavy = "import sys, waypost.cli; print({'sqlalchemy', 'litestar'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_command_exists() -> None:
    """Each `module:function` that the parser names can be imported and called."""
    import importlib

    runs = set()

    def collect(parser: object) -> None:
        for action in getattr(parser, "_actions", ()):
            choices = getattr(action, "choices", None)
            if isinstance(choices, dict):
                for child in choices.values():
                    if "run" in child._defaults:
                        runs.add(child._defaults["run"])
                    collect(child)

    collect(make_parser())
    assert len(runs) > 30
    for run in runs:
        module, _, function = run.partition(":")
        assert callable(getattr(importlib.import_module(f"waypost.commands.{module}"), function))


def test_a_group_without_an_action_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue"]) == 2
    assert "flush" in capsys.readouterr().out


def test_init_makes_an_appliance_and_says_what_to_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_init(tmp_path / "box")) == 0
    out = capsys.readouterr().out
    for part in ("v=DKIM1", "v=spf1", "IN MX", "reply.example.test", "/sign-in/", "waypost serve"):
        assert part in out
    assert (tmp_path / "box" / "data" / "keys" / "seal").stat().st_mode & 0o077 == 0

    assert main(_init(tmp_path / "box")) == 2
    assert "is there already" in capsys.readouterr().err


def test_init_refuses_nonsense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = _init(tmp_path / "box")
    words[-1] = "not an address"
    assert main(words) == 2
    assert "not an e-mail address" in capsys.readouterr().err
    words = _init(tmp_path / "box")
    words[3] = "no domain"
    assert main(words) == 2
    assert "not a domain name" in capsys.readouterr().err


def test_config_is_shown_and_checked(
    appliance: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST_STORE__URL", "postgresql://w:swordfish@127.0.0.1/w")
    assert main(["config", "show", "--config", appliance]) == 0
    out = capsys.readouterr().out
    assert "swordfish" not in out
    assert 'name = "waypost.example.test"' in out
    monkeypatch.delenv("WAYPOST_STORE__URL")

    assert main(["config", "check", "--config", appliance]) == 0
    Path(appliance).write_text("[relay]\nprot = 1\n", encoding="utf-8")
    assert main(["config", "check", "--config", appliance]) == 2
    assert '"port"?' in capsys.readouterr().err


def test_people_senders_and_work_are_listed(
    appliance: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str, code: int = 0) -> str:
        assert main([*words, "--config", appliance]) == code
        shown = capsys.readouterr()
        return shown.out + shown.err

    assert "Example Ltd" in said("company", "list")
    assert "Other Ltd is company 2" in said("company", "add", "Other Ltd")
    assert "bo@example.test is rep" in said(
        "user", "add", "bo@example.test", "--company", "Other Ltd"
    )
    assert "bo@example.test" in said("user", "list", "--company", "other ltd")
    assert "No company is called" in said("user", "list", "--company", "None", code=1)
    assert "/sign-in/" in said("user", "link", "bo@example.test")
    made = said("credential", "add", "--company", "Example Ltd", "--login", "app")
    secret = next(line.split()[1] for line in made.splitlines() if line.startswith("secret"))
    listed = said("credential", "list")
    assert "app" in listed
    assert secret not in listed
    assert "no longer works" in said("credential", "revoke", "app")
    assert "No live credential" in said("credential", "revoke", "app", code=1)
    assert "example.test" in said("domain", "list")
    assert "v=DKIM1" in said("domain", "records", "example.test")
    contacts = tmp_path / "people.csv"
    contacts.write_text("email,name\nann@a.example,Ann\nnot an address,Bo\n", encoding="utf-8")
    imported = said("contact", "import", str(contacts), "--company", "Example Ltd", code=1)
    assert "1 added" in imported
    assert "3" in imported  # The line of the row that was refused.
    assert "responder" in said("bus", "status")
    assert "Nothing is on hold" in said("bus", "hold", "list")
    assert said("queue", "list")


def test_a_broken_sequence_file_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("sequence: x\nstpes: []\n", encoding="utf-8")
    assert main(["sequence", "check", str(path)]) == 1
    out = capsys.readouterr().out
    assert f"{path}:2" in out
    assert "steps" in out
    assert main(["sequence", "check", str(tmp_path / "none.yaml")]) == 1
    assert "can't be read" in capsys.readouterr().err


def test_parse_and_read_serve_on_their_own(tmp_path: Path) -> None:
    path = tmp_path / "reply.eml"
    path.write_bytes(
        b"From: Ann <ann@a.example>\r\nTo: bo@b.example\r\nSubject: Re: Hello\r\n\r\n"
        b"Yes, please call me.\r\n\r\nOn Mon, Bo wrote:\r\n> Hello\r\n"
    )
    code, out, _ = waypost("parse", str(path))
    assert code == 0
    assert "reply" in out
    code, out, err = waypost("parse", str(tmp_path / "none.eml"))
    assert code == 1
    assert "can't be read" in err


def test_webhooks_are_set_up_and_changed(
    appliance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> str:
        assert main([*words, "--config", appliance]) == 0
        return capsys.readouterr().out

    url = "https://hooks.example.com/in"
    added = run("webhook", "add", url, "--company", "Example Ltd", "--kind", "click")
    assert "whsec_" in added
    key = added.split()[1]
    assert "whsec_" in run("webhook", "rotate", key)
    run("webhook", "disable", key)
    assert "switched off on the host" in run("webhook", "list")
    run("webhook", "enable", key)
    run("webhook", "replay", key, "--hours", "1")
    run("webhook", "remove", key)
    assert url not in run("webhook", "list")
    assert main(["webhook", "enable", key, "--config", appliance]) != 0

"""The configuration file: read whole, or refused with file, key and remedy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from config.load import load
from config.reference import REFERENCE, as_toml, reference
from mail.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "waypost.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load(write(folder, text), environ or {})
    return error.value.public


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    settings = load(write(tmp_path, ""), {})

    assert settings.relay.give_up_after == timedelta(days=5)
    assert settings.host.data == tmp_path / "data"


def test_the_reference_is_true_and_can_be_read(tmp_path: Path) -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference()
    assert load(write(tmp_path, reference()), {}) == load(write(tmp_path, ""), {})


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    settings = load(write(tmp_path, '[relay]\nsmart_host = "mx.example.test:25"\n'), {})
    assert load(write(tmp_path, as_toml(settings)), {}) == settings


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST_RELAY__PORT", "2525")
    settings = load(write(tmp_path, "[relay]\nport = 26\nconcurrency = 7\n"))
    assert (settings.relay.port, settings.relay.concurrency) == (2525, 7)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[relay]\nsmart_hots = "x"', ["waypost.toml: [relay] smart_hots", '"smart_host"?']),
        ("[rely]\nport = 1", ["[rely] is not a table", '"relay"?']),
        ("[relay]\ngive_up_after = 5", ["[relay] give_up_after has no unit", '"5d"']),
        ('[relay]\ngive_up_after = "5"', ['"5" has no unit', 'The default is "5d"']),
        ("[relay]\nport = 0", ["[relay] port = 0", "greater than or equal to 1"]),
        ('[relay]\nsmart_host = "mx"', ["[relay] smart_host", "has no port", ":587"]),
        ('[host]\nname = "box"', ["[host] name", "not a full host name"]),
        ('[store]\nurl = "mysql://x/y"', ["[store] url", "postgresql://"]),
        ('[smtp]\nmax_message = "25MB"', ["[smtp] max_message", '"25MiB"']),
        ("[relay\nport = 1", ["is not TOML", "line 1"]),
        ("port = 1", ["[port] is not a table"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    message = refused(tmp_path, text)
    for part in parts:
        assert part in message
    assert str(tmp_path) in message


def test_a_mistake_in_the_environment_is_named(tmp_path: Path) -> None:
    assert '"port"?' in refused(tmp_path, "", {"WAYPOST_RELAY__PROT": "1"})
    assert '"relay"?' in refused(tmp_path, "", {"WAYPOST_RELY__PORT": "1"})


def test_two_mistakes_are_both_named(tmp_path: Path) -> None:
    message = refused(tmp_path, "[relay]\nport = 0\nconcurrency = 0\n")
    assert "port" in message
    assert "concurrency" in message


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="waypost init"):
        load(tmp_path / "missing.toml", {})
    path = tmp_path / "waypost.toml"
    path.write_bytes(b"[host]\nname = '\xff'\n")
    with pytest.raises(ConfigError, match=r"waypost.toml:2: is not UTF-8"):
        load(path, {})
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(path, {})


def test_settings_cannot_be_changed_later(tmp_path: Path) -> None:
    settings = load(write(tmp_path, ""), {})
    with pytest.raises(ValueError, match="frozen"):
        settings.relay.port = 26

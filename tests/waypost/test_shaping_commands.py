"""`waypost shaping` on a fresh appliance, against a name server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.dns_server import DnsServer
from waypost.cli import main

Say = Callable[..., str]


@pytest.fixture
def names() -> Iterator[DnsServer]:
    """A name server beside the commands, which have an event loop of their own."""
    google = {"MX": ["10 aspmx.l.google.com.", "20 alt1.aspmx.l.google.com."]}
    server, loop = DnsServer({"firm.test": google}, ttl=600), asyncio.new_event_loop()
    over, ready = asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    yield server
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def box(tmp_path: Path, names: DnsServer, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "box"
    words = ["init", str(folder), "--domain", "acme.test", "--company", "Acme Ltd"]
    assert main([*words, "--host", "mail.acme.test", "--admin", "ann@acme.test"]) == 0
    capsys.readouterr()
    path = folder / "waypost.toml"
    text = path.read_text(encoding="utf-8")
    own = '\n[shaping]\nrules = "shaping.toml"\n'
    path.write_text(f'{text}{own}\n[dns]\nservers = ["{names.address}"]\n', encoding="utf-8")
    (folder / "shaping.toml").write_text("[provider.google]\nconnections = 7\n", encoding="utf-8")
    return folder


@pytest.fixture
def said(box: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    def say(*words: str, code: int = 0) -> str:
        assert main(["shaping", *words, "--config", str(box / "waypost.toml")]) == code
        shown = capsys.readouterr()
        return shown.out + shown.err

    return say


def test_a_person_asks_suspends_and_resumes(said: Say) -> None:
    told = said("explain", "ann@Firm.test")
    assert "firm.test belongs to the site google" in told
    assert "3 to begin with, up to 7" in told
    assert "suspended" not in said("explain", "firm.test")
    assert "Nothing stands out" in said("list")

    said("suspend", "google", "--for", "2h", "--reason", "they asked")
    assert "they asked" in said("explain", "firm.test")
    assert "google" in said("list")

    assert "goes on" in said("resume", "google")
    assert "Nothing stands out" in said("list")


def test_what_is_wrong_is_named_with_its_remedy(said: Say, box: Path) -> None:
    assert 'for example "5d"' in said("suspend", "google", "--for", "soon", code=1)
    assert "within a year" in said("suspend", "google", "--for", "400d", code=1)
    (box / "shaping.toml").write_text("[provider.google]\nconections = 7\n", encoding="utf-8")
    told = said("explain", "firm.test", code=2)
    assert "shaping.toml: [provider.google] conections" in told
    assert 'Did you mean "connections"' in told

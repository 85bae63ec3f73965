"""`waypost domain`, and what `waypost check` says of domains, against a name server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from config.load import load
from mta import accounts
from tests.mta.domains.test_service import other_keys
from tests.peers.dns_server import DnsServer
from waypost import housekeeping, roles
from waypost.cli import main
from waypost.wiring import appliance

Say = Callable[..., str]


@pytest.fixture
def names() -> Iterator[DnsServer]:
    """A name server beside the commands, which have an event loop of their own."""
    server, loop = DnsServer({}, ttl=600), asyncio.new_event_loop()
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
def said(tmp_path: Path, names: DnsServer, capsys: pytest.CaptureFixture[str]) -> Say:
    """Calls a command on a fresh appliance and gives what it said."""
    folder = tmp_path / "box"
    words = ["init", str(folder), "--domain", "acme.test", "--company", "Acme Ltd"]
    assert main([*words, "--host", "mail.acme.test", "--admin", "ann@acme.test"]) == 0
    capsys.readouterr()
    path = folder / "waypost.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f'{text}\n[dns]\nservers = ["{names.address}"]\n', encoding="utf-8")

    def say(*words: str, code: int = 0) -> str:
        assert main([*words, "--config", str(path)]) == code
        shown = capsys.readouterr()
        return shown.out + shown.err

    return say


def publish(names: DnsServer, said: Say) -> None:
    """Enters what `domain records` says, all of it."""
    for record in json.loads(said("domain", "records", "acme.test", "--format", "json"))["domain"]:
        names.zone.setdefault(record["name"], {})[record["type"]] = [record["value"]]
    names.zone["mta-sts.reply.acme.test"] = {"A": ["5.9.1.1"]}
    names.zone["mail.acme.test"] = {"A": ["5.9.1.1"]}
    names.zone["1.1.9.5.in-addr.arpa"] = {"PTR": ["mail.acme.test"]}


def test_records_are_shown_and_checked(said: Say, names: DnsServer) -> None:
    zone = said("domain", "records", "acme.test", "--format", "zone")
    assert '(\n    "v=DKIM1; k=rsa; p=' in zone
    assert "reply.acme.test. 3600 IN MX 10 mail.acme.test." in zone
    out = said("domain", "check", "acme.test", code=1)
    assert "acme.test: not ready yet" in out
    assert "There is no MX record at reply.acme.test." in out
    assert "expected: 10 mail.acme.test" in out
    assert "not ready" not in said("domain", "list")
    assert "WRONG" in said("domain", "list")

    publish(names, said)
    out = said("domain", "check")
    assert "acme.test: ready" in out
    assert "WRONG" not in out
    found = json.loads(said("domain", "check", "acme.test", "--json"))
    assert found["domains"][0]["ready"]
    assert {one["code"] for one in found["domains"][0]["findings"]} == {"good"}
    assert "right  MX reply.acme.test" in said("check", code=1)  # Nobody can submit mail yet.

    names.zone["reply.acme.test"]["MX"] = ["10 elsewhere.test"]
    out = said("check", code=1)
    assert "WRONG  MX reply.acme.test" in out
    assert "may remember the old answer for 10 minutes" in out
    assert "reply.acme.test was right before" in out
    names.failing.add("_dmarc.acme.test")
    out = said("domain", "check", "acme.test", code=1)
    assert "not sure        TXT _dmarc.acme.test" in out
    assert "No company sends from x.test" in said("domain", "check", "x.test", code=1)


def test_keys_are_rotated_by_calling_twice(
    said: Say, names: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(names, said)
    monkeypatch.setattr(accounts, "fresh_keys", other_keys)
    out = said("domain", "rotate", "acme.test")
    assert "New keys are made" in out
    assert out.count("; next: The next key.") == 2
    out = said("domain", "rotate", "acme.test", code=1)
    assert "still signed with the old ones" in out
    assert "are dropped" in said("domain", "rotate", "acme.test", "--cancel")
    assert "No new keys wait" in said("domain", "rotate", "acme.test", "--cancel")
    said("domain", "rotate", "acme.test")
    publish(names, said)
    out = said("domain", "rotate", "acme.test", "--keep", "3")
    assert "signed with them from now on" in out
    assert "for 3 days" in out
    assert said("domain", "records", "acme.test").count("; keep: The key before.") == 2
    assert "0 to 365" in said("domain", "rotate", "acme.test", "--keep", "900", code=1)


def test_a_domain_is_removed_when_asked_twice(said: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda question: "something else")
    assert "Nothing was changed" in said("domain", "remove", "acme.test", code=1)
    assert "acme.test" in said("domain", "list")
    assert "is removed" in said("domain", "remove", "acme.test", "--yes")
    assert "No domain yet" in said("domain", "list")
    out = said("domain", "add", "acme.test", "--company", "Acme Ltd")
    assert "_dmarc.acme.test. 3600 IN TXT" in out


def test_the_nightly_look_is_planned_and_keeps_what_it_finds(
    said: Say, names: DnsServer, tmp_path: Path
) -> None:
    settings = load(tmp_path / "box" / "waypost.toml")
    publish(names, said)

    async def night() -> list[str]:
        async with appliance(settings) as parts:
            scheduler = AsyncIOScheduler(timezone="UTC")
            roles._housekeeping(scheduler, parts)
            jobs = {job.func: job for job in scheduler.get_jobs()}
            job = jobs[housekeeping.check_domains]
            await job.func(*job.args)
            return [str(job.trigger)]

    (trigger,) = asyncio.run(night())
    assert "hour='3'" in trigger
    assert "right" in said("domain", "list")

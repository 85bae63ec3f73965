"""`waypost queue`, called as the operator calls it."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from config.load import load
from mta import traces
from mta.outcome import Outcome
from mta.retry import State
from mta.submission import Order, submit
from storage.sessions import EVERY_COMPANY
from storage.tables import Audit, Company
from waypost.cli import main
from waypost.wiring import appliance, now


@pytest.fixture
def box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """An appliance with three messages to one domain and one to another."""
    words = ["init", str(tmp_path / "box"), "--domain", "example.test"]
    assert main([*words, "--company", "Example Ltd", "--admin", "ann@example.test"]) == 0
    path = tmp_path / "box" / "waypost.toml"

    async def fill() -> None:
        async with appliance(load(path)) as parts:
            async with parts.sessions.read(EVERY_COMPANY) as session:
                (company,) = await session.scalars(select(Company.id))
            async with parts.sessions.begin(company) as session:
                for key, name in enumerate(("a@x.test", "b@x.test", "c@x.test", "d@y.test")):
                    order = Order(
                        key=str(key), kind="mail", sender="ann@example.test", sender_name="Ann",
                        recipient=name,
                        recipient_name="", subject="Hello", text="Hello",
                        campaign=f"to {name[-6:]}",
                    )  # fmt: skip
                    await submit(session, order, now=now())

    asyncio.run(fill())
    capsys.readouterr()
    return str(path)


def test_the_queue_is_seen_changed_and_stopped(
    box: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str, code: int = 0) -> str:
        assert main(["queue", *words, "--config", box]) == code
        done = capsys.readouterr()
        return done.out + done.err

    listed = said("list")
    assert listed.splitlines()[1].split()[:2] == ["x.test", "3"]
    assert max(map(len, listed.splitlines())) <= 80
    assert json.loads(said("list", "--json"))[1]["destination"] == "y.test"
    rows = json.loads(said("list", "--destination", "y.test", "--json"))
    assert [row["recipient"] for row in rows] == ["d@y.test"]
    assert max(map(len, said("list", "--messages").splitlines())) <= 80

    assert said("hold", "--destination", "x.test", "--dry-run") == "3 messages would be held.\n"
    assert "3 messages held" in said("hold", "--destination", "x.test", "--reason", "typo")
    (first, *_) = json.loads(said("list", "--state", "held", "--messages", "--json"))
    assert "held until somebody releases it (typo)" in said("show", first["id"])
    assert json.loads(said("show", first["id"], "--json"))["attempts_made"] == []
    assert "no delivery" in said("show", "0" * 32, code=1)
    assert "not the id" in said("show", "nonsense", code=1)

    assert "Say --yes" in said("bounce", "--state", "held", code=1)
    assert "the whole queue, 4 messages" in said("bounce", code=1)
    given_up = said("bounce", "--id", first["id"], "--yes", "--quiet")
    assert "1 messages given up without a report" in given_up
    assert json.loads(said("release", "--campaign", "to x.test", "--json"))["changed"] == 2

    assert "has no unit" in said("suspend", "domain", "y.test", "--for", "2", code=1)
    assert "Suspended until" in said("suspend", "domain", "y.test", "--for", "2h", "--reason", "z")
    assert "y.test" in said("suspended")
    assert "suspended until" in said("show", rows[0]["id"])
    assert "It goes on" in said("resume", "domain", "y.test")
    assert "not suspended" in said("resume", "domain", "y.test", code=1)

    async def audited() -> list[str]:
        async with (
            appliance(load(Path(box))) as parts,
            parts.sessions.read(EVERY_COMPANY) as session,
        ):
            return [row.action for row in await session.scalars(select(Audit).order_by(Audit.at))]

    assert asyncio.run(audited()) == ["queue hold", "queue drop", "queue release"]


def test_a_trace_says_clearly_when_nobody_tries(
    box: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        assert main(["queue", *words, "--config", box]) == 1
        done = capsys.readouterr()
        return done.out + done.err

    main(["queue", "list", "--messages", "--json", "--config", box])
    (first, *_) = json.loads(capsys.readouterr().out)
    nobody = said("trace", first["id"], "--wait", "1s")
    assert "Nothing was said: nobody tried in time." in nobody
    assert "It is due" in nobody
    assert "`waypost serve`" in nobody
    assert json.loads(said("trace", first["id"], "--wait", "1s", "--json"))["lines"] == []
    assert "no delivery" in said("trace", "0" * 32)
    assert "has no unit" in said("trace", first["id"], "--wait", "5")
    assert "an hour" in said("trace", first["id"], "--wait", "5h")


def test_a_trace_is_printed_as_it_comes(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["queue", "list", "--messages", "--json", "--config", box])
    (first, *_) = json.loads(capsys.readouterr().out)

    async def serve() -> None:
        """What a mail process does when it makes the attempt."""
        async with appliance(load(Path(box))) as parts:
            wanted = traces.Traces(parts.sessions, now)
            for _ in range(100):
                await asyncio.sleep(0.1)
                async with parts.sessions.read(EVERY_COMPANY) as session:
                    await wanted.look(session)
                if record := await wanted.begin(UUID(first["id"])):
                    record("us", "EHLO box")
                    await asyncio.sleep(0.5)
                    record("them", "250 hello")
                    await record.end(Outcome(State.DELIVERED, 250, "taken"), now=now())
                    return

    server = threading.Thread(target=asyncio.run, args=(serve(),))
    server.start()
    try:
        assert main(["queue", "trace", first["id"], "--wait", "10s", "--config", box]) == 0
    finally:
        server.join()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("> EHLO box")
    assert lines[3].endswith("< 250 hello")
    assert lines[-1] == "It came to: delivered: 250 taken"


def test_mail_is_sent_elsewhere_and_back(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str, code: int = 0) -> str:
        assert main(["queue", *words, "--config", box]) == code
        done = capsys.readouterr()
        return done.out + done.err

    assert "Nothing is sent elsewhere" in said("rerouted")
    assert "port 2525" in said("reroute", "x.test", "relay.test:2525", "--for", "2h")
    said("reroute", "x.test", "[::1]:26", "--for", "1h", "--company", "Example Ltd")
    shown = json.loads(said("rerouted", "--json"))
    assert [(r["host"], r["port"]) for r in shown] == [("relay.test", 2525), ("::1", 26)]
    assert "relay.test:2525" in said("rerouted")
    assert "between 1 and 65535" in said("reroute", "x.test", "a:0", "--for", "2h", code=1)
    assert "no unit" in said("reroute", "x.test", "a", "--for", "2", code=1)
    (first, *_) = json.loads(said("list", "--destination", "x.test", "--json"))
    shown_one = said("show", first["id"])
    assert "sent to ::1, port 26" in shown_one
    assert "relay.test" not in shown_one
    assert "its own way" in said("unroute", "x.test")
    assert "not sent elsewhere" in said("unroute", "x.test", code=1)
    assert len(json.loads(said("rerouted", "--json"))) == 1

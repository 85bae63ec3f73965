"""docs/api.md does what it says: its examples are run, by a shell and curl, as they stand there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from monitor.webhooks.signature import new_secret, signed
from storage.sessions import Sessions
from tests.console.scene import NOW, Scene, app_of, play

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


def blocks(language: str) -> list[str]:
    """The examples in this language."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


async def shell(script: str, **values: str) -> list[dict[str, Any]]:
    """The JSON documents that a script prints."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-ec",
        script,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*", **values},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    found, text = [], said.decode()
    while text.strip():
        one, end = json.JSONDecoder().raw_decode(text.lstrip())
        found.append(one)
        text = text.lstrip()[end:]
    return found


async def test_the_examples_work(store: Sessions, tmp_path: Path) -> None:
    assert shutil.which("curl"), "curl is needed, as for people who try the examples"
    scene: Scene = await play(store, "ourfirm")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        config = uvicorn.Config(app_of(store, tmp_path), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[found]))
        url = f"http://127.0.0.1:{found.getsockname()[1]}"
        values = {"URL": url, "TOKEN": scene.token}
        try:
            sending, lines, asking, taking, fetching, telling = blocks("sh")
            (first,) = await shell(sending, **values)
            assert first.keys() == json.loads(blocks("json")[0]).keys()
            assert [one["index"] for one in first["accepted"]] == [0]
            assert await shell(sending, **values) == [first]
            (planned,) = await shell(lines, **values)
            assert len(planned["accepted"]) == 2
            values |= {"MESSAGE": first["accepted"][0]["id"], "BATCH": first["batch"]}
            page, message, batch = await shell(asking, **values)
            assert [one["id"] for one in page["messages"]] == [message["id"]]
            assert (message["state"], batch["state"]) == ("queued", "complete")
            one, campaign = await shell(taking, **values)
            assert (one["state"], campaign["cancelled"]) == ("skipped", 0)
            (events,) = await shell(fetching, **values)
            assert {event["type"] for event in events["events"]} == {"message.queued"}
            (webhook,) = await shell(telling, **values)
            assert webhook["secret"].startswith("whsec_")
        finally:
            server.should_exit = True
            await serving


def test_the_check_of_a_signature_works(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    exec(blocks("python")[0], made)
    monkeypatch.setattr("time.time", NOW.timestamp)
    secret = new_secret()
    headers = signed("msg_1", NOW, b"{}", [new_secret(), secret])
    assert made["is_genuine"](headers, b"{}", secret)
    assert not made["is_genuine"](headers, b"[]", secret)

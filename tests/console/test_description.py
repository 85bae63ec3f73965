"""The API does what its description says, tried with requests that are made from it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from console.api.calls import CALLS
from console.api.description import DESCRIPTION
from storage.engine import database_url, make_engine
from storage.sessions import Sessions
from storage.tables import Base
from tests.console.scene import Scene, app_of, play

EXAMPLES = 8
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
GOOD = {
    "sender": "owner@ourfirm.example",
    "subject": "Hello",
    "text": "Hello",
    "html": "",
    "user": "owner@ourfirm.example",
    "url": "https://hooks.example.com/in",
    "not_before": None,
    "expires": None,
    "after": "0-0",
    "recipients": [{"address": "pat@customers.test", "values": {"order": [1, None, "x"]}}],
    "address": "kim@customers.test",
}
"""What can't be guessed."""

OPERATIONS = [
    (method.upper(), path) for path, calls in DESCRIPTION["paths"].items() for method in calls
]
OPERATIONS.sort(key=lambda operation: operation[0] == "DELETE")


@dataclass
class Api:
    """The API of a company, described by itself."""

    schema: Any
    headers: dict[str, str]
    scene: Scene


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """One store for all: what one call leaves is what the next finds."""
    folder: Path = tmp_path_factory.mktemp("api")

    async def prepare() -> Scene:
        engine = make_engine(database_url("", folder))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        scene = await play(Sessions(engine), "ourfirm")
        await engine.dispose()
        return scene

    scene = asyncio.run(prepare())
    engine = make_engine(database_url("", folder))  # Opened by the loop that serves the calls.
    app = app_of(Sessions(engine), folder)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    return Api(schema, {"Authorization": f"Bearer {scene.token}"}, scene)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_calls_do_what_the_description_says(
    api: Api, method: str, path: str, mode: GenerationMode
) -> None:
    operation = api.schema[path][method]
    scene = api.scene
    known = {"messages": scene.sent, "batches": scene.batch, "drafts": scene.draft}
    known["webhooks"] = scene.webhook
    ours = known.get(path.split("/")[3] if path.startswith("/api/v1/") else "")
    seen: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        if seen.total() % 2 == 0:  # Else nothing would ever be found, and nobody be sent to.
            if "{id}" in path:
                case.path_parameters["id"] = str(ours)
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
                case.body |= {name: GOOD[name] for name in GOOD if name in case.body}
        response = case.call(headers=api.headers)
        seen[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    try:
        run()
    except Exception as error:  # What can't be wrong has no negative cases.
        if mode is GenerationMode.NEGATIVE and "Unsatisfiable" in type(error).__name__:
            return
        raise
    if mode is GenerationMode.POSITIVE:
        assert seen.keys().isdisjoint({401, 403})
        assert any(200 <= status < 300 for status in seen), seen


def test_every_call_is_described_with_words_answers_and_errors() -> None:
    described = set(OPERATIONS)
    assert described == {(str(m.value), path.replace(":str", "")) for m, path, _ in CALLS}
    for path, calls in DESCRIPTION["paths"].items():
        for call in calls.values():
            assert call["summary"].endswith("."), path
            assert {"400", "500"} <= set(call["responses"]), path
            if "security" not in call:
                assert {"401", "403"} <= set(call["responses"]), path

"""The console as a web application: every route in one table."""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from litestar import HttpMethod, Litestar, Request, Response
from litestar.exceptions import ClientException
from litestar.handlers import HTTPRouteHandler
from litestar.types import Message as AsgiMessage
from litestar.types import Scope

from config.settings import Settings
from console import api
from console.desk import FOLDER, Answer, Call, Desk, missing
from console.pages import (
    company,
    domains,
    files,
    follow_up,
    inbox,
    leads,
    messages,
    numbers,
    people,
    queue,
    queue_trace,
    reference,
    sign_in,
    suppressions,
    today,
    webhooks,
    work,
)
from mail.tokens import TokenKeys
from mta.resolver import Resolver
from storage.sealing import Seal
from storage.sessions import Sessions

MAX_BODY_BYTES = 16 << 20
"""A batch of 10,000 recipients with merge fields fits."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

PAGES: tuple[tuple[HttpMethod, str, Answer], ...] = (
    (HttpMethod.GET, "/sign-in", sign_in.show),
    (HttpMethod.POST, "/sign-in", sign_in.enter),
    (HttpMethod.GET, "/sign-in/{secret:str}", sign_in.show_link),
    (HttpMethod.POST, "/sign-in/{secret:str}", sign_in.use_link),
    (HttpMethod.POST, "/sign-out", sign_in.leave),
    (HttpMethod.GET, "/", today.show),
    (HttpMethod.GET, "/inbox", inbox.show),
    (HttpMethod.GET, "/inbox/{id:str}", inbox.show_one),
    (HttpMethod.GET, "/review", inbox.review),
    (HttpMethod.POST, "/drafts/{id:str}/approve", inbox.approve),
    (HttpMethod.POST, "/drafts/{id:str}/edit", inbox.edit),
    (HttpMethod.POST, "/drafts/{id:str}/reject", inbox.reject),
    (HttpMethod.GET, "/messages", messages.show),
    (HttpMethod.GET, "/messages/{id:str}", messages.show_one),
    (HttpMethod.GET, "/follow-up", follow_up.show),
    (HttpMethod.GET, "/follow-up/{name:str}", follow_up.show_one),
    (HttpMethod.POST, "/follow-up/{name:str}/switch", follow_up.switch),
    (HttpMethod.GET, "/follow-up/people/{id:str}", follow_up.explain),
    (HttpMethod.GET, "/leads", leads.show),
    (HttpMethod.GET, "/leads/clusters/{id:str}", leads.show_cluster),
    (HttpMethod.GET, "/metrics", numbers.show),
    (HttpMethod.GET, "/queue", queue.show),
    (HttpMethod.POST, "/queue", queue.act),
    (HttpMethod.GET, "/queue/messages/{id:str}", queue.show_one),
    (HttpMethod.POST, "/queue/messages/{id:str}/trace", queue_trace.ask),
    (HttpMethod.GET, "/tracker", work.show),
    (HttpMethod.POST, "/tracker", work.add),
    (HttpMethod.POST, "/tracker/tasks/{id:str}/done", work.finish),
    (HttpMethod.GET, "/content", company.content),
    (HttpMethod.GET, "/files", files.show),
    (HttpMethod.POST, "/files", files.add),
    (HttpMethod.GET, "/domains", domains.show),
    (HttpMethod.POST, "/domains", domains.add),
    (HttpMethod.GET, "/domains/{id:str}", domains.show_one),
    (HttpMethod.GET, "/domains/{id:str}/zone", domains.zone),
    (HttpMethod.POST, "/domains/{id:str}/check", domains.check),
    (HttpMethod.POST, "/domains/{id:str}/rotate", domains.rotate),
    (HttpMethod.POST, "/domains/{id:str}/remove", domains.remove),
    (HttpMethod.GET, "/suppressions", suppressions.show),
    (HttpMethod.POST, "/suppressions", suppressions.add),
    (HttpMethod.POST, "/suppressions/remove", suppressions.remove),
    (HttpMethod.GET, "/people", company.people),
    (HttpMethod.GET, "/webhooks", webhooks.show),
    (HttpMethod.POST, "/webhooks", webhooks.act),
    (HttpMethod.GET, "/api", reference.show),
    (HttpMethod.POST, "/people", people.forward),
)

FOREIGN = {"cross-site", "same-site"}
"""What browsers write on requests that another site's page made (Fetch Metadata)."""

STATIC = ("style.css", "console.js", "icon.svg")


def make_app(
    *,
    sessions: Sessions,
    settings: Settings,
    keys: TokenKeys,
    seal: Seal,
    clock: Callable[[], datetime],
    resolver: Resolver | None = None,
) -> Litestar:
    """The pages and `/api/v1`."""
    desk = Desk(sessions, settings, keys, seal, clock, resolver)
    headers = dict(HEADERS)
    if desk.secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"

    def problem(call: Call, error: Exception) -> Response[Any]:
        answer = api.problem if call.url.path.startswith("/api/") else desk.problem
        return answer(call, error)

    return Litestar(
        [
            *(_handler(method, path, desk, answer) for method, path, answer in PAGES),
            *(_handler(method, path, desk, answer) for method, path, answer in api.CALLS),
            _handler(HttpMethod.GET, "/static/{name:str}", desk, static),
        ],
        exception_handlers={Exception: problem},
        before_send=[_with_headers(headers)],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


async def static(desk: Desk, call: Call) -> Response[Any]:
    """The stylesheet, the script and the icon."""
    name = str(call.path_params["name"])
    if name not in STATIC:
        raise missing()
    return Response(
        (FOLDER / "static" / name).read_bytes(),
        media_type=mimetypes.guess_type(name)[0] or "text/plain",
        headers={"Cache-Control": "public, max-age=300"},
    )


def _handler(method: HttpMethod, path: str, desk: Desk, answer: Answer) -> HTTPRouteHandler:
    async def handle(request: Request[Any, Any, Any]) -> Response[Any]:
        if "%00" in request.url.query or "\0" in request.url.path:
            raise ClientException  # No text of ours has NUL, and PostgreSQL refuses to look for it.
        if method is HttpMethod.POST and request.headers.get("sec-fetch-site") in FOREIGN:
            raise ClientException  # Signing in has no session yet whose token could tell.
        return await answer(desk, request)

    return HTTPRouteHandler(  # The status is only what is taken if an answer has none.
        path, http_method=[method], name=f"{method} {path}", status_code=200
    )(handle)


def _with_headers(extra: dict[str, str]) -> Callable[[AsgiMessage, Scope], Awaitable[None]]:
    pairs = [(name.lower().encode(), value.encode()) for name, value in extra.items()]

    async def before_send(message: AsgiMessage, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            more = [pair for pair in pairs if pair[0] not in present]
            message["headers"] = [*message["headers"], *more]

    return before_send

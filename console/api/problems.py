"""Errors that a program can read and a person can mend (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from litestar import MediaType, Response

from console.desk import Call
from mail.errors import PermanentError, TemporaryError

log = structlog.get_logger()


class ApiError(Exception):
    """A refusal: status, what is wrong, and where (a JSON pointer) and how to mend it.

    `more` are members of the answer beyond those of RFC 9457 §3.1: a list of `errors`, a `state`.
    """

    def __init__(
        self, status: int, title: str, detail: str = "", pointer: str = "", **more: Any
    ) -> None:
        super().__init__(title)
        self.status, self.title, self.detail, self.pointer = status, title, detail, pointer
        self.more = more


_TITLES = {
    400: ("The request can't be read", "Send JSON as the API's description says."),
    404: ("There is no such thing", "It may belong to another company."),
    405: ("This method is not allowed here", "See /api/v1/openapi.json."),
    413: ("The request is too large", "Send it in several parts."),
    500: ("Something went wrong here", "Try again in a moment with the same Idempotency-Key."),
}


def problem(call: Call, error: Exception) -> Response[Any]:
    """The one place where an error becomes an answer of the API."""
    pointer = ""
    headers = {}
    more: dict[str, Any] = {}
    if isinstance(error, ApiError):
        status, title, detail = error.status, error.title, error.detail
        pointer, more = error.pointer, error.more
    elif isinstance(error, PermanentError):
        status, title, detail = 422, "This can't be done", error.public
    elif isinstance(error, TemporaryError):
        status, title, detail = 503, "Not now", error.public
    else:
        status = getattr(error, "status_code", getattr(error, "status", 500))
        title, detail = _TITLES.get(status, _TITLES[500])
        if status >= 500:
            log.error("api.failed", path=call.url.path, cause=repr(error)[:500])
    if status == 503:
        headers["Retry-After"] = "60"
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="waypost"'
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if pointer:
        body["pointer"] = pointer
    body |= more
    return Response(
        body, status_code=status, media_type="application/problem+json", headers=headers
    )


def json_answer(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[Any]:
    """A JSON answer."""
    return Response(
        body, status_code=status, media_type=MediaType.JSON, headers=dict(headers or {})
    )

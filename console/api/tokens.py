"""Who calls the API, and what their token is good for."""

from __future__ import annotations

from console.api.problems import ApiError
from console.desk import Call, Desk
from mta.accounts import check_api, may_do
from storage.tables import Credential


async def credential_for(desk: Desk, call: Call, scope: str) -> Credential:
    """The token that came with a call. Raises `ApiError` if it is none, or not for this."""
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    found = await check_api(desk.sessions, token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise ApiError(
            401, "Who are you?", "Send `Authorization: Bearer TOKEN`; `waypost credential add`."
        )
    if not may_do(found, scope):
        raise ApiError(
            403,
            f"This token is not for this: it lacks the scope {scope}",
            f"It has: {found.scopes}. Make another with `waypost credential add --scope {scope}`.",
        )
    return found

"""/metrics: what all processes measured, for Prometheus. Open to the networks of `[metrics]`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from litestar import Response

from console.desk import Call, Desk, missing
from mta import exposition, metrics, queue_samples
from storage.sessions import EVERY_COMPANY


async def show(desk: Desk, call: Call) -> Response[Any]:
    """The numbers in Prometheus' text format. Raises `PageError` for who may not see them."""
    settings = desk.settings.metrics
    client = call.client.host if call.client else ""
    if not settings.on or not settings.admits(client):
        raise missing()
    folder = exposition.folder_of(desk.settings.host.data)
    snapshots = await asyncio.to_thread(exposition.read, folder, now=time.time())
    async with desk.sessions.read(EVERY_COMPANY) as session:
        depths = await queue_samples.depths(session, now=desk.clock())
    text = exposition.page(metrics.INSTRUMENTS, snapshots, depths)
    return Response(text, media_type=exposition.CONTENT_TYPE)

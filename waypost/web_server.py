"""uvicorn in a loop and with signals that are ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import uvicorn
from litestar import Litestar


class WebServer(uvicorn.Server):
    """Serves one app until `should_exit`; signals are the role's business."""

    def __init__(self, app: Litestar, listen: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=listen,
                port=port,
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=True,
                proxy_headers=True,
                lifespan="on",
                timeout_keep_alive=15,
                h11_max_incomplete_event_size=64 << 10,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signal handlers alone."""
        yield

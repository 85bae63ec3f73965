"""A real Dovecot on a free loopback port, with one user and a maildir, for tests of IMAP."""

from __future__ import annotations

import asyncio
import getpass
import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mail.ids import uuid7

BINARY = shutil.which("dovecot") or "/usr/sbin/dovecot"

_CONFIG = """
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
default_internal_user = {internal}
default_internal_group = {group}
default_login_user = {login}
mail_location = maildir:{home}/mail
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {home}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


@dataclass
class Dovecot:
    """One server with one mailbox."""

    home: Path
    port: int
    owner: tuple[int, int]
    process: subprocess.Popen[bytes] | None = None
    login: str = "box"
    password: str = "secret word"

    def deliver(self, raw: bytes) -> None:
        """Puts a message into the maildir as a local delivery agent does (tmp, then new)."""
        name = f"{uuid7()}.test"
        for folder in ("mail", "mail/tmp", "mail/new", "mail/cur"):
            (self.home / folder).mkdir(exist_ok=True)
            os.chown(self.home / folder, *self.owner)
        fresh = self.home / "mail/tmp" / name
        fresh.write_bytes(raw)
        os.chown(fresh, *self.owner)
        fresh.rename(self.home / "mail/new" / name)

    async def renumber(self) -> None:
        """Makes the server give all messages new numbers under a new UIDVALIDITY."""
        await self.stop()
        for own in self.home.glob("mail/dovecot*"):
            own.unlink()
        await asyncio.sleep(1.1)  # The new one is the time in seconds.
        await self.start()

    async def start(self) -> None:
        """Returns when it takes connections."""
        self.process = self._launch()
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.05)
        raise RuntimeError((self.home / "log").read_text())

    def _launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([BINARY, "-F", "-c", str(self.home / "dovecot.conf")])

    async def stop(self) -> None:
        """Ends the server and all its connections."""
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 10)
            self.process = None


@asynccontextmanager
async def dovecot() -> AsyncIterator[Dovecot]:
    """A running server; gone afterwards."""
    # A short path that its unprivileged processes can reach: sockets have at most 108 characters.
    home = Path(tempfile.mkdtemp(prefix="dovecot-", dir="/tmp"))
    home.chmod(0o755)
    root = os.geteuid() == 0
    me = getpass.getuser()
    owner = pwd.getpwnam("nobody" if root else me)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Dovecot(home, port, (owner.pw_uid, owner.pw_gid))
    (home / "users").write_text(f"{server.login}:{{PLAIN}}{server.password}\n")
    (home / "dovecot.conf").write_text(
        _CONFIG.format(
            home=home,
            port=port,
            internal="dovecot" if root else me,
            login="dovenull" if root else me,
            group="dovecot" if root else grp.getgrgid(owner.pw_gid).gr_name,
            uid=owner.pw_uid,
            gid=owner.pw_gid,
        )
    )
    (home / "mail").mkdir()
    os.chown(home / "mail", *server.owner)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(home, ignore_errors=True)

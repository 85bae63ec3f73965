"""Starts the mail role as a relay for the bench: no password from the loopback, one next hop.

python benchmarks/relay_appliance.py --listen 127.0.0.1:2525 --next-hop 127.0.0.1:2526 \\
    --dir /var/tmp/bench [--key rsa.pem] [--processes 2]

A fresh store and spool are made in the folder. Everything is on: durable before 250, contacts,
messages and events in the store, the last gate, personal return paths, RSA and Ed25519 signatures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

from config.load import load
from mail.ids import uuid7
from mta.accounts import add_domain
from storage.sessions import EVERY_COMPANY
from storage.tables import Company, Credential
from waypost.supervisor import Supervisor
from waypost.wiring import appliance

LOGIN = "bench"


def main() -> None:
    """Makes the folder ready, then runs the mail processes until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--next-hop", required=True)
    parser.add_argument("--dir", required=True, type=Path)
    parser.add_argument("--key", type=Path, help="the RSA key, PEM; made afresh without it")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--connections", type=int, default=10, help="to the next hop, per process")
    parser.add_argument("--domain", default="bench.example")
    chosen = parser.parse_args()
    folder = chosen.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "waypost.toml"
    host, _, port = chosen.listen.rpartition(":")
    config.write_text(
        f"""
[host]
name = "mail.{chosen.domain}"
data = "{folder}/data"
[smtp]
listen = "{host}"
mx_port = 0
submission_port = {port}
submissions_port = 0
trusted = ["127.0.0.0/8 {LOGIN}"]
[relay]
smart_host = "{chosen.next_hop}"
loopback = true
tls = "never"
connections_per_site = {chosen.connections}
[engine]
mail_processes = {chosen.processes}
[log]
level = "warning"
"""
    )
    asyncio.run(_prepare(config, chosen.domain, chosen.key))
    roles = [f"mail-{number}" for number in range(1, chosen.processes + 1)]

    async def run() -> None:
        supervisor = Supervisor(config, roles)
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, supervisor.stop)
        await supervisor.run()

    asyncio.run(run())


async def _prepare(config: Path, domain: str, key: Path | None) -> None:
    now = datetime.now(UTC)
    async with appliance(load(config), migrated=False) as parts:
        company = Company(
            id=uuid7(), number=1, name="Bench", postal_address="1 Bench St", created_at=now
        )
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            session.add(company)
        async with parts.sessions.begin(company.id) as session:
            made = await add_domain(session, parts.seal, domain, now=now)
            if key is not None:
                made.rsa_key, made.rsa_selector = parts.seal.seal(key.read_text()), "s1"
            session.add(Credential(kind="smtp", login=LOGIN, secret_hash="!", created_at=now))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()

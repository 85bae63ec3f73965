"""Sets the demo's stage: a folder with settings, keys and store, the company and its people."""

from __future__ import annotations

import csv
import io
import socket
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from pathlib import Path
from uuid import UUID

from sqlalchemy import select

from config.load import load
from config.settings import Settings
from console import access
from content import files, library
from leads import intake
from mta import accounts
from sequencer import service as sequencer
from storage.sessions import EVERY_COMPANY
from storage.tables import Contact, Domain, User
from waypost.demo import cast
from waypost.demo.names import Zone
from waypost.demo.post import Login, Ports
from waypost.demo.world import Person
from waypost.wiring import Appliance, appliance

OWNER = f"you@{cast.DOMAIN}"
SEQUENCE = "heat-pump-intro"

SETTINGS = """\
# The demo. Everything listens on the loopback address; nothing leaves this machine.
[host]
name = "{host}"
data = "data"

[store]
url = "{database}"

[smtp]
listen = "127.0.0.1"
mx_port = {ports.mx}
submission_port = {ports.submission}
submissions_port = 0

[relay]
port = {world_port}
loopback = true
first_retry = "1s"
longest_retry = "5s"
connections_per_site = 8

[dns]
servers = ["127.0.0.1:{dns_port}"]

[public]
listen = "127.0.0.1"
port = {ports.public}
url = "http://127.0.0.1:{ports.public}"

[console]
listen = "127.0.0.1"
port = {ports.console}
url = "http://127.0.0.1:{ports.console}"

[engine]
tick = "1s"
speed = {speed}

[log]
format = "json"
level = "info"
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the play needs to know of the appliance."""

    config: Path
    settings: Settings
    company: UUID
    logins: dict[str, Login]
    api_token: str
    sign_in_url: str


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def write_settings(
    folder: Path, *, ports: Ports, world_port: int, dns_port: int, speed: float, database: str
) -> Path:
    """The demo's configuration file."""
    path = folder / "waypost.toml"
    path.write_text(
        SETTINGS.format(
            host=cast.HOST,
            ports=ports,
            world_port=world_port,
            dns_port=dns_port,
            speed=speed,
            database=database,
        ),
        encoding="utf-8",
    )
    return path


async def set_up(config: Path, people: list[Person]) -> tuple[Stage, Zone]:
    """Makes the company with its people, content, sequence and contacts; nothing is sent yet."""
    settings = load(config)
    async with appliance(settings, migrated=False) as parts:
        now = parts.clock()
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            company = await access.add_company(
                session, cast.COMPANY, postal_address=cast.POSTAL_ADDRESS, now=now
            )
        async with parts.sessions.begin(company.id) as session:
            domain = await accounts.add_domain(session, parts.seal, cast.DOMAIN, now=now)
            logins = {}
            owner = await access.add_user(
                session, email=OWNER, name="You", role="owner", zone="Europe/Berlin", now=now
            )
            for person in cast.reps():
                await access.add_user(
                    session,
                    email=person.address,
                    name=person.name,
                    role="rep",
                    zone="Europe/Berlin",
                    now=now,
                )
            for address in [OWNER, *(person.address for person in cast.reps())]:
                credential, secret = await accounts.add_credential(
                    session, "smtp", login=address, address=address, now=now
                )
                logins[address] = Login(credential.login, secret)
            _, token = await accounts.add_credential(session, "api", now=now)
            link = await access.make_sign_in_link(
                session, owner, now=now, lifetime=timedelta(hours=12)
            )
            source = resources.files("waypost.demo").joinpath("data")
            items = source.joinpath("content.yaml").read_text(encoding="utf-8")
            for item in files.read_items(items, "content.yaml"):
                await library.add_item(session, **item, now=now)
            sequence = source.joinpath("sequence.yaml").read_text(encoding="utf-8")
            await sequencer.install(session, sequence, path="sequence.yaml", now=now)
        contacts = io.BytesIO(_contacts(people).encode())
        report = await intake.import_csv(parts.sessions, company.id, contacts, now=now)
        assert report.added == len(people), report.problems
        zone = _zone(parts, domain, people)
    url = f"{settings.console.url}/sign-in/{link}"
    return Stage(config, settings, company.id, logins, token, url), zone


async def enrol_all(stage: Stage, people: list[Person]) -> int:
    """Starts the sequence for everybody; says for how many."""
    enrolled = 0
    async with appliance(stage.settings) as parts:
        async with parts.sessions.read(stage.company) as session:
            users = {user.email: user.id for user in await session.scalars(select(User))}
            contacts = {c.address: c for c in await session.scalars(select(Contact))}
        for start in range(0, len(people), 50):
            async with parts.sessions.begin(stage.company) as session:
                for person in people[start : start + 50]:
                    owner = users[owner_of(person)]
                    contact = contacts[person.address]
                    enrolled += bool(
                        await sequencer.enrol(
                            session,
                            SEQUENCE,
                            contact,
                            owner=owner,
                            now=parts.clock(),
                            speed=stage.settings.engine.speed,
                        )
                    )
    return enrolled


def owner_of(person: Person) -> str:
    """Which rep somebody belongs to: Ann, or who plays the other ways to decide on a draft."""
    owners = {"price": f"bo@{cast.DOMAIN}", "meeting": f"cleo@{cast.DOMAIN}", "product": OWNER}
    return owners.get(person.role, f"ann@{cast.DOMAIN}")


def _contacts(people: list[Person]) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["email", "name", "organisation", "town", "zone"])
    for number, person in enumerate(people):
        town = cast.TOWNS[number % len(cast.TOWNS)]
        trade = f"{person.name.split()[-1]} {cast.TRADES[number % len(cast.TRADES)]}"
        rows.writerow([person.address, person.name, trade, town, "Europe/Berlin"])
    return text.getvalue()


def _zone(parts: Appliance, domain: Domain, people: list[Person]) -> Zone:
    zone: dict[str, dict[str, list[str]]] = {
        cast.HOST: {"A": ["127.0.0.1"]},
        "mx.world.example": {"A": ["127.0.0.1"]},
    }
    for name in (*cast.DOMAINS, cast.DOMAIN):
        zone[name] = {"MX": ["10 mx.world.example."]}
    records = accounts.dns_records(
        domain, parts.seal, host=parts.settings.host.name, public_host=parts.settings.host.name
    )
    for record in records:
        known = zone.setdefault(record.name.rstrip(".").lower(), {})
        if record.name.rstrip(".").lower() == cast.DOMAIN and record.type == "MX":
            continue
        known.setdefault(record.type, []).append(record.value)
    return zone

"""The world around the demo's company: mail servers of recipients and reps, and what people do.

One SMTP server plays the MX of every domain of the world. Each person has a script, started by the
first mail that arrives; a mail that comes twice (same Message-ID) is counted and not acted upon.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from waypost.demo.letters import Letter, read_letter
from waypost.demo.names import Zone
from waypost.demo.post import Login, Ports, deliver, submit

log = structlog.get_logger()

Script = Callable[["World", "Person", Letter, int], Awaitable[None]]
"""What a person does about the n-th different letter (1, 2 …) of the appliance."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the world. `role` names the script; `login` is a rep's password."""

    address: str
    name: str
    role: str
    script: Script | None = None
    login: Login | None = None
    refuses: str = ""
    """What the server says to every RCPT for this mailbox, such as `550 5.1.1 …`."""
    later: int = 0
    """How often the server says 451 before it takes a message."""


@dataclass
class World:
    """All people, their letters, and what the appliance said to what they sent."""

    ports: Ports
    people: Mapping[str, Person]
    seed: int = 1
    letters: dict[str, list[Letter]] = field(default_factory=lambda: defaultdict(list))
    copies: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sent: int = 0
    refused: list[tuple[str, int, str]] = field(default_factory=list)
    waited: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[str] = field(default_factory=list)
    zone: Zone = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.AbstractServer | None = None

    async def start(self) -> int:
        """Opens the mail server of the world; gives its port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="mx.world.example", enable_SMTPUTF8=True, loop=loop),
            "127.0.0.1",
            0,
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes the server and ends what people still do."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def busy(self) -> int:
        """How many people are doing something."""
        return len(self._tasks)

    def dns_text(self, name: bytes, timeout: float = 5) -> bytes | None:
        """What an independent verifier of signatures finds in the world's DNS."""
        records = self.zone.get(name.decode("ascii").rstrip(".").lower(), {})
        return "".join(records.get("TXT", ())).encode() or None

    async def pause(self, least: float = 0.2, most: float = 1.0) -> None:
        """The time that somebody takes."""
        await asyncio.sleep(random.uniform(least, most))

    async def post(self, person: Person, to: str | list[str], raw: bytes) -> tuple[int, str]:
        """Sends as this person: through the own login, or from the own server to our MX."""
        recipients = [to] if isinstance(to, str) else to
        if person.login is not None:
            port, login = self.ports.submission, person.login
            answer = await submit(port, login, person.address, recipients, raw)
        else:
            answer = await deliver(self.ports.mx, person.address, recipients, raw)
        self.sent += 1
        if not 200 <= answer[0] < 300:
            self.refused.append((person.address, *answer))
        return answer

    # What the server of the world says.

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's.
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        person = self.people.get(address.lower())
        if person is None:
            return "550 5.1.1 There is no such mailbox here"
        if person.refuses:
            return person.refuses
        if self.waited[person.address] < person.later:
            self.waited[person.address] += 1
            return "451 4.7.1 Greylisted, come back in a while"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Go ahead"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        for address in envelope.rcpt_tos:
            self._take(read_letter(envelope.mail_from or "", address.lower(), content))
        return "250 2.0.0 Thank you"

    def _take(self, letter: Letter) -> None:
        person = self.people[letter.rcpt_to]
        seen = self.letters[person.address]
        if any(known.message_id == letter.message_id for known in seen):
            self.copies[letter.message_id] += 1
            return
        seen.append(letter)
        if person.script is not None:
            task = asyncio.create_task(self._act(person, letter, len(seen)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _act(self, person: Person, letter: Letter, number: int) -> None:
        assert person.script is not None
        try:
            await person.script(self, person, letter, number)
        except Exception as error:  # A script that fails must show in the outcome.
            log.exception("world.script_failed", role=person.role)
            self.failures.append(f"{person.address}: {error!r}")

"""How the people of the demo's world send and fetch: real SMTP and HTTP on the loopback address.

A mail server that can't reach the appliance tries again, as all mail servers do; the appliance may
be killed at any moment.
"""

from __future__ import annotations

import asyncio
import http.client
import smtplib
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

TRIES = 60
PAUSE_SECONDS = 0.5
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the appliance listens, all on 127.0.0.1."""

    mx: int
    submission: int
    public: int
    console: int


@dataclass(frozen=True, slots=True)
class Login:
    """A password for submission."""

    name: str
    secret: str


async def deliver(port: int, mail_from: str, rcpt_to: list[str], raw: bytes) -> tuple[int, str]:
    """Hands a message to the appliance as a stranger's server; gives its last word."""
    return await _persist(port, mail_from, rcpt_to, raw, None)


async def submit(
    port: int, login: Login, mail_from: str, rcpt_to: list[str], raw: bytes
) -> tuple[int, str]:
    """Submits a message with a password under STARTTLS."""
    return await _persist(port, mail_from, rcpt_to, raw, login)


async def _persist(
    port: int, mail_from: str, rcpt_to: list[str], raw: bytes, login: Login | None
) -> tuple[int, str]:
    last = (0, "not tried")
    for _ in range(TRIES):
        try:
            last = await asyncio.to_thread(_hand_over, port, mail_from, rcpt_to, raw, login)
        except (OSError, smtplib.SMTPException) as error:
            last = (0, repr(error))
        if last[0] >= 500 or 200 <= last[0] < 300:
            return last
        await asyncio.sleep(PAUSE_SECONDS)
    return last


def _hand_over(
    port: int, mail_from: str, rcpt_to: list[str], raw: bytes, login: Login | None
) -> tuple[int, str]:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="world.example", timeout=20) as client:
        client.ehlo()
        if login is not None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # The demo's certificate is self-made.
            client.starttls(context=context)
            client.login(login.name, login.secret)
        code, text = client.mail(mail_from)
        for address in rcpt_to:
            if code < 300:
                code, text = client.rcpt(address)
        if code < 300:
            code, text = client.data(raw)
    return code, text.decode("utf-8", "replace")


async def fetch(
    url: str,
    *,
    method: str = "GET",
    form: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], str]:
    """One request to the appliance, tried again while it can't be reached; follows nothing."""
    given = {"User-Agent": BROWSER, "Accept": "text/html,*/*"}
    given |= {"Accept-Language": "en", **(headers or {})}
    if form is not None:
        given.setdefault("Content-Type", "application/x-www-form-urlencoded")
    for attempt in range(TRIES):
        try:
            found = await asyncio.to_thread(_request, url, method, form, given)
        except (OSError, http.client.HTTPException):
            if attempt == TRIES - 1:
                raise
        else:
            if found[0] < 500:
                return found
        await asyncio.sleep(PAUSE_SECONDS)
    return found


def _request(
    url: str, method: str, form: bytes | None, headers: dict[str, str]
) -> tuple[int, dict[str, str], str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=15)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body=form, headers=headers)
        response = connection.getresponse()
        body = response.read(1 << 20).decode("utf-8", "replace")
        return response.status, {k.lower(): v for k, v in response.getheaders()}, body
    finally:
        connection.close()

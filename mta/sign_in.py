"""AUTH: who wants to send (RFC 4954), by PLAIN (RFC 4616), LOGIN or SCRAM-SHA-256 (RFC 7677)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable

import structlog

from mta.accounts import check_smtp, find_smtp
from mta.door import House
from mta.scram import ScramError, ScramExchange, decoy, parse_verifier
from storage.tables import Credential

log = structlog.get_logger()

Ask = Callable[[str], Awaitable[bytes]]
"""Says 334 with this text and returns the line that is answered."""

WRONG = "535 5.7.8 Login or password is wrong"
BLOCKED = "454 4.7.0 Too many wrong passwords; try again in 15 minutes"

_DECOYS = secrets.token_bytes(32)


class RefusedError(Exception):
    """The sign-in ended with this SMTP reply."""


def mechanisms(house: House) -> str:
    """What EHLO offers."""
    return "SCRAM-SHA-256 PLAIN LOGIN" if house.offers.scram else "PLAIN LOGIN"


async def sign_in(house: House, peer: str, arg: str, ask: Ask) -> Credential:
    """The credential that the client has proved to know. Raises `RefusedError`."""
    mechanism, _, initial = arg.partition(" ")
    match mechanism.upper():
        case "PLAIN":
            parts = _decoded(initial or await ask("")).split(b"\0")
            login, password = map(_text, parts[1:]) if len(parts) == 3 else ("", "")
            return await _by_password(house, peer, login, password)
        case "LOGIN":
            login = _text(_decoded(initial or await ask(_coded(b"Username:"))))
            password = _text(_decoded(await ask(_coded(b"Password:"))))
            return await _by_password(house, peer, login, password)
        case "SCRAM-SHA-256" if house.offers.scram:
            return await _by_proof(house, peer, _decoded(initial or await ask("")), ask)
    raise RefusedError("504 5.5.4 This mechanism is not offered")


async def _by_password(house: House, peer: str, login: str, password: str) -> Credential:
    await _slow_down(house, peer, login)
    credential = await check_smtp(house.sessions, login, password)
    if credential is None:
        raise _wrong(house, peer, login)
    return credential


async def _by_proof(house: House, peer: str, first: bytes, ask: Ask) -> Credential:
    try:
        exchange = ScramExchange(first)
    except ScramError as error:
        raise RefusedError(f"501 5.5.2 {error}") from None
    await _slow_down(house, peer, exchange.login)
    credential = await find_smtp(house.sessions, exchange.login)
    known = credential is not None and credential.scram
    try:
        verifier = parse_verifier(str(known)) if known else decoy(exchange.login, _DECOYS)
        answer = _decoded(await ask(_coded(exchange.challenge(verifier))))
        proof = exchange.finish(answer)
    except ScramError:
        raise _wrong(house, peer, exchange.login) from None
    if credential is None:
        raise _wrong(house, peer, exchange.login)
    await ask(_coded(proof))
    return credential


async def _slow_down(house: House, peer: str, login: str) -> None:
    if house.limiter.blocked(peer, login):
        raise RefusedError(BLOCKED)
    if late := house.limiter.delay(login):
        await asyncio.sleep(late)


def _wrong(house: House, peer: str, login: str) -> RefusedError:
    house.limiter.failed(peer, login)
    log.warning("smtp.sign_in_refused", peer=peer)
    return RefusedError(WRONG)


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(line: str | bytes) -> bytes:
    text = line.decode("ascii", "replace") if isinstance(line, bytes) else line
    text = text.strip(" ")
    if text == "*":
        raise RefusedError("501 5.7.0 Given up, as you wish")
    try:
        return base64.b64decode("" if text == "=" else text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("501 5.5.2 That is not base64") from None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedError("501 5.5.2 That is not UTF-8") from None

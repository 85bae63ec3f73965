"""The PROXY protocol, versions 1 and 2: who is behind a load balancer.

Only listed hosts may say so, and those have to. Source: "The PROXY protocol", HAProxy, 2020,
sections 2.1 (text) and 2.2 (binary).

Pure.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_TEXT = 107
_MAX_BINARY = 16 + 1024


class ProxyError(ValueError):
    """This is not a PROXY header."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """`address` is empty for a connection of the balancer itself (a health check)."""

    address: str
    length: int


def read_header(data: bytes | bytearray) -> Proxied | None:
    """The header at the start of a connection; None if more has to come. Raises `ProxyError`."""
    start = bytes(data[: len(_SIGNATURE)])
    if _SIGNATURE.startswith(start[: len(_SIGNATURE)]) and start:
        return _binary(data) if len(data) >= 16 else None
    if b"PROXY "[: len(start)] != start[:6]:
        raise ProxyError("no PROXY header")
    end = data.find(b"\r\n")
    if end < 0:
        if len(data) > _MAX_TEXT:
            raise ProxyError("the PROXY header is too long")
        return None
    return _text(bytes(data[:end]), end + 2)


def _text(line: bytes, length: int) -> Proxied:
    words = line.decode("ascii", "replace").split(" ")
    if len(words) >= 2 and words[1] == "UNKNOWN":
        return Proxied("", length)
    if len(words) != 6 or words[1] not in {"TCP4", "TCP6"}:
        raise ProxyError("the PROXY header is not well formed")
    try:
        return Proxied(str(ipaddress.ip_address(words[2])), length)
    except ValueError:
        raise ProxyError("the PROXY header has no address") from None


def _binary(data: bytes | bytearray) -> Proxied | None:
    version, command = data[12] >> 4, data[12] & 15
    family = data[13] >> 4
    length = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1:
        raise ProxyError("the PROXY header has an unknown version")
    if length > _MAX_BINARY:
        raise ProxyError("the PROXY header is too long")
    if len(data) < length:
        return None
    if command == 0 or family not in {1, 2}:
        return Proxied("", length)
    size, kind = (4, socket.AF_INET) if family == 1 else (16, socket.AF_INET6)
    if length < 16 + 2 * size + 4:
        raise ProxyError("the PROXY header is too short")
    return Proxied(socket.inet_ntop(kind, bytes(data[16 : 16 + size])), length)

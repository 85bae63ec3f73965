"""Signing what a webhook is sent, as Standard Webhooks asks (standardwebhooks.com, v1).

The signature is an HMAC-SHA-256 over "id.timestamp.body"; each secret makes one, so that a receiver
may change from one secret to the next without missing anything.

Pure, except that a new secret is random.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

PREFIX = "whsec_"
SECRET_BYTES = 32
TOLERANCE = timedelta(minutes=5)
"""How far a receiver should let the timestamp be from its own clock."""


def new_secret() -> str:
    """A secret that nobody can guess."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def signed(name: str, at: datetime, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The headers that go with a body."""
    stamp = str(int(at.timestamp()))
    made = [f"v1,{_mac(key, name, stamp, body)}" for key in keys]
    return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": " ".join(made)}


def is_genuine(headers: Mapping[str, str], body: bytes, secret: str, *, now: datetime) -> bool:
    """What a receiver does: whether this came from who knows the secret, just now."""
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isdecimal() or len(stamp) > 12:
        return False
    if abs(now.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        return False
    right = _mac(secret, headers.get("webhook-id", ""), stamp, body).encode()
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(f"v1,{right.decode()}".encode(), one.encode()) for one in given)


def _mac(secret: str, name: str, stamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    text = f"{name}.{stamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode("ascii")

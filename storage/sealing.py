"""Secrets at rest: sealed with a key that lies in a file only the service can read."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mail.errors import ConfigError

_NONCE_BYTES = 12


class Seal:
    """AES-256-GCM around short texts such as private keys and passwords of mailboxes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, text: str) -> str:
        """The text as something that may lie in the database."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), None)
        return base64.b64encode(nonce + sealed).decode("ascii")

    def open(self, sealed: str) -> str:
        """The text again. Raises `ConfigError` if it was sealed with another key."""
        raw = base64.b64decode(sealed)
        try:
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
        except InvalidTag:
            raise ConfigError(
                "A stored secret does not fit the key in the keys folder. "
                "Put back the keys that belong to this database."
            ) from None


def secret_file(path: Path, length_bytes: int = 32) -> bytes:
    """The secret in this file, made on the first call, readable by its owner only.

    Two processes that start together agree: the one that links the name first has made it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(length_bytes))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    secret = path.read_bytes()
    if len(secret) != length_bytes:
        raise ConfigError(f"{path}: has {len(secret)} bytes instead of {length_bytes}.")
    return secret

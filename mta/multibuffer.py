"""RSA-2048 signatures eight at a time, where the processor can (AVX-512 IFMA).

Intel's crypto_mb computes eight signatures side by side in little more time than one takes. It is
optional: `pip install waypost[multibuffer]` brings it, and without it, or on another processor,
`lanes_for` gives None and OpenSSL signs one by one. PKCS#1 v1.5 is deterministic, so the signatures
are the same bytes either way.

Every result is checked with the public key before it leaves: a fault in the computation with the
Chinese remainder theorem would give the private key away (Boneh, DeMillo, Lipton 1997).
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

LANES = 8
LEAST = 4
"""Below it OpenSSL is as quick: idle lanes cost as much as busy ones."""

_BITS, _BYTES, _HALF = 2048, 256, 128
_EXPONENT = 65537
_RSA_2K = 1
"""crypto_mb's number of the algorithm; the answer has a bit for eight lanes."""
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""What stands before a SHA-256 digest (RFC 8017 §9.2, note 1)."""

_RUNTIME = ("libintlc.so.5", "libimf.so", "libirng.so", "libsvml.so")
"""What crypto_mb is linked to, without using any of it; they lie beside it."""

_PADDING = b"\0\1" + b"\xff" * (_BYTES - 3 - len(_DIGEST_INFO) - 32) + b"\0" + _DIGEST_INFO

_Pointer = ctypes.c_void_p
_Eight = _Pointer * LANES


class LanesError(Exception):
    """The library refused or gave a wrong result; sign in another way."""


@cache
def library() -> ctypes.CDLL | None:
    """crypto_mb, if it is installed and this processor can run it."""
    for folder in (Path(sys.prefix) / "lib", Path(sys.base_prefix) / "lib"):
        path = folder / "libcrypto_mb.so"
        if not path.is_file():
            continue
        try:
            for name in _RUNTIME:
                ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL)
            found = ctypes.CDLL(str(path))
            found.mbx_get_algo_info.restype = ctypes.c_int64
            if not found.mbx_get_algo_info(_RSA_2K) & LANES:
                return None
            for method in (found.mbx_RSA2K_private_crt_Method, found.mbx_RSA2K_pub65537_Method):
                method.restype = _Pointer
            found.mbx_RSA_Method_BufSize.argtypes = [_Pointer]
            last: tuple[Any, ...] = (ctypes.c_int, _Pointer, _Pointer)
            found.mbx_rsa_private_crt_mb8.argtypes = (*[_Pointer] * 7, *last)
            found.mbx_rsa_public_mb8.argtypes = (*[_Pointer] * 3, *last)
        except (OSError, AttributeError):  # Another architecture, or another version.
            return None
        return found
    return None


def lanes_for(key: rsa.RSAPrivateKey) -> Lanes | None:
    """Something that signs eight at a time with this key; None where that can't be."""
    public = key.public_key().public_numbers()
    found = library()
    if found is None or key.key_size != _BITS or public.e != _EXPONENT:
        return None
    return Lanes(key, found)


class _Room:
    """Buffers of one thread: the library works in them without the interpreter's lock."""

    def __init__(self, scratch_bytes: int) -> None:
        self.given = ctypes.create_string_buffer(LANES * _BYTES)
        self.made = ctypes.create_string_buffer(LANES * _BYTES)
        self.again = ctypes.create_string_buffer(LANES * _BYTES)
        self.scratch = ctypes.create_string_buffer(scratch_bytes + 64)


class Lanes:
    """Eight lanes with one key. Threads may share it."""

    def __init__(self, key: rsa.RSAPrivateKey, found: ctypes.CDLL) -> None:
        self._library = found
        self._private = _Pointer(found.mbx_RSA2K_private_crt_Method())
        self._public = _Pointer(found.mbx_RSA2K_pub65537_Method())
        self._scratch_bytes = max(
            int(found.mbx_RSA_Method_BufSize(self._private)),
            int(found.mbx_RSA_Method_BufSize(self._public)),
        )
        numbers = key.private_numbers()
        parts = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
        self._numbers = [_little(part, _HALF) for part in parts]
        self._modulus = _little(numbers.public_numbers.n, _BYTES)
        self._local = threading.local()

    def signatures(self, datas: Sequence[bytes]) -> list[bytes]:
        """PKCS#1 v1.5 signatures of the SHA-256 of each; any number of them.

        Raises `LanesError` if a result does not verify.
        """
        made: list[bytes] = []
        for start in range(0, len(datas), LANES):
            made += self._eight(datas[start : start + LANES])
        return made

    def _eight(self, datas: Sequence[bytes]) -> list[bytes]:
        room = self._room()
        encoded = [_PADDING + hashlib.sha256(data).digest() for data in datas]
        encoded += encoded[:1] * (LANES - len(encoded))
        block = b"".join(encoded)
        ctypes.memmove(room.given, block, len(block))
        status = self._library.mbx_rsa_private_crt_mb8(
            _lanes(room.given), _lanes(room.made), *map(_same, self._numbers), _BITS,
            self._private, room.scratch,
        )  # fmt: skip
        status |= self._library.mbx_rsa_public_mb8(
            _lanes(room.made), _lanes(room.again), _same(self._modulus), _BITS, self._public,
            room.scratch,
        )  # fmt: skip
        if status or room.again.raw != block:
            raise LanesError(f"crypto_mb gave a wrong signature (status {status:#x})")
        raw = room.made.raw
        return [raw[i * _BYTES : (i + 1) * _BYTES] for i in range(len(datas))]

    def _room(self) -> _Room:
        room: _Room | None = getattr(self._local, "room", None)
        if room is None:
            room = self._local.room = _Room(self._scratch_bytes)
        return room


def _little(number: int, length: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(number.to_bytes(length, "little"), length)


def _lanes(block: ctypes.Array[ctypes.c_char]) -> ctypes.Array[_Pointer]:
    start = ctypes.addressof(block)
    return _Eight(*(start + _BYTES * lane for lane in range(LANES)))


def _same(number: ctypes.Array[ctypes.c_char]) -> ctypes.Array[_Pointer]:
    return _Eight(*[ctypes.addressof(number)] * LANES)

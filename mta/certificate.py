"""The certificate of the doors: the owner's, or a self-made one until there is one.

Between mail servers a self-made certificate is as good as any (RFC 7435); mail programs of people
warn, and `waypost check` says so.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mail.errors import ConfigError

LASTS = timedelta(days=3650)


def server_context(
    folder: Path, host: str, certificate: Path | None, private_key: Path | None
) -> ssl.SSLContext:
    """A context for the server side, TLS 1.2 or later (RFC 8996).

    Raises `ConfigError` if the owner's files do not work.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is None:
        context.load_cert_chain(self_made(folder, host))
        return context
    try:
        context.load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"[smtp] certificate: {certificate} can't be used: {error}. "
            "Give PEM files; private_key belongs to the first certificate of the chain."
        ) from None
    return context


def self_made(folder: Path, host: str) -> Path:
    """The PEM file with a key and a certificate for `host`, made if it is not there."""
    path = folder / f"{host}.pem"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LASTS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + made.public_bytes(serialization.Encoding.PEM)
    # Two processes that start together agree: the one that links the name first has made it.
    fresh = folder / f".{host}.{os.getpid()}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
    return path

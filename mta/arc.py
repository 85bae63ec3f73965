"""ARC: what we found out about a message before we passed it on (RFC 8617), under our seal.

Passing on breaks SPF and may break DKIM, so the next server can't see what we saw. An ARC set says
it: the results (AAR), a signature over the message as it left us (AMS), and a seal over all sets
so far (AS). ARC is on its way to being historic and few servers go by it, so nothing but the
forwarding of replies makes sets, and everything here stands behind `mta.signing.Signer`.

A lean signer like `mta.signing`, and a reader of chains that costs time in proportion to the
message, whatever strangers wrote into it. Pure: keys and results come as arguments.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from mta.signing import DkimKey, relaxed_body, relaxed_field

MAX_SETS = 50
"""RFC 8617 §4.2.1."""

MAX_HEADER_BYTES = 256 << 10
MAX_FIELD_BYTES = 16 << 10
MAX_SIGNED_NAMES = 500
LEAST_KEY_BITS = 1024
LARGEST_KEY_BITS = 8192

_KINDS = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")
_SIGNED = frozenset(
    (
        *(b"from", b"to", b"cc", b"subject", b"date", b"reply-to", b"message-id", b"in-reply-to"),
        *(b"references", b"mime-version", b"content-type", b"content-transfer-encoding"),
        *(b"list-id", b"list-unsubscribe", b"list-post", b"auto-submitted", b"dkim-signature"),
    )
)
"""RFC 6376 §5.4.1, and the signatures that came with the message (RFC 8617 §4.1.2)."""

_NO_SIGNATURE = re.compile(rb"((?:\A|;)\s*b\s*=)[^;]*")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,250}[a-z0-9_])?\Z")
_RESULT = re.compile(r"[a-z]{1,20}\Z")

Field = tuple[bytes, bytes]
"""Name and value of a header field; the value as it came, with its folds."""


@dataclass(frozen=True, slots=True)
class ArcSet:
    """The three fields of one instance, and the tags of its two signatures."""

    instance: int
    results: Field
    message: Field
    seal: Field
    message_tags: Mapping[str, str]
    seal_tags: Mapping[str, str]

    @property
    def fields(self) -> tuple[Field, Field, Field]:
        """In the order in which a seal covers them."""
        return self.results, self.message, self.seal


@dataclass(frozen=True, slots=True)
class Chain:
    """The sets of a message, the first one first. `problem` says why they are no chain.

    `highest` is the largest instance that stands there; `ended` is true if the last seal says that
    the chain had failed before it came to us.
    """

    sets: tuple[ArcSet, ...] = ()
    problem: str = ""
    highest: int = 0
    ended: bool = False

    @property
    def key_names(self) -> list[str]:
        """Where the keys are published that `validate` wants to see."""
        tags = [kept for one in self.sets for kept in (one.message_tags, one.seal_tags)]
        return list(dict.fromkeys(f"{t['s']}._domainkey.{t['d']}" for t in tags))


def read_chain(raw: bytes) -> Chain:
    """The ARC sets of a message; no sets and no problem if it has none."""
    head = _head(raw)
    if b"arc-" not in head.lower():
        return Chain()
    if len(head) > MAX_HEADER_BYTES:
        return Chain(problem="the header is too large to check", highest=1)
    found: dict[int, dict[bytes, Field]] = {}
    problem = ""
    for name, value in _fields(head):
        kind = name.strip().lower()
        if kind not in _KINDS:
            continue
        instance = _instance(value)
        if not 1 <= instance <= MAX_SETS or len(value) > MAX_FIELD_BYTES:
            problem = problem or f"{kind.decode()}: no instance from 1 to {MAX_SETS}, or too long"
        elif kind in found.setdefault(instance, {}):
            problem = problem or f"{kind.decode()}: twice in instance {instance}"
        else:
            found[instance][kind] = (name, value)
    if not found and not problem:
        return Chain()
    highest = max(found, default=1)
    last = found.get(highest, {}).get(b"arc-seal")
    ended = last is not None and _tags(last[1]).get("cv", "").lower() == "fail"
    if not problem and sorted(found) != list(range(1, highest + 1)):
        problem = "an instance is missing"
    if problem:
        return Chain((), problem, highest, ended)
    sets = []
    for instance in range(1, highest + 1):
        one = found[instance]
        if len(one) != len(_KINDS):
            return Chain((), f"instance {instance} is not complete", highest, ended)
        results, signed, seal = (one[kind] for kind in _KINDS)
        made = ArcSet(instance, results, signed, seal, _tags(signed[1]), _tags(seal[1]))
        if problem := _malformed(made):
            return Chain((), f"instance {instance}: {problem}", highest, ended)
        sets.append(made)
    return Chain(tuple(sets), "", highest, ended)


def validate(raw: bytes, chain: Chain, keys: Mapping[str, str | None]) -> tuple[str, str]:
    """The chain's validation status (none, pass or fail) and why; RFC 8617 §5.2.

    `keys` has the records by name, None for one that could not be asked for, which fails.
    """
    if chain.problem:
        return "fail", chain.problem
    if not chain.sets:
        return "none", "there is no chain"
    if chain.ended:
        return "fail", "the chain had failed before"
    for one in chain.sets:
        said = one.seal_tags.get("cv", "").lower()
        if said != ("none" if one.instance == 1 else "pass"):
            return "fail", f"the seal of instance {one.instance} says cv={said[:10]}"
    if problem := _message_problem(raw, chain.sets[-1], keys):
        return "fail", f"message signature {len(chain.sets)}: {problem}"
    for one in reversed(chain.sets):
        data = _sealed(chain.sets[: one.instance])
        if problem := _signature_problem(one.seal_tags, data, keys):
            return "fail", f"seal {one.instance}: {problem}"
    return "pass", f"{len(chain.sets)} of {len(chain.sets)} seals hold"


@dataclass(frozen=True, slots=True)
class ArcSealer:
    """Adds one set with a domain's RSA key. A `mta.signing.Signer` for one message.

    `results` is what `results_line` made, `cv` what `validate` said of `chain`.
    """

    domain: str
    key: DkimKey
    results: str
    cv: str = "none"
    chain: Chain = Chain()

    def sign(self, message: bytes, at: datetime) -> bytes:
        """The set's fields, newest first; nothing if the chain can't be made longer.

        That is so after `MAX_SETS`, and when an earlier server sealed that it had failed.
        """
        instance = self.chain.highest + 1
        if instance > MAX_SETS or self.chain.ended:
            return b""
        results = (b"ARC-Authentication-Results", f" i={instance}; {self.results}".encode("ascii"))
        signed = (b"ARC-Message-Signature", self._message_signature(message, instance, at))
        unsealed = (
            f" i={instance}; a={self.key.algorithm}; cv={self.cv}; d={self.domain};\r\n"
            f"\ts={self.key.selector}; t={int(at.timestamp())};\r\n\tb="
        ).encode("ascii")
        covered = [] if self.cv == "fail" else [f for one in self.chain.sets for f in one.fields]
        data = _relaxed([*covered, results, signed, (b"ARC-Seal", unsealed)])
        seal = (b"ARC-Seal", unsealed + _folded(self.key.signature(data)))
        return b"".join(name + b":" + value + b"\r\n" for name, value in (seal, signed, results))

    def _message_signature(self, message: bytes, instance: int, at: datetime) -> bytes:
        head, _, body = message.partition(b"\r\n\r\n")
        chosen = [
            (name.strip(b" \t").lower(), relaxed_field(name, value) + b"\r\n")
            for name, value in reversed(list(_fields(head)))
            if name.strip(b" \t").lower() in _SIGNED
        ][:MAX_SIGNED_NAMES]
        lines = [b""]
        for name, _ in chosen:
            if len(lines[-1]) + len(name) > 68:
                lines.append(b"")
            lines[-1] += (b":" if lines[-1] or len(lines) > 1 else b"") + name
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
        unsigned = (
            f" i={instance}; a={self.key.algorithm}; c=relaxed/relaxed; d={self.domain};\r\n"
            f"\ts={self.key.selector}; t={int(at.timestamp())};\r\n\th="
        ).encode("ascii")
        unsigned += b"\r\n\t".join(lines) + b";\r\n\tbh=" + body_hash + b";\r\n\tb="
        data = b"".join(field for _, field in chosen)
        data += relaxed_field(b"ARC-Message-Signature", unsigned)
        return unsigned + _folded(self.key.signature(data))


def results_line(host: str, verdict: Mapping[str, Any], *, sender: str, cv: str) -> str:
    """Authentication results (RFC 8601) for an AAR, from what `inbound` keeps of a message.

    `sender` is the domain in From. Anything that is no name or result is left out.
    """
    parts = [host]
    spf, spf_domain = _word(verdict.get("spf")), _name(verdict.get("spf_domain"))
    parts.append(f"spf={spf or 'none'}" + (f" smtp.mailfrom={spf_domain}" if spf_domain else ""))
    signatures = verdict.get("dkim")
    for one in signatures[:8] if isinstance(signatures, list) else []:
        domain, selector = _name(one.get("domain")), _name(one.get("selector"))
        if result := _word(one.get("result")):
            named = f" header.d={domain} header.s={selector}" if domain and selector else ""
            parts.append(f"dkim={result}{named}")
    if len(parts) == 2:
        parts.append("dkim=none")
    domain = _name(sender)
    dmarc = _word(verdict.get("dmarc")) or "none"
    parts.append(f"dmarc={dmarc}" + (f" header.from={domain}" if domain else ""))
    parts.append(f"arc={cv}")
    return ";\r\n\t".join(parts)


def _message_problem(raw: bytes, one: ArcSet, keys: Mapping[str, str | None]) -> str:
    tags = one.message_tags
    head, _, body = raw.partition(b"\r\n\r\n")
    header_form, _, body_form = tags.get("c", "simple/simple").lower().partition("/")
    body_form = body_form or "simple"
    if not {header_form, body_form} <= {"simple", "relaxed"} or "l" in tags:
        return "a canonical form that is not known, or a part of the body only"
    canonical = relaxed_body(body) if body_form == "relaxed" else _simple_body(body)
    if base64.b64encode(hashlib.sha256(canonical).digest()).decode() != _joined(tags.get("bh", "")):
        return "the body was changed"
    names = [name.strip().lower().encode("ascii", "replace") for name in tags["h"].split(":")]
    if b"from" not in names or len(names) > MAX_SIGNED_NAMES or b"arc-seal" in names:
        return "it does not sign From, or signs what it may not"
    below: dict[bytes, list[Field]] = {}
    for name, value in _fields(head):
        below.setdefault(name.strip(b" \t").lower(), []).append((name, value))
    covered = [below[name].pop() for name in names if below.get(name)]
    own = (one.message[0], _NO_SIGNATURE.sub(rb"\1", one.message[1]))
    if header_form == "relaxed":
        data = _relaxed([*covered, own])
    else:
        data = b"\r\n".join(name + b":" + value for name, value in (*covered, own))
    return _signature_problem(tags, data, keys)


def _sealed(sets: tuple[ArcSet, ...]) -> bytes:
    """What the last of these seals covers: all sets, and itself without its signature."""
    covered = [field for one in sets for field in one.fields]
    name, value = covered[-1]
    return _relaxed([*covered[:-1], (name, _NO_SIGNATURE.sub(rb"\1", value))])


def _relaxed(fields: list[Field]) -> bytes:
    return b"\r\n".join(relaxed_field(name, value) for name, value in fields)


def _signature_problem(tags: Mapping[str, str], data: bytes, keys: Mapping[str, str | None]) -> str:
    record = keys.get(f"{tags['s']}._domainkey.{tags['d']}")
    if not record:
        return "no key is published, or nobody could tell"
    key = _public_key(record)
    try:
        signature = base64.b64decode(_joined(tags["b"]), validate=True)
        if isinstance(key, rsa.RSAPublicKey) and tags["a"].lower() == "rsa-sha256":
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey) and tags["a"].lower() == "ed25519-sha256":
            key.verify(signature, hashlib.sha256(data).digest())
        else:
            return "the key can't be used for it"
    except (InvalidSignature, binascii.Error, ValueError):
        return "the signature does not fit"
    return ""


def _public_key(record: str) -> rsa.RSAPublicKey | ed25519.Ed25519PublicKey | None:
    tags = _tags(record[:8192].encode("utf-8", "replace"))
    try:
        raw = base64.b64decode(_joined(tags.get("p", "")), validate=True)
        if tags.get("k", "rsa").lower() == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(raw)
        key = serialization.load_der_public_key(raw)
    except Exception:  # OpenSSL has many names for a key that is none.
        return None
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    good = LEAST_KEY_BITS <= key.key_size <= LARGEST_KEY_BITS
    return key if good and key.public_numbers().e < 1 << 33 else None


def _malformed(one: ArcSet) -> str:
    for tags, wanted in ((one.message_tags, "abdhs"), (one.seal_tags, "abds")):
        if any(not tags.get(tag) for tag in wanted) or (wanted == "abds" and "h" in tags):
            return "a tag is missing or not allowed"
        if not _name(tags["d"]) or not _name(tags["s"]):
            return "d= or s= is no name"
    return ""


def _tags(value: bytes) -> dict[str, str]:
    """Tags of a signature; the first of two with one name counts for nothing, both are dropped."""
    tags: dict[str, str] = {}
    twice = set()
    for part in value.decode("utf-8", "replace").split(";")[:100]:
        name, equals, text = part.partition("=")
        name = name.strip()
        if equals and name in tags:
            twice.add(name)
        elif equals:
            tags[name] = text.strip().lower() if name in "ds" else text.strip()
    return {name: text for name, text in tags.items() if name not in twice}


def _instance(value: bytes) -> int:
    """The instance: the first tag of a results field, a tag among others in the other two."""
    for part in value[:1000].split(b";")[:20]:
        name, equals, number = part.partition(b"=")
        if equals and name.strip().lower() == b"i":
            number = number.strip()
            return int(number) if number.isdigit() and len(number) <= 4 else 0
    return 0


def _head(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[0]


def _fields(head: bytes) -> Iterator[Field]:
    """The header fields from first to last, with their folds."""
    name, lines = b"", [b""]
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            lines.append(line)
            continue
        if name:
            yield name, b"\r\n".join(lines)
        name, colon, value = line.partition(b":")
        name, lines = name if colon else b"", [value]
    if name:
        yield name, b"\r\n".join(lines)


def _simple_body(body: bytes) -> bytes:
    end = len(body)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[:end] + b"\r\n"


def _joined(text: str) -> str:
    return "".join(text.split())


def _folded(signature: bytes) -> bytes:
    text = base64.b64encode(signature)
    return b"\r\n\t".join(text[i : i + 72] for i in range(0, len(text), 72))


def _name(value: object) -> str:
    text = str(value or "").lower()
    return text if _NAME.match(text) else ""


def _word(value: object) -> str:
    text = str(value or "").lower()
    return text if _RESULT.match(text) else ""

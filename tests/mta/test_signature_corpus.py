"""Our signatures on every odd form of mail, verified by two verifiers that know nothing of us.

One is dkimpy, the other `rfc6376` beside this file, written from the RFC's text. What one of them
takes, the other has to take as well, and what was changed on the way, neither.
"""

from __future__ import annotations

import base64

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mta import signing
from mta.signing import DkimKey, DkimSigner
from tests.conftest import MONDAY
from tests.mta import rfc6376

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED = ed25519.Ed25519PrivateKey.generate()
SIGNER = DkimSigner("acme.test", (DkimKey("r1", RSA), DkimKey("e1", ED)))
SPKI = RSA.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)
RECORDS = {
    "r1._domainkey.acme.test": f"v=DKIM1; k=rsa; p={base64.b64encode(SPKI).decode()}",
    "e1._domainkey.acme.test": "v=DKIM1; k=ed25519; p="
    + base64.b64encode(ED.public_key().public_bytes_raw()).decode(),
}

RECORDS |= {name.replace("acme.test", "evil.test"): text for name, text in RECORDS.items()}

FROM = b"From: Bo <bo@acme.test>\r\n"
HEAD = FROM + b"To: ann@customer.test\r\nSubject: Hello\r\nMessage-ID: <1@acme.test>\r\n"
PARTS = (
    b"--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe \t \r\n\r\n--b1\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n--b1--\r\n"
)

HEADERS = {
    "plain": HEAD,
    "folded": HEAD + b"References: <a@x>\r\n <b@x>\r\n\t<c@x>\r\n \t <d@x>\r\n",
    "folded at once": FROM + b"Subject:\r\n a\r\n\tb\r\n",
    "folded to nothing": FROM + b"Subject: a\r\n \r\n\t\r\n b\r\n",
    "folded at the end": FROM + b"Subject: a\r\n \r\nTo: x@y.test\r\n",
    "encoded words": FROM + b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?b?w6R?=\r\n",
    "raw UTF-8": "From: 山田 <bo@acme.test>\r\nSubject: Grüße\r\n".encode(),
    "raw Latin-1": FROM + b"Subject: Gr\xfc\xdfe\xa0\x85\r\n",
    "no-break spaces": FROM + b"Subject: \xc2\xa0 a \xe2\x80\x89 b\xc2\xa0\r\n",
    "very long, unfolded": FROM + b"Subject: " + b"wort " * 20_000 + b"\r\n",
    "very long, one word": FROM + b"Subject: " + b"x" * 100_000 + b"\r\n",
    "998 bytes": FROM + b"Subject: " + b"y" * 989 + b"\r\n",
    "empty": FROM + b"Subject:\r\nTo: \r\nCc:\t \r\nReply-To:    \r\n",
    "twice": HEAD + b"To: two@y.test\r\nSubject: Again\r\nCc: a@x.test\r\nCc: b@x.test\r\n",
    "From twice": FROM + b"Subject: x\r\nFrom: Eve <eve@acme.test>\r\n",
    "odd case": b"fROM: bo@acme.test\r\nSUBJECT: x\r\nMESSAGE-id: <1@x>\r\nmime-VERSION: 1.0\r\n",
    "space before the colon": b"From : bo@acme.test\r\nSubject\t: x\r\nTo \t : y@z.test\r\n",
    "no space after the colon": b"From:bo@acme.test\r\nSubject:x\r\n",
    "colons": FROM + b"Subject: a:b: c :\r\nTo: group: a@x.test, b@x.test;\r\n",
    "semicolons and b=": FROM + b"Subject: v=1; b=abc; bh=def\r\n",
    "another signature": b"DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=y; h=from; bh=AA==;\r\n"
    b"\tb=AA==\r\n" + HEAD,
    "trace above": b"Received: from a\r\n\tby b; Mon, 23 Nov 2026 09:00:00 +0000\r\n" + HEAD,
    "From last": b"X-A: 1\r\nX-B: 2\r\nSubject: x\r\n" + FROM,
    "blanks inside": FROM + b"Subject: \t a \t\t  b   c\t \t \r\n",
    "NUL": FROM + b"Subject: a\x00b\x00\r\n c\r\n",
    "control characters": FROM + b"Subject: a\x01\x08\x1b[31mb\x7f\r\n",
    "of lists": HEAD + b"List-Unsubscribe: <https://go.acme.test/u/x>,\r\n <mailto:u@acme.test>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Id: <x.acme.test>\r\n",
}

BODIES = {
    "none at all": b"",
    "one line": b"Hello\r\n",
    "no line end": b"Hello",
    "one line end": b"\r\n",
    "only line ends": b"\r\n" * 50,
    "only blanks": b" \t \r\n\t\r\n   ",
    "empty lines at the end": b"Hello\r\n\r\n\r\n\r\n",
    "empty lines inside": b"\r\n\r\nHello\r\n\r\n\r\nyou\r\n",
    "blanks at the end of lines": b"Hello \t \r\nyou\t\r\n  \r\n\t\r\n",
    "blanks at the very end": b"Hello\r\nyou  \t",
    "tabs": b"\ta\t\tb \t c\r\n\t\t\r\nd\r\n",
    "dots": b".\r\n..\r\n.a\r\n...\r\n.\r\n",
    "From lines": b"From here on\r\n>From there\r\n",
    "a signature line": b"Text\r\n-- \r\nBo\r\n",
    "998 bytes": b"z" * 998 + b"\r\n" + b"a " * 499 + b"\r\n",
    "longer than allowed": b"q" * 100_000 + b"\r\n",
    "a run of blanks": b"a" + b" " * 3000 + b"b" + b"\t" * 1000 + b"\r\n",
    "UTF-8": "Grüße aus Köln, 山田さん \u00a0 \u2003 .\r\n".encode(),
    "binary": bytes(b for b in range(256) if b not in b"\r\n") * 4 + b"\r\n",
    "multipart": PARTS,
    "nested multipart": b"--o\r\nContent-Type: multipart/alternative; boundary=b1\r\n\r\n"
    + PARTS + b"--o--\r\n\r\nepilogue \r\n",
    "base64": b"\r\n".join(base64.b64encode(bytes(54)) for _ in range(500)) + b"\r\n",
    "quoted-printable": b"a=20\r\nb=\r\nc =\r\n=E4=F6\r\n",
    "carriage returns alone": b"a\rb\r\n\rc\r\r\nd\r",
    "line feeds alone": b"a\nb\r\n\nc\n\r\nd\n",
    "large": b"The quick  brown\tfox \r\n" * 20_000,
}  # fmt: skip


def by_dkimpy(message: bytes) -> list[bool]:
    def answer(name: bytes, timeout: int = 5) -> bytes:
        return RECORDS[name.decode().rstrip(".")].encode()

    results = []
    for index in range(2):
        try:
            results.append(bool(dkim.DKIM(message).verify(idx=index, dnsfunc=answer)))
        except dkim.DKIMException:
            results.append(False)
    return results


def by_the_rfc(message: bytes) -> list[bool]:
    found = rfc6376.verify(message, lambda name: RECORDS.get(name, "v=DKIM1; k=rsa; p="))
    return [result == "pass" for result in found[:2]]


def signed(head: bytes, body: bytes) -> bytes:
    message = head + b"\r\n" + body
    return SIGNER.sign(message, MONDAY) + message


@pytest.mark.parametrize("body", [BODIES["one line"], PARTS], ids=["text", "parts"])
@pytest.mark.parametrize("head", HEADERS.values(), ids=HEADERS.keys())
def test_headers(head: bytes, body: bytes) -> None:
    message = signed(head, body)
    assert by_the_rfc(message) == [True, True]
    if not head.startswith(b"From :"):
        # dkimpy does not find a field that has blanks before its colon (obsolete, RFC 5322 §4.5).
        assert by_dkimpy(message) == [True, True]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bodies(body: bytes) -> None:
    message = signed(HEAD, body)
    assert by_the_rfc(message) == [True, True]
    assert signing.relaxed_body(body) == rfc6376.relaxed_body(body)


@pytest.mark.parametrize(
    "body",
    [body for name, body in BODIES.items() if not name.endswith(" alone")],
    ids=[name for name in BODIES if not name.endswith(" alone")],
)
def test_bodies_by_dkimpy(body: bytes) -> None:
    """Without bare CR and LF, which dkimpy reads as line ends and no mail may have.

    A body without a line end gets one on the way, so the signature has to be right with it.
    """
    end = b"" if not body or body.endswith(b"\r\n") else b"\r\n"
    assert by_dkimpy(signed(HEAD, body) + end) == [True, True]


def test_a_message_without_a_body_and_without_the_empty_line() -> None:
    message = SIGNER.sign(HEAD, MONDAY) + HEAD
    assert by_the_rfc(message) == [True, True]
    assert by_the_rfc(message + b"\r\n") == [True, True]
    assert by_dkimpy(message + b"\r\n") == [True, True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Bo <bo@", b"Bo <no@"),
        (b"Subject: Hello", b"Subject: Hell0"),
        (b"To: ann@", b"To: amm@"),
        (b"<p>Hi</p>", b"<p>Ha</p>"),
        (b"--b1--\r\n", b"--b1--\r\n."),
        (b"\r\nSubject: ", b"\r\nSubject: More\r\nSubject: "),
        (b"\r\nSubject: ", b"\r\nReply-To: eve@x.test\r\nSubject: "),
        (b"d=acme.test", b"d=evil.test"),
        (b"t=", b"t=1"),
    ],
)
def test_what_is_changed_on_the_way_fails_by_both(old: bytes, new: bytes) -> None:
    message = signed(HEAD, PARTS)
    assert old in message
    changed = message.replace(old, new) if old.startswith(b"d=") else message.replace(old, new, 1)
    assert False in by_the_rfc(changed)
    assert by_the_rfc(changed) == by_dkimpy(changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: Hello", b"SUBJECT:\r\n\tHello  "),
        (b"<p>Hi</p>\r\n", b"<p>Hi</p>  \t\r\n"),
        (b"--b1--\r\n", b"--b1--\r\n\r\n\r\n"),
        (b"Message-ID", b"X-Trace: 1\r\nMessage-ID"),
    ],
)
def test_what_servers_may_change_on_the_way_passes_by_both(old: bytes, new: bytes) -> None:
    changed = signed(HEAD, PARTS).replace(old, new, 1)
    assert by_the_rfc(changed) == by_dkimpy(changed) == [True, True]


def test_the_signature_fields_themselves_are_well_formed() -> None:
    for head in HEADERS.values():
        fields = SIGNER.sign(head + b"\r\nx\r\n", MONDAY)
        assert fields.endswith(b"\r\n")
        lines = fields[:-2].split(b"\r\n")
        assert max(map(len, lines)) <= 78, max(lines, key=len)
        assert all(line.startswith((b"DKIM-Signature: ", b"\t")) for line in lines)
        assert all(32 <= byte < 127 or byte in b"\t\r\n" for byte in fields)


blank = st.sampled_from([b" ", b"\t", b"  ", b"\r\n ", b" \r\n\t", b" \t "])
piece = st.binary(min_size=1, max_size=6).map(lambda b: bytes(x for x in b if x not in b"\r\n"))
text = st.lists(st.one_of(blank, piece), max_size=10).map(b"".join)
name = st.sampled_from([b"Subject", b"to", b"CC", b"X-A", b"References ", b"Reply-To", b"List-ID"])
line = st.lists(st.sampled_from([b" ", b"\t", b".", b"a", b"\xe4", b"  ", b"\r\n"]), max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(name, text), max_size=6), st.lists(line, max_size=8), st.booleans())
def test_any_message_verifies_by_the_rfc(
    headers: list[tuple[bytes, bytes]], lines: list[list[bytes]], ended: bool
) -> None:
    head = FROM + b"".join(n + b":" + t + b"\r\n" for n, t in headers)
    body = b"\r\n".join(b"".join(parts) for parts in lines) + (b"\r\n" if ended else b"")
    assert by_the_rfc(signed(head, body)) == [True, True]
    assert signing.relaxed_body(body) == rfc6376.relaxed_body(body)

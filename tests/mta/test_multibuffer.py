"""Signatures made eight at a time are those that OpenSSL makes one by one.

Where the library is not installed or the processor can't run it, the same promises are kept by
OpenSSL alone, and a library that is played here shows what happens when one fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from mta import multibuffer, signing
from mta.multibuffer import LANES, LanesError, lanes_for
from mta.signing import DkimKey, DkimSigner
from tests.conftest import MONDAY

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED = ed25519.Ed25519PrivateKey.generate()
MESSAGES = [
    b"From: bo@acme.test\r\nSubject: Number %d\r\n\r\n%s\r\n" % (number, b"x " * number * 50)
    for number in range(21)
]


def by_openssl(data: bytes) -> bytes:
    return KEY.sign(data, padding.PKCS1v15(), hashes.SHA256())


class Played:
    """Lanes that give what a test wants."""

    def __init__(self, broken: bool) -> None:
        self.broken, self.calls = broken, 0

    def signatures(self, datas: Sequence[bytes]) -> list[bytes]:
        self.calls += 1
        if self.broken:
            raise LanesError("wrong")
        return [by_openssl(data) for data in datas]


def test_lanes_give_the_same_bytes_as_openssl() -> None:
    lanes = lanes_for(KEY)
    if multibuffer.library() is None:
        assert lanes is None
        return
    assert lanes is not None
    for count in (1, 3, LANES - 1, LANES, LANES + 1, len(MESSAGES)):
        assert lanes.signatures(MESSAGES[:count]) == list(map(by_openssl, MESSAGES[:count]))
    assert lanes.signatures([]) == []


@pytest.mark.parametrize("count", [0, 1, 2, 4, 7, 8, 9, 21])
def test_messages_signed_together_have_the_signatures_they_have_alone(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = (DkimKey("r1", KEY), DkimKey("e1", ED))
    together = DkimSigner("acme.test", keys).sign_all([(m, MONDAY) for m in MESSAGES[:count]])
    monkeypatch.setattr(signing, "lanes_for", lambda key: None)
    alone = DkimSigner("acme.test", keys)
    assert together == [alone.sign(message, MONDAY) for message in MESSAGES[:count]]


def test_threads_share_one_signer() -> None:
    signer = DkimSigner("acme.test", (DkimKey("r1", KEY),))
    batch = [(message, MONDAY) for message in MESSAGES[:8]]
    expected = [signer.sign(message, at) for message, at in batch]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: signer.sign_all(batch), range(40)))
    assert all(result == expected for result in results)


def test_lanes_that_fail_are_left_and_the_mail_goes_out_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = [(message, MONDAY) for message in MESSAGES[:8]]
    good, broken = Played(broken=False), Played(broken=True)
    monkeypatch.setattr(signing, "lanes_for", lambda key: good)
    signer = DkimSigner("acme.test", (DkimKey("r1", KEY),))
    expected = signer.sign_all(batch)
    assert good.calls == 1
    signer.sign_all(batch[:2])
    assert good.calls == 1  # Too few to be worth it.
    monkeypatch.setattr(signing, "lanes_for", lambda key: broken)
    signer = DkimSigner("acme.test", (DkimKey("r1", KEY),))
    assert signer.sign_all(batch) == expected
    assert signer.sign_all(batch) == expected
    assert broken.calls == 1


def test_a_wrong_result_never_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = lanes_for(KEY)
    if lanes is None:
        assert multibuffer.library() is None
        return
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    monkeypatch.setattr(lanes, "_numbers", lanes_for(other)._numbers)  # type: ignore[union-attr]
    with pytest.raises(LanesError, match="wrong signature"):
        lanes.signatures(MESSAGES[:8])


def test_other_keys_have_no_lanes() -> None:
    assert lanes_for(rsa.generate_private_key(public_exponent=65537, key_size=1024)) is None
    assert lanes_for(rsa.generate_private_key(public_exponent=3, key_size=2048)) is None

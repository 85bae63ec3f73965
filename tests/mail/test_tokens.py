"""Tokens: what we made is read again, anything else is refused."""

from __future__ import annotations

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.tokens import LOCAL_PREFIX, Token, TokenKeys, TokenKind, TokenProblem

KEYS = TokenKeys({0: b"a" * 32, 3: b"b" * 32}, current=3)

tokens = st.builds(
    Token,
    st.sampled_from(list(TokenKind)),
    st.integers(0, 2**32 - 1),
    st.uuids(),
    st.integers(0, 2**16 - 1),
)
in_addresses = tokens.filter(lambda token: token.kind in LOCAL_PREFIX)


@given(tokens)
def test_a_link_says_what_was_put_in(token: Token) -> None:
    assert KEYS.read_link(KEYS.in_link(token), token.kind) == token


@given(in_addresses, st.data())
def test_a_local_part_survives_folding_to_any_case(token: Token, data: st.DataObject) -> None:
    local = KEYS.local_part(token)
    folded = "".join(c.upper() if data.draw(st.booleans()) else c for c in local)

    assert len(local) <= 64
    assert KEYS.read_local_part(folded) == token


@given(tokens, st.integers(0, 45), st.sampled_from("AZaz09-_"))
def test_a_changed_link_is_refused(token: Token, place: int, letter: str) -> None:
    link = KEYS.in_link(token)
    changed = link[:place] + letter + link[place + 1 :]
    if changed != link:
        assert isinstance(KEYS.read_link(changed, token.kind), TokenProblem)


@given(in_addresses, st.integers(2, 56), st.sampled_from("a2z7k"))
def test_a_changed_local_part_is_refused(token: Token, place: int, letter: str) -> None:
    local = KEYS.local_part(token)
    changed = local[:place] + letter + local[place + 1 :]
    if changed != local:
        assert isinstance(KEYS.read_local_part(changed), TokenProblem)


@given(st.text(max_size=80), st.sampled_from(list(TokenKind)))
def test_no_text_raises(text: str, kind: TokenKind) -> None:
    assert isinstance(KEYS.read_link(text, kind), TokenProblem)
    assert isinstance(KEYS.read_local_part(text), TokenProblem)


def test_a_token_of_one_kind_does_not_serve_as_another() -> None:
    token = Token(TokenKind.CLICK, 1, UUID(int=7), 2)

    assert KEYS.read_link(KEYS.in_link(token), TokenKind.UNSUBSCRIBE) is TokenProblem.WRONG_KIND


def test_an_old_key_still_reads_and_a_foreign_key_does_not() -> None:
    token = Token(TokenKind.REPLY, 1, UUID(int=7))
    old = TokenKeys({0: b"a" * 32}, current=0)
    foreign = TokenKeys({9: b"z" * 32}, current=9)

    assert KEYS.read_local_part(old.local_part(token)) == token
    assert KEYS.read_local_part(foreign.local_part(token)) is TokenProblem.UNKNOWN_KEY
    liar = TokenKeys({3: b"z" * 32}, current=3)
    assert KEYS.read_local_part(liar.local_part(token)) is TokenProblem.FORGED


def test_no_key_is_too_short() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        TokenKeys({0: b"short"}, current=0)


def test_a_token_names_no_person() -> None:
    """34 bytes: version, kind, company number, a random key, a slot and the MAC; no address."""
    link = KEYS.in_link(Token(TokenKind.CLICK, 1, UUID(int=7), 2))
    assert len(base64.urlsafe_b64decode(link + "==")) == 34

"""What an arrived message answers."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbound.tie import Candidate, Clue, How, base_subject, decide, find_candidates, read_tokens
from mail.ids import uuid7
from mail.tokens import Token, TokenKeys, TokenKind
from storage.sessions import Sessions
from tests.conftest import MONDAY
from tests.inbound.world import add_firm, add_message


def sent(**changes: object) -> Candidate:
    """A message that went to Ann."""
    row = {
        "id": (key := uuid7()),
        "thread_id": key,
        "recipient": "ann@example.com",
        "subject": "Fresh tea",
        "rfc_message_id": f"{key}@ours.test",
        "created_at": MONDAY,
    } | changes
    return Candidate(**row)  # type: ignore[arg-type]


def test_a_token_beats_all_else() -> None:
    one, two = sent(), sent()
    clue = Clue(
        tokens=(Token(TokenKind.REPLY, 1, one.id),),
        references=(two.rfc_message_id,),
        sender="ann@example.com",
        subject="Re: Fresh tea",
    )
    tie = decide(clue, [one, two])
    assert (tie.answers, tie.how, tie.certainty) == (one.id, How.TOKEN, 1.0)


def test_a_named_message_ties_with_brackets_or_without() -> None:
    one = sent(rfc_message_id="<x@ours.test>")
    tie = decide(Clue(references=("y@else.test", "x@ours.test"), sender="ann@example.com"), [one])
    assert (tie.answers, tie.how) == (one.id, How.REFERENCES)
    other = decide(Clue(references=("x@ours.test",), sender="bob@example.com"), [one])
    assert other.answers == one.id
    assert other.certainty < tie.certainty
    assert "somebody other" in other.reasons[1]


def test_sender_and_subject_tie_if_only_one_thread_fits() -> None:
    old = sent(created_at=MONDAY - timedelta(days=3))
    new = sent(thread_id=old.thread_id)
    clue = Clue(sender="ann@example.com", subject="AW: Re: fresh  TEA")
    assert decide(clue, [old, new]).answers == new.id
    another = sent()
    tie = decide(clue, [old, new, another])
    assert tie.answers is None
    assert set(tie.others) == {old.id, new.id, another.id}


def test_the_sender_alone_is_a_hint_for_a_person() -> None:
    one = sent()
    tie = decide(Clue(sender="ann@example.com", subject="Hello"), [one])
    assert (tie.answers, tie.others) == (None, (one.id,))
    assert decide(Clue(sender="eve@example.com", subject="Fresh tea"), [one]).others == ()
    assert decide(Clue(), []).answers is None


@pytest.mark.parametrize(
    "subject",
    ["Fresh tea", "RE: Fresh tea", "Re[2]: fresh tea", "[EXT] SV: VS: Fresh tea", "回复:Fresh tea"],
)
def test_prefixes_of_many_languages_go(subject: str) -> None:
    assert base_subject(subject) == "fresh tea"


@given(st.text(max_size=2000))
def test_any_subject_has_a_base(subject: str) -> None:
    assert base_subject(base_subject("Re: " + subject)) is not None


def test_tokens_of_others_and_forged_ones_are_said_but_not_used() -> None:
    keys = TokenKeys({0: os.urandom(32)}, current=0)
    strange = TokenKeys({0: os.urandom(32)}, current=0)
    ours = Token(TokenKind.REPLY, 1, uuid7())
    theirs = Token(TokenKind.REPLY, 2, uuid7())
    tokens, problems = read_tokens(
        [
            f"{keys.local_part(ours).upper()}@reply.firm1.test",
            f"<{keys.local_part(theirs)}@reply.firm1.test>",
            f"{strange.local_part(ours)}@reply.firm1.test",
            "sales@firm1.test",
            "",
        ],
        keys,
        1,
    )
    assert tokens == (ours,)
    assert len(problems) == 2
    assert "somebody else" in problems[0]
    assert "signature" in problems[1]


async def test_the_store_is_asked_for_this_company_only(store: Sessions) -> None:
    one, two = await add_firm(store, 1, "ann"), await add_firm(store, 2, "ann")
    clue = Clue(
        tokens=(Token(TokenKind.REPLY, 2, two.message),),
        references=(f"{two.message}@firm2.test",),
        sender="ann@example.com",
        subject="Re: Fresh tea for Ann",
    )
    async with store.read(one.id) as session:
        found = await find_candidates(session, clue, now=MONDAY)
    assert [candidate.id for candidate in found] == [one.message]
    assert decide(clue, found).how is How.SENDER
    async with store.read(two.id) as session:
        assert decide(clue, await find_candidates(session, clue, now=MONDAY)).how is How.TOKEN


async def test_what_came_in_and_what_is_old_is_no_candidate(store: Sessions) -> None:
    firm = await add_firm(store, 1, "ann")
    async with store.begin(firm.id) as session:
        await add_message(session, firm, direction="in")
        await add_message(session, firm, created_at=MONDAY - timedelta(days=400))
    clue = Clue(sender="ann@example.com", subject="x")
    async with store.read(firm.id) as session:
        found = await find_candidates(session, clue, now=MONDAY)
    assert [candidate.id for candidate in found] == [firm.message]

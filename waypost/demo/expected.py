"""Where every role of the cast should end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from waypost.demo import cast


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be true of everybody who plays a role."""

    letters: Sequence[int] = (3,)
    """Letters of the sequence that arrive: the first one and two reminders, unless it ends."""
    answers: int = 0
    suppressed: str = "no"
    follow_up: str = "ended"
    intents: Sequence[str] = ()
    decisions: Sequence[str] = ()
    draft: str = ""
    words: str = ""
    human_click: bool | None = None
    friend: str = ""
    tried_again: bool = False


EXPECTED: dict[str, Expected] = {
    "silent": Expected(human_click=False),
    "interested": Expected(
        letters=(1,),
        answers=1,
        intents=("interested",),
        decisions=("answer",),
        draft="approved by mail",
    ),
    "price": Expected(
        letters=(1,),
        answers=1,
        intents=("question_pricing",),
        decisions=("answer",),
        draft="approved by mail",
        words=cast.EDITED,
    ),
    "product": Expected(
        letters=(1,),
        answers=1,
        intents=("question_product", "question_technical"),
        decisions=("answer",),
        draft="approved by console",
    ),
    "meeting": Expected(
        letters=(1,),
        intents=("meeting_request",),
        decisions=("answer",),
        draft="rejected by mail",
    ),
    "later": Expected(
        letters=(1,), follow_up="paused", intents=("objection_timing",), decisions=("pause",)
    ),
    "no_need": Expected(
        letters=(1,),
        intents=("objection_no_need", "not_interested", "objection_competitor"),
        decisions=("stop", "answer"),
    ),
    "stop": Expected(
        letters=(1,), suppressed="yes", intents=("unsubscribe",), decisions=("suppress",)
    ),
    "angry": Expected(
        letters=(1,), suppressed="yes", intents=("complaint",), decisions=("suppress", "escalate")
    ),
    "wrong_person": Expected(
        letters=(1,), intents=("wrong_person", "referral"), decisions=("refer",)
    ),
    "absent": Expected(intents=("out_of_office",), decisions=("pause",)),
    "one_click": Expected(letters=(1,), suppressed="yes"),
    "clicker": Expected(human_click=True),
    "scanner": Expected(human_click=False),
    "forward_by_mail": Expected(friend="given"),
    "forward_by_form": Expected(friend="given"),
    "shy_forward": Expected(friend="needed"),
    "gone": Expected(letters=(0,), suppressed="yes"),
    "gone_later": Expected(letters=(1,), suppressed="yes"),
    "greylisted": Expected(tried_again=True),
    "complainer": Expected(letters=(1,), suppressed="yes"),
}

"""What one delivery attempt came to, and what follows from it.

Pure: the reply, the time and the schedule go in; the next state comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from mail.smtp_reply import SmtpReply
from mta.client import Handover
from mta.retry import BounceClass, RetrySchedule, State, bounce_class
from mta.routes import Refused
from mta.shaping.verdict import Phase, Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an attempt. `due_at` is set where there will be another one."""

    state: State
    code: int | None = None
    text: str = ""
    enhanced: str = ""
    reason: str = ""
    bounce: BounceClass | None = None
    due_at: datetime | None = None
    host: str = ""
    tls: str = ""
    seconds: float = 0.0
    phase: Phase = "connect"

    @property
    def said(self) -> str:
        """The reply in one line, as lists and logs show it."""
        return " ".join(part for part in (self.enhanced, self.text) if part)[:500]

    @property
    def verdict(self) -> Verdict:
        """The same as far as shaping has to know."""
        return Verdict(
            self.code, self.text, self.enhanced, self.phase, self.state is State.UNCERTAIN
        )


_PHASES: dict[str, Phase] = {
    "EHLO": "connect",
    "MAIL": "mail",
    "RCPT": "rcpt",
    "DATA": "data",
    ".": "done",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What has to be known about a delivery to judge an attempt at it."""

    attempts: int
    expires_at: datetime
    schedule: RetrySchedule

    def after(self, handover: Handover, *, now: datetime) -> Outcome:
        """After a server answered."""
        reply = handover.reply
        phase = _PHASES.get(handover.command, "done")
        told = Outcome(State.DELIVERED, reply.code, reply.text, reply.enhanced, phase=phase)
        if reply.accepted:
            return told
        if reply.permanent:
            kind = bounce_class(reply, at_recipient=handover.command == "RCPT")
            return replace(told, state=State.BOUNCED, bounce=kind, reason=str(kind))
        return self._again(told, State.DEFERRED, "asked to wait", now)

    def after_loss(self, cause: str, *, after_data: bool, now: datetime) -> Outcome:
        """After the connection broke off, or none could be made."""
        if after_data:
            told = Outcome(State.UNCERTAIN, None, cause)
            return self._again(told, State.UNCERTAIN, "the last reply was lost", now)
        return self._again(Outcome(State.DEFERRED, None, cause), State.DEFERRED, "no answer", now)

    def after_refusal(self, refused: Refused) -> Outcome:
        """When there is no server that would take it."""
        reply = SmtpReply(550, refused.reason, refused.enhanced)
        kind = bounce_class(reply, at_recipient=False)
        return Outcome(State.BOUNCED, 550, refused.reason, refused.enhanced, str(kind), kind)

    def _again(self, told: Outcome, state: State, reason: str, now: datetime) -> Outcome:
        due = self.schedule.next_attempt(attempts=self.attempts, expires=self.expires_at, now=now)
        if due is None:
            kind = BounceClass.EXPIRED
            return replace(told, state=State.BOUNCED, bounce=kind, reason=f"{kind}: {reason}")
        return replace(told, state=state, reason=reason, due_at=due)

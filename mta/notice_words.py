"""What a delivery report says to a person: what happened, and what to do about it.

Pure: the action and the enhanced status (RFC 3463) choose the words.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """The sentences of one report; `subject` stands before the subject of the message."""

    subject: str
    headline: str
    happened: str
    advice: str


_FAILED = "Your message could not be delivered. It is not tried again."

_BY_STATUS: tuple[tuple[str, str, str], ...] = (
    (
        "5.1.2",
        "There is no such domain, or it takes no mail: {domain}.",
        "Look at the part of the address behind the @: a letter may be wrong there.",
    ),
    (
        "5.1.10",
        "The domain {domain} takes no mail at all, and says so.",
        "Ask the recipient which address they use.",
    ),
    (
        "5.4.4",
        "No mail server could be found for {domain}.",
        "Look at the part of the address behind the @: a letter may be wrong there.",
    ),
    (
        "5.1",
        "The mail server of {domain} knows no mailbox {recipient}.",
        "Look at the address for a wrong letter, or ask the recipient for the right one.",
    ),
    (
        "5.2.1",
        "The mailbox {recipient} takes no mail any more.",
        "Ask the recipient for another address.",
    ),
    (
        "x.2.2",
        "The mailbox {recipient} is full.",
        "Send the message again in a few days, or tell the recipient in another way.",
    ),
    (
        "5.2.3",
        "The message is larger than {recipient} may receive.",
        "Send it again with smaller attachments, or with a link in their place.",
    ),
    (
        "5.3.4",
        "The message is larger than the mail server of {domain} takes.",
        "Send it again with smaller attachments, or with a link in their place.",
    ),
    (
        "5.6.7",
        "The mail server of {domain} takes no addresses with letters other than a to z.",
        "Ask the recipient for an address in plain letters.",
    ),
    (
        "5.6",
        "The mail server of {domain} did not like the content or the form of the message.",
        "Its words above may say what. Send the message again without that part.",
    ),
    (
        "5.7",
        "The mail server of {domain} refused the message by a rule of its own.",
        "Its words above may say which. Show this report to whoever looks after your mail.",
    ),
)

_OTHER = (
    "The mail server of {domain} refused the message.",
    "Its words above say why. If they tell you nothing, show this report to whoever looks after "
    "your mail.",
)
_EXPIRED = (
    "It was tried again and again, and the mail server of {domain} never took it.",
    "Send it again later, or tell the recipient in another way.",
)
_TAKEN_OUT = (
    "It was taken out of the queue before anybody took it.",
    "Ask whoever looks after your mail, or send it again.",
)
NOT_SENT = "not sent: "
"""How the reason begins where a rule or a person of the company kept mail from being sent."""

_NOT_SENT = (
    "It was never sent, by a rule or a person of your company: {why}.",
    "Ask whoever looks after your mail; the console shows the message.",
)
_STOPPED = (
    "It was not sent, because your company does not write to {recipient} any more.",
    "The console says why, under Suppressions. Only a person can lift that.",
)


def words_for(
    action: str, status: str, reason: str, recipient: str, *, answered: bool = True
) -> Words:
    """The words for an outcome; `recipient` and `reason` are printable and on one line.

    `answered` is false if nobody but us decided it.
    """
    domain = recipient.rpartition("@")[2] or recipient
    if action == "relayed":
        return Words(
            "Handed over",
            "Your message was handed over.",
            f"The mail server of {domain} took it. What it does with it, it may tell you itself.",
            "You need not do anything.",
        )
    if action == "delayed":
        return Words(
            "Delayed",
            "Your message has not been delivered yet. It is still being tried.",
            f"The mail server of {domain} does not take it just now.",
            "You need not do anything. If it can't be delivered at all, you are told again.",
        )
    happened, advice = _chosen(status, reason, answered)
    return Words(
        "Not delivered",
        _FAILED,
        happened.format(domain=domain, recipient=recipient, why=reason.removeprefix(NOT_SENT)),
        f"What you can do: {advice}",
    )


def _chosen(status: str, reason: str, answered: bool) -> tuple[str, str]:
    if reason.startswith(("suppressed", "consent")):
        return _STOPPED
    if reason.startswith(NOT_SENT):
        return _NOT_SENT
    for prefix, happened, advice in _BY_STATUS:
        wanted = prefix.replace("x", status[:1], 1)
        if status == wanted or (wanted.count(".") == 1 and status.startswith(f"{wanted}.")):
            return happened, advice
    if status.startswith("4") or reason.startswith("expired"):
        return _EXPIRED
    return _OTHER if answered else _TAKEN_OUT

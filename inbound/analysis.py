"""Everything that can be known about a message from its bytes alone. Pure; never raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inbound import bounce, complaint, contact_card, forward, kind, parse, quoting, signature
from inbound.auto_reply import AutoReply, find_auto_reply
from inbound.bounce import Bounce
from inbound.complaint import Complaint
from inbound.contact_card import ContactCard
from inbound.forward import Forward
from inbound.kind import Kind, Verdict
from inbound.parse import ParsedMessage
from inbound.unsubscribe import wants_to_stop


@dataclass(frozen=True)
class Analysis:
    """What a message is and says."""

    parsed: ParsedMessage
    verdict: Verdict
    reply_text: str = ""
    """The author's words, with the passages they answer where answers stand in between."""
    own_words: str = ""
    """Only what the author typed, without signature; the text to read intentions from."""
    removed: str = ""
    quote_certainty: float = 1.0
    """How sure it is that nothing of the author's was cut and nothing older was left."""
    signature: str = ""
    disclaimer: str = ""
    forward: Forward | None = None
    bounces: tuple[Bounce, ...] = ()
    complaint: Complaint | None = None
    auto_reply: AutoReply | None = None
    unsubscribe: bool = False
    contact: ContactCard = field(default_factory=ContactCard)
    language: str = ""
    original_message_id: str = ""
    """Message-ID of our message that a bounce or a complaint is about."""
    reasons: tuple[str, ...] = ()


def analyse(
    raw: bytes,
    *,
    sent_text: str | None = None,
    own_addresses: Callable[[str], bool] | None = None,
) -> Analysis:
    """Understands one message.

    `sent_text` is our own message that this one answers, if known: its words are found in the
    quotation whatever the mail program made of them. `own_addresses` says of an address whether it
    is one of ours, so that an answer quoting us is not taken for a forward.
    """
    parsed = parse.parse(raw)
    try:
        return _analyse(parsed, sent_text, own_addresses)
    except Exception as error:  # A message that defeats us is kept, shown and marked as such.
        text = parsed.text
        return Analysis(
            parsed,
            Verdict(Kind.OTHER, 0.0, (f"the analysis failed: {type(error).__name__}",)),
            reply_text=text,
            own_words=text,
            quote_certainty=0.0,
            reasons=(f"the analysis failed: {type(error).__name__}: {error}"[:300],),
        )


def _analyse(
    parsed: ParsedMessage, sent_text: str | None, own: Callable[[str], bool] | None
) -> Analysis:
    complained = complaint.find_complaint(parsed)
    report = None if complained else bounce.find_bounces(parsed)
    verdict = kind.machine_kind(parsed, report, complained)
    split = quoting.split_message(parsed.text, parsed.html, sent_text=sent_text)
    if verdict is not None:
        original = report.original_message_id if report else ""
        return Analysis(
            parsed,
            verdict,
            reply_text=split.reply if verdict.kind is Kind.OTHER else "",
            bounces=report.bounces if report else (),
            complaint=complained,
            original_message_id=complained.original_message_id if complained else original,
            reasons=verdict.reasons,
        )
    passed_on = forward.find_forward(parsed, own)
    words, own_words = split.reply, split.own_words
    if passed_on is not None:
        words = own_words = passed_on.comment
    name = parsed.sender.name if parsed.sender else ""
    signed = signature.split_signature(words, name)
    typed = signature.split_signature(own_words, name)
    automatic = find_auto_reply(parsed, own_words)
    stops, stop = (False, "")
    if passed_on is None and automatic is None:
        stops, stop = wants_to_stop(typed.text, "" if parsed.in_reply_to else parsed.subject)
    verdict = kind.person_kind(parsed, automatic, passed_on, stop)
    language = language_of(signed.text)
    return Analysis(
        parsed,
        verdict,
        reply_text=signed.text,
        own_words=typed.text,
        removed=split.removed,
        quote_certainty=split.certainty,
        signature=signed.signature,
        disclaimer=signed.disclaimer,
        forward=passed_on,
        auto_reply=automatic if verdict.kind is Kind.AUTO_REPLY else None,
        unsubscribe=stops,
        contact=contact_card.read_contact(signed.signature, parsed.sender, language),
        language=language,
        reasons=(*verdict.reasons, *split.reasons),
    )


def language_of(text: str) -> str:
    """The ISO 639-1 code of a text's language; empty if it is too short to tell."""
    if sum(character.isalpha() for character in text[:4000]) < 20:
        return ""
    code: Any = _langid().classify(text[:4000])[0]
    return str(code)


def _langid() -> Any:
    import py3langid  # The model takes a moment to load; only who analyses mail pays for it.

    return py3langid

"""From a generic message to one person's: the same order always gives the same bytes.

Nothing rendered is kept. A crash or a retry composes again, and because dates, boundaries, tokens
and Message-ID follow from the order, the copy is byte for byte the first one.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from uuid import UUID

from mail.tokens import Token, TokenKeys, TokenKind
from mta.enclosures import FILES_SLOT, NO_PARTS, PRESENTATION_SLOT, Encoded
from mta.links import SLOT_NAME
from mta.mime import (
    Skeleton,
    alternative,
    ids_field,
    leaf,
    mailbox_field,
    multipart,
    split_head,
    take_apart,
    text_field,
)
from mta.template import PIXEL_NAME, CompiledTemplate, TemplateKind

GENERATED_KINDS = frozenset({"approval", "system"})

PASSED_ON = frozenset(
    (
        "importance",
        "priority",
        "x-priority",
        "sensitivity",
        "organization",
        "keywords",
        "comments",
        "auto-submitted",
        "list-id",
        "feedback-id",
        "content-language",
    )
)
"""Header fields of submitted mail that go out as they came; all others are ours to write."""


NOT_PASSED_ON = frozenset(
    (
        b"authentication-results",
        b"bcc",
        b"delivered-to",
        b"dkim-signature",
        b"message-id",
        b"received",
        b"reply-to",
        b"return-path",
        b"x-waypost-campaign",
        b"x-waypost-kind",
        b"x-waypost-merge",
    )
)
"""Fields of mail that goes out as it was submitted which do not: ours, or nobody's business."""

MAX_LINE = 998
"""RFC 5322 §2.1.1, without the line end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What makes a message personal."""

    id: UUID
    company: int
    kind: str
    sender: str
    sender_name: str
    recipient: str
    recipient_name: str
    values: Mapping[str, Any]
    rfc_message_id: str
    references: str
    reply_domain: str
    postal_address: str
    created_at: datetime
    subject: str = ""
    reply_token: Token | None = None


@dataclass(frozen=True, slots=True)
class GenericMessage:
    """A compiled template and, for submitted mail, the rest of its MIME structure."""

    key: str
    template: CompiledTemplate
    skeleton: Skeleton | None = None
    encoded: Encoded = NO_PARTS


@dataclass(frozen=True, slots=True)
class PersonalMessage:
    """What goes over the wire, unsigned, and the return path that a bounce comes back to."""

    return_path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes personal messages with this host's keys and links."""

    keys: TokenKeys
    public_url: str

    def compose(self, generic: GenericMessage, letter: Letter) -> PersonalMessage:
        """The bytes for one person. Raises `PermanentError` if a value does not fit."""
        values = self.values(generic.template, letter)
        text = generic.template.text.fill(values)
        html = generic.template.html.fill(values)
        head = b"".join(self._head(generic, letter, values))
        if generic.skeleton is not None:
            return PersonalMessage(
                self.return_path(letter), head + generic.skeleton.fill(text, html)
            )
        parts = []
        if generic.template.has_text:
            parts.append(leaf("text/plain; charset=utf-8", text))
        if generic.template.has_html:
            shown = leaf("text/html; charset=utf-8", html)
            if inline := generic.encoded.inline:
                related = 'multipart/related; type="text/html"'
                shown = multipart(related, f"=_r{generic.key}", [shown, *inline])
            parts.append(shown)
        body = parts[0] if len(parts) == 1 else alternative(f"=_{generic.key}", parts)
        if attached := generic.encoded.attached:
            body = multipart("multipart/mixed", f"=_m{generic.key}", [body, *attached])
        return PersonalMessage(self.return_path(letter), head + body)

    def pass_on(self, raw: bytes, letter: Letter) -> PersonalMessage:
        """A submitted message with its body untouched and only our own fields written anew.

        Who it says it is to stays as it was written, so that all can be answered; Reply-To and
        return path are this recipient's.
        """
        head, body = split_head(raw)
        if not raw.isascii() or _widest(body) > MAX_LINE:  # It would not survive every server.
            parts = take_apart(raw)
            kind = TemplateKind(bulk=False, literal=True)
            template = CompiledTemplate(kind, letter.subject, parts.text, parts.html)
            return self.compose(GenericMessage(letter.id.hex, template, parts), letter)
        reply = self._reply_to(letter)
        message_id = b"Message-ID: " + letter.rfc_message_id.encode("ascii") + b"\r\n"
        kept, has_date = _kept_fields(head)
        date = b"" if has_date else text_field("Date", format_datetime(letter.created_at))
        content = b"".join((kept, reply, date, message_id, b"\r\n", body))
        return PersonalMessage(self.return_path(letter), content)

    def return_path(self, letter: Letter) -> str:
        """Where bounces of this very message come to (VERP with a signed token)."""
        return self._address(letter, TokenKind.BOUNCE)

    def values(self, template: CompiledTemplate, letter: Letter) -> dict[str, Any]:
        """Merge fields, with this person's links where the template is bulk mail."""
        pages: dict[str, Any] = {}
        if template.enclosures.linked:
            pages["files_url"] = self._link("p", letter, TokenKind.PRESENTATION, FILES_SLOT)
        if template.enclosures.presentation:
            shown = self._link("p", letter, TokenKind.PRESENTATION, PRESENTATION_SLOT)
            pages["presentation_url"] = shown
        if not template.kind.bulk:
            return {**letter.values, **pages}
        share = self._link("f", letter, TokenKind.SHARE)
        return {
            "forward_url": share,
            "join_url": self._link("j", letter, TokenKind.SHARE),
            "forward_address": self._address(letter, TokenKind.FORWARD),
            **letter.values,
            # What the law asks for can't be replaced by a merge field of the same name.
            "unsubscribe_url": self._link("u", letter, TokenKind.UNSUBSCRIBE),
            "preferences_url": self._link("preferences", letter, TokenKind.PREFERENCES),
            "postal_address": letter.postal_address,
            **pages,
            PIXEL_NAME: self._link("o", letter, TokenKind.OPEN),
            SLOT_NAME: [
                self._tracked(letter, slot, target) for slot, target in enumerate(template.links)
            ],
        }

    def _tracked(self, letter: Letter, slot: int, target: str) -> str:
        low, own = target.lower(), self.public_url.rstrip("/").lower()
        if low == own or low.startswith((f"{own}/", f"{own}?")):
            return target  # Our own pages know their visitors by their own tokens.
        return self._link("c", letter, TokenKind.CLICK, slot)

    def _link(self, page: str, letter: Letter, kind: TokenKind, slot: int = 0) -> str:
        token = Token(kind, letter.company, letter.id, slot)
        return f"{self.public_url.rstrip('/')}/{page}/{self.keys.in_link(token)}"

    def _address(self, letter: Letter, kind: TokenKind) -> str:
        token = Token(kind, letter.company, letter.id)
        return f"{self.keys.local_part(token)}@{letter.reply_domain}"

    def _reply_to(self, letter: Letter) -> bytes:
        token = letter.reply_token or Token(TokenKind.REPLY, letter.company, letter.id)
        address = f"{self.keys.local_part(token)}@{letter.reply_domain}"
        return mailbox_field("Reply-To", letter.sender_name, address)

    def _head(
        self, generic: GenericMessage, letter: Letter, values: Mapping[str, Any]
    ) -> Iterable[bytes]:
        yield mailbox_field("From", letter.sender_name, letter.sender)
        yield mailbox_field("To", letter.recipient_name, letter.recipient)
        yield self._reply_to(letter)
        yield text_field("Subject", generic.template.subject_for(values))
        yield text_field("Date", format_datetime(letter.created_at))
        yield ids_field("Message-ID", [letter.rfc_message_id])
        if ids := letter.references.split():
            yield ids_field("In-Reply-To", ids[-1:])
            yield ids_field("References", ids)
        if generic.template.kind.bulk:
            https = self._link("u", letter, TokenKind.UNSUBSCRIBE)
            mailto = f"mailto:{self._address(letter, TokenKind.UNSUBSCRIBE)}?subject=unsubscribe"
            yield ids_field("List-Unsubscribe", [f"<{https}>,", f"<{mailto}>"])
            yield text_field("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
        if letter.kind in GENERATED_KINDS:
            yield text_field("Auto-Submitted", "auto-generated")
        if generic.skeleton is not None:
            for name, value in generic.skeleton.fields:
                if name.lower() in PASSED_ON:
                    yield text_field(name, value)
        yield b"MIME-Version: 1.0\r\n"


def _kept_fields(head: bytes) -> tuple[bytes, bool]:
    """The fields that go out as they were written, and whether a date is among them."""
    kept: list[bytes] = []
    keep = has_date = False
    for line in head.split(b"\r\n"):
        if line[:1] not in (b" ", b"\t"):
            name = line.partition(b":")[0].strip().lower()
            keep = name not in NOT_PASSED_ON
            has_date = has_date or name == b"date"
        if keep:
            kept.append(line + b"\r\n")
    return b"".join(kept), has_date


def _widest(body: bytes) -> int:
    return max(map(len, body.split(b"\r\n")), default=0)

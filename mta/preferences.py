"""What people chose about bulk mail (topics, how often, a pause), and what the company allows.

All of it is asked at the last gate. `refusal` decides and is pure; `wishes_for` gathers its facts
for many messages with few queries. The address may be suppressed for a part of the bulk mail only
(`topic:KEY`, `campaign:NAME`); suppression of everything is the gate's own matter.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mail.errors import PermanentError
from mta.outbound import Outbound
from storage.sessions import company_of, insert_new
from storage.tables import (
    Company,
    Contact,
    Delivery,
    Message,
    Preference,
    Suppression,
    Topic,
    TopicChoice,
)

BULK_KINDS = frozenset({"bulk", "invitation"})
"""Kinds that topics, pauses and scopes are about; the frequency cap counts `bulk` alone."""

EVERY_DAYS = (0, 7, 30)
"""What a person may choose: as often as the company writes, once a week, once a month."""

PAUSES = (0, 30, 90, 180)
"""Days that a person may pause for; 0 ends a pause."""

MAX_TOPICS = 50
MAX_RECENT = 400
"""Days and mails that a cap may name, so that counting stays cheap."""

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `mails` bulk mails to one person in `days` days."""

    mails: int
    days: int

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> Cap | None:
        """As a company's policy has it."""
        kept = policy.get("bulk_cap")
        return cls(int(kept["mails"]), int(kept["days"])) if isinstance(kept, dict) else None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is known about one bulk message. `recent` are the times of bulk mail to this person."""

    kind: str
    postal_address: bool = True
    scoped: Mapping[str, str] | None = None
    campaign: str = ""
    topic: str = ""
    wanted: bool = True
    paused_until: datetime | None = None
    every_days: int = 0
    cap: Cap | None = None
    recent: tuple[datetime, ...] = ()


def refusal(wishes: Wishes, *, now: datetime) -> str:
    """Empty if a bulk message may go, otherwise why it may not."""
    if wishes.kind not in BULK_KINDS:
        return ""
    if not wishes.postal_address:
        return "the company has no postal address"
    for scope in (f"topic:{wishes.topic}", f"campaign:{wishes.campaign}"):
        if not scope.endswith(":") and wishes.scoped and scope in wishes.scoped:
            return f"suppressed: {wishes.scoped[scope]} ({scope})"
    if not wishes.wanted:
        return f"topic not wanted: {wishes.topic}"
    if wishes.paused_until is not None and now < wishes.paused_until:
        return f"paused until {wishes.paused_until:%Y-%m-%d}"
    if wishes.kind != "bulk":
        return ""
    caps = [wishes.cap] if wishes.cap else []
    if wishes.every_days:
        caps.append(Cap(1, wishes.every_days))
    for cap in caps:
        since = now - timedelta(days=cap.days)
        if sum(at > since for at in wishes.recent) >= cap.mails:
            return f"cap: {cap.mails} in {cap.days} days"
    return ""


def topic_of(campaign: str, topics: Iterable[Topic]) -> Topic | None:
    """The topic that a campaign belongs to: by its own name first, then by pattern."""
    known = [topic for topic in topics if topic.retired_at is None]
    for topic in known:
        if campaign == topic.key:
            return topic
    for topic in known:
        if any(fnmatch.fnmatchcase(campaign, str(pattern)) for pattern in topic.campaigns):
            return topic
    return None


def unsubscribe_scope(policy: Mapping[str, Any], campaign: str, topics: Iterable[Topic]) -> str:
    """What one click ends: everything, or by the company's policy the topic of the message."""
    if policy.get("unsubscribe") != "topic":
        return ""
    topic = topic_of(campaign, topics)
    return f"topic:{topic.key}" if topic else ""


async def wishes_for(
    session: AsyncSession, messages: Sequence[Outbound], *, now: datetime
) -> dict[UUID, Wishes]:
    """The facts about those messages that are bulk, by message id.

    A second message to the same person in `messages` counts the first as sent.
    """
    bulk = [message for message in messages if message.kind in BULK_KINDS]
    if not bulk:
        return {}
    owners = {message.company_id for message in bulk}
    firms = {
        row.id: row
        for row in await session.execute(
            select(Company.id, Company.policy, Company.postal_address).where(Company.id.in_(owners))
        )
    }
    topics: dict[UUID, list[Topic]] = defaultdict(list)
    for topic in await session.scalars(select(Topic).where(Topic.company_id.in_(owners))):
        topics[topic.company_id].append(topic)
    people = {message.contact_id for message in bulk if message.contact_id is not None}
    choices: dict[tuple[UUID, UUID], bool] = {}
    if any(topics.values()):
        asked = select(TopicChoice).where(TopicChoice.contact_id.in_(people))
        for choice in await session.scalars(asked):
            choices[choice.contact_id, choice.topic_id] = choice.wanted
    asked_often = select(Preference).where(Preference.contact_id.in_(people))
    chosen = {kept.contact_id: kept for kept in await session.scalars(asked_often)}
    caps = {key: Cap.of(firm.policy or {}) for key, firm in firms.items()}
    recent = await _recent(session, bulk, people, chosen, caps, now)
    found = {}
    for message in bulk:
        person, firm = message.contact_id, firms.get(message.company_id)
        of = topic_of(message.campaign, topics[message.company_id])
        kept = chosen.get(person) if person else None
        found[message.id] = Wishes(
            kind=message.kind,
            postal_address=bool(firm and firm.postal_address.strip()),
            campaign=message.campaign,
            topic=of.key if of else "",
            wanted=choices.get((person, of.id), of.chosen) if person and of else True,
            paused_until=kept.paused_until if kept else None,
            every_days=kept.every_days if kept else 0,
            cap=caps.get(message.company_id),
            recent=tuple(recent[person]) if person else (),
        )
        if person and message.kind == "bulk" and not refusal(found[message.id], now=now):
            recent[person].append(now)
    return found


async def _recent(
    session: AsyncSession,
    bulk: Sequence[Outbound],
    people: set[UUID],
    chosen: Mapping[UUID, Preference],
    caps: Mapping[UUID, Cap | None],
    now: datetime,
) -> dict[UUID, list[datetime]]:
    """When bulk mail went to people for whom that counts; what is on its way counts as now."""
    capped = {m.contact_id for m in bulk if caps.get(m.company_id)} - {None}
    counted = capped | {person for person, kept in chosen.items() if kept.every_days}
    sent: dict[UUID, list[datetime]] = defaultdict(list)
    if not counted:
        return sent
    days = max(
        [cap.days for cap in caps.values() if cap] + [kept.every_days for kept in chosen.values()]
    )
    query = (
        select(Message.contact_id, Delivery.finished_at)
        .join(Delivery, Delivery.message_id == Message.id)
        .where(
            Message.contact_id.in_(counted & people),
            Message.kind == "bulk",
            Message.id.not_in([message.id for message in bulk]),
            Delivery.state.in_(["delivered", "sending", "uncertain"]),
            or_(
                Delivery.finished_at.is_(None),
                Delivery.finished_at > now - timedelta(days=days),
            ),
        )
    )
    for person, at in await session.execute(query):
        if person is not None:
            sent[person].append(at or now)
    return sent


def with_scopes(wishes: Wishes, scoped: Mapping[str, str]) -> Wishes:
    """The facts with what the address is suppressed for: scope and reason."""
    return replace(wishes, scoped=scoped) if scoped else wishes


# What people and the company's people change.


async def live_topics(session: AsyncSession) -> list[Topic]:
    """The topics of the session's company that people may choose, by key."""
    found = select(Topic).where(Topic.company_id == company_of(session), Topic.retired_at.is_(None))
    return list(await session.scalars(found.order_by(Topic.key)))


async def set_topic(
    session: AsyncSession,
    key: str,
    *,
    names: Mapping[str, Any],
    campaigns: Sequence[str] = (),
    chosen: bool = True,
    now: datetime,
) -> Topic:
    """Adds a topic or changes it. Raises `PermanentError` naming what is wrong.

    `names` is `{"en": {"name": …, "description": …}, …}`.
    """
    if not _KEY.fullmatch(key):
        raise PermanentError(
            f'topic: "{key[:80]}" may have small letters, digits, ".", "_" and "-", 64 at most.'
        )
    clean: dict[str, dict[str, str]] = {}
    for language, words in names.items():
        if not _LANGUAGE.fullmatch(str(language)) or not isinstance(words, Mapping):
            raise PermanentError(f'topic {key}: "{str(language)[:20]}" is no language like "en".')
        name = " ".join(str(words.get("name", "")).split())
        description = " ".join(str(words.get("description", "")).split())
        if not 1 <= len(name) <= 100 or len(description) > 300:
            raise PermanentError(
                f"topic {key}: a name has 1 to 100 characters, a description 300 at most."
            )
        clean[language] = {"name": name, "description": description}
    if not clean:
        raise PermanentError(f"topic {key}: has no name. Give one with --name.")
    if len(campaigns) > 50 or any(not 1 <= len(one) <= 200 for one in campaigns):
        raise PermanentError(f"topic {key}: at most 50 campaigns of 1 to 200 characters.")
    if len(await live_topics(session)) >= MAX_TOPICS:
        raise PermanentError(f"A company has {MAX_TOPICS} topics at most. Remove one first.")
    row = {"key": key, "names": {}, "campaigns": [], "created_at": now}
    await insert_new(session, Topic, [row], unless=["company_id", "key"])
    found = select(Topic).where(Topic.company_id == company_of(session), Topic.key == key)
    topic = (await session.scalars(found)).one()
    topic.names, topic.campaigns = clean, list(campaigns)
    topic.chosen, topic.retired_at = chosen, None
    await session.flush()
    return topic


@dataclass(frozen=True, slots=True)
class Choices:
    """What one person has chosen; `topics` by key."""

    topics: Mapping[str, bool]
    every_days: int
    paused_until: datetime | None


async def choices_of(session: AsyncSession, contact: UUID) -> Choices:
    """What this contact of the session's company has chosen so far, defaults filled in."""
    made = select(TopicChoice).where(TopicChoice.contact_id == contact)
    wanted = {choice.topic_id: choice.wanted for choice in await session.scalars(made)}
    topics = {t.key: wanted.get(t.id, t.chosen) for t in await live_topics(session)}
    kept = await session.scalar(select(Preference).where(Preference.contact_id == contact))
    if kept is None:
        return Choices(topics, 0, None)
    return Choices(topics, kept.every_days, kept.paused_until)


async def choose(
    session: AsyncSession, contact: Contact, choices: Choices, *, now: datetime
) -> dict[str, Any]:
    """Keeps what a person chose; returns what that changed, for the event."""
    before = await choices_of(session, contact.id)
    changed: dict[str, Any] = {}
    for topic in await live_topics(session):
        wanted = bool(choices.topics.get(topic.key, False))
        if wanted == before.topics[topic.key]:
            continue
        changed[f"topic:{topic.key}"] = wanted
        row = {
            "contact_id": contact.id,
            "topic_id": topic.id,
            "wanted": wanted,
            "changed_at": now,
        }
        key = ["company_id", "contact_id", "topic_id"]
        if not await insert_new(session, TopicChoice, [row], unless=key):
            of = TopicChoice.contact_id == contact.id, TopicChoice.topic_id == topic.id
            kept = (await session.scalars(select(TopicChoice).where(*of))).one()
            kept.wanted, kept.changed_at = wanted, now
        if wanted:  # Somebody who asks for a topic again has lifted their own stop of it.
            stop = select(Suppression).where(
                Suppression.address == contact.address,
                Suppression.scope == f"topic:{topic.key}",
                Suppression.reason == "unsubscribed",
            )
            for row_of in await session.scalars(stop):
                await session.delete(row_of)
    if choices.every_days != before.every_days:
        changed["every_days"] = choices.every_days
    if choices.paused_until != before.paused_until:
        until = choices.paused_until
        changed["paused_until"] = until.isoformat() if until else ""
    if "every_days" in changed or "paused_until" in changed:
        row = {"contact_id": contact.id, "changed_at": now, "paused_until": None}
        await insert_new(session, Preference, [row], unless=["company_id", "contact_id"])
        of_them = select(Preference).where(Preference.contact_id == contact.id)
        often = (await session.scalars(of_them)).one()
        often.every_days, often.paused_until = choices.every_days, choices.paused_until
        often.changed_at = now
    await session.flush()
    return changed

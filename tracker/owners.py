"""Whose contact somebody is: who gets the tasks, and in whose name we write."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from storage.tables import Contact, User


async def rep_of(
    session: AsyncSession, contact: Contact | None, *, otherwise: UUID | None = None
) -> User | None:
    """The contact's owner, else `otherwise` (an enrolment's owner), else the first company owner.

    People whose account is disabled are passed over.
    """
    for wanted in (contact.owner_id if contact else None, otherwise):
        if wanted is not None:
            user = await session.get(User, wanted)
            if user is not None and user.disabled_at is None:
                return user
    first = select(User).where(User.role == "owner", User.disabled_at.is_(None))
    return (await session.scalars(first.order_by(User.created_at, User.id).limit(1))).first()

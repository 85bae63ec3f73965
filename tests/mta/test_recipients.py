"""Contacts are made once; who may not be written to stays so."""

from __future__ import annotations

import pytest

from mail.errors import PermanentError
from mta.recipients import ensure_contact, is_suppressed, may_be_mailed, suppress
from storage.sessions import Sessions
from storage.tables import Consent
from tests.conftest import MONDAY
from tests.mta.house import Tenant


async def test_a_contact_is_made_once_and_only_its_gaps_are_filled(
    store: Sessions, acme: Tenant
) -> None:
    async with store.begin(acme.id) as session:
        first = await ensure_contact(
            session, "Ann@Customer.TEST", fields={"city": "Rome"}, origin={"by": "a"}, now=MONDAY
        )
    async with store.begin(acme.id) as session:
        again = await ensure_contact(
            session,
            "ann@customer.test",
            name="Ann\r\nBcc: x",
            fields={"city": "Oslo", "shoe": 39},
            origin={"by": "b"},
            now=MONDAY,
        )
    assert first.id == again.id
    assert again.name == "Ann Bcc: x"
    assert again.fields == {"city": "Rome", "shoe": 39}
    assert again.origin == {"by": "a"}


async def test_suppression_is_for_one_company(store: Sessions, acme: Tenant, rival: Tenant) -> None:
    async with store.begin(acme.id) as session:
        assert await suppress(session, "Ann@customer.test", "unsubscribed", now=MONDAY)
        assert not await suppress(session, "ann@customer.test", "bounced", now=MONDAY)
        ann = await ensure_contact(session, "ann@customer.test", origin={}, now=MONDAY)
        assert await may_be_mailed(session, ann) == "suppressed: unsubscribed"
    async with store.read(rival.id) as session:
        assert not await is_suppressed(session, "ann@customer.test")


async def test_consent_decides(store: Sessions, acme: Tenant) -> None:
    async with store.begin(acme.id) as session:
        ann = await ensure_contact(session, "ann@customer.test", origin={}, now=MONDAY)
        assert await may_be_mailed(session, ann) == ""
        consent = Consent(contact_id=ann.id, state="needed", changed_at=MONDAY)
        session.add(consent)
        await session.flush()
        assert await may_be_mailed(session, ann) == "consent needed"
        consent.state = "given"
        await session.flush()
        assert await may_be_mailed(session, ann) == ""


async def test_nonsense_is_no_address(store: Sessions, acme: Tenant) -> None:
    with pytest.raises(PermanentError, match="not a mail address"):
        async with store.begin(acme.id) as session:
            await ensure_contact(session, "ann at customer", origin={}, now=MONDAY)

"""Items have versions, nothing is overwritten, and each company has a library of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from content import library
from mail.errors import PermanentError
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.conftest import MONDAY
from tests.mta.house import make_tenant

PRICE: dict[str, Any] = {
    "key": "price",
    "kind": "passage",
    "title": "What it costs",
    "text": "It costs 14,900 euros.",
    "descriptors": {"need": "question_pricing"},
    "asks": ["How much is it?"],
}


async def test_a_change_is_a_new_version_and_the_same_again_is_none(
    store: Sessions, seal: Seal
) -> None:
    acme = await make_tenant(store, seal, "acme", 1)
    async with store.begin(acme.id) as session:
        first = await library.add_item(session, **PRICE, now=MONDAY)
        again = await library.add_item(session, **PRICE, now=MONDAY)
        assert again.id == first.id
        later = MONDAY + timedelta(days=1)
        changed = await library.add_item(session, **{**PRICE, "text": "It costs 1."}, now=later)
        german = await library.add_item(
            session, **{**PRICE, "text": "Es kostet 1.", "language": "de"}, now=later
        )
    async with store.read(acme.id) as session:
        assert [item.version for item in await library.versions(session, "price")] == [3, 2, 1]
        assert {item.id for item in await library.passages(session)} == {changed.id, german.id}
        in_use = await library.get_item(session, "price")
        assert in_use is not None
        assert in_use.id == changed.id
        in_german = await library.get_item(session, "price", language="de")
        assert in_german is not None
        assert in_german.id == german.id
        kept = await library.get_version(session, "price", 1)
        assert kept is not None
        assert kept.text == PRICE["text"]
        assert kept.retired_at == later
    async with store.begin(acme.id) as session:
        assert await library.retire_item(session, "price", language="de", now=MONDAY) == 1
        assert [item.language for item in await library.live_items(session)] == ["en"]
        assert await library.retire_item(session, "price", now=MONDAY) == 1
        assert await library.get_item(session, "price") is None


async def test_items_are_found_by_words_and_descriptors_in_their_company(
    store: Sessions, seal: Seal
) -> None:
    acme, rival = (
        await make_tenant(store, seal, "acme", 1),
        await make_tenant(store, seal, "rival", 2),
    )
    async with store.begin(acme.id) as session:
        price = await library.add_item(session, **PRICE, now=MONDAY)
        noise = await library.add_item(
            session, key="noise", kind="passage", title="Noise", text="Costs no sleep.", now=MONDAY
        )
    async with store.read(acme.id) as session:
        both = await library.search(session, "costs")
        assert [item.id for item in both] == [price.id, noise.id]
        described = await library.search(session, "need:question_pricing")
        assert [item.id for item in described] == [price.id]
        assert await library.search(session, "need:question_legal") == []
        assert await library.search(session, "costs", kind="mail") == []
        assert await library.search(session, "costs", language="de") == []
        assert len(await library.search(session, "", limit=1)) == 1
    async with store.read(rival.id) as session:
        assert await library.search(session, "costs") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": "No Spaces"}, "key:"),
        ({"kind": "poem"}, "is not one of mail, passage"),
        ({"title": " "}, "can't be empty"),
        ({"text": "x" * 300_000}, "longer than 256 KiB"),
        ({"text": "Hello {{ name }}"}, "no merge fields"),
        ({"language": "English"}, "is not a tag"),
        ({"asks": ["x" * 501]}, "asks are at most"),
    ],
)
async def test_what_can_not_be_an_item_is_refused_with_its_reason(
    store: Sessions, seal: Seal, change: dict[str, Any], says: str
) -> None:
    acme = await make_tenant(store, seal, "acme", 1)
    with pytest.raises(PermanentError) as refused:
        async with store.begin(acme.id) as session:
            await library.add_item(session, **{**PRICE, **change}, now=MONDAY)
    assert says in refused.value.public

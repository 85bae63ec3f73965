"""An order is written once, completely, and wrong ones say what is wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from bus.events import Kind
from mail.errors import PermanentError
from mta.submission import find_order, submit
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Delivery, Event, Message, Template
from tests.conftest import MONDAY
from tests.mta.house import Tenant, order


async def test_an_order_becomes_one_message_one_delivery_and_one_event(
    store: Sessions, acme: Tenant
) -> None:
    for _ in range(2):
        async with store.begin(acme.id) as session:
            message = await submit(session, order(), now=MONDAY)
    assert message.subject == "Hello Ann"
    assert message.rfc_message_id == f"<{message.id}@acme.test>"
    assert message.thread_id == message.id
    async with store.read(acme.id) as session:
        assert await session.scalar(select(func.count(Message.id))) == 1
        delivery = (await session.scalars(select(Delivery))).one()
        events = (await session.scalars(select(Event))).all()
    assert (delivery.state, delivery.destination) == ("queued", "customer.test")
    assert [event.kind for event in events] == [Kind.MESSAGE_QUEUED]


async def test_a_campaign_has_one_template_row_and_its_links_are_counted(
    store: Sessions, acme: Tenant
) -> None:
    html = '{{ name }} <a href="https://a.test/?x=1&amp;y=2">a</a> <a href="mailto:b@c.test">b</a>'
    async with store.begin(acme.id) as session:
        for number in range(3):
            await submit(session, order(f"k{number}", kind="bulk", html=html), now=MONDAY)
    async with store.read(acme.id) as session:
        template = (await session.scalars(select(Template))).one()
    assert template.links == ["https://a.test/?x=1&y=2", "https://shop.acme.test/a"]


async def test_the_same_key_in_another_company_is_another_order(
    store: Sessions, acme: Tenant, rival: Tenant
) -> None:
    async with store.begin(acme.id) as session:
        first = await submit(session, order(), now=MONDAY)
    async with store.begin(rival.id) as session:
        assert await find_order(session, "k1") is None
        with pytest.raises(PermanentError, match="not a domain of this company"):
            await submit(session, order(), now=MONDAY)
    assert first.company_id == acme.id


async def test_an_order_for_later_is_due_later(store: Sessions, acme: Tenant) -> None:
    later = MONDAY + timedelta(days=2)
    async with store.begin(acme.id) as session:
        await submit(session, order(not_before=later), now=MONDAY)
    async with store.read(EVERY_COMPANY) as session:
        delivery = (await session.scalars(select(Delivery))).one()
    assert delivery.due_at == later
    assert delivery.expires_at == later + timedelta(days=5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"text": "one\n\nDear {{ first_name }}"}, "text, line 3: 'first_name' has no value"),
        ({"subject": "Hi {% if %}"}, "subject, line 1: "),
        ({"text": "{% set a = 1 %}"}, "text, line 1: templates have no assign"),
        ({"text": "{{ name.upper() }}"}, "text, line 1: templates have no call"),
        ({"text": "{{ name * 9999999 }}"}, "text, line 1: templates have no mul"),
        ({"text": "{{ name|center(99999999) }}"}, "no filter is called center"),
        ({"text": "{{ name.__class__ }}"}, "text, line 1: "),
        ({"html": "<b>\n{{ missing }}"}, "html, line 2: 'missing' has no value"),
        ({"recipient": "nobody"}, 'recipient: "nobody" is not a mail address'),
        ({"kind": "spam"}, 'kind: "spam" is none of'),
        ({"values": {"x": object()}}, "values: can't be kept as JSON"),
        ({"values": {"x": "y" * 70_000}}, "values: are larger than 64 KiB"),
        ({"text": "x" * 600_000}, "text: is longer than 512 KiB"),
        ({"text": "{{" + "(" * 5000 + "name"}, "text"),
        ({"key": ""}, "key: must have"),
    ],
)
async def test_a_wrong_order_says_what_is_wrong_and_leaves_nothing(
    store: Sessions, acme: Tenant, changes: dict[str, object], says: str
) -> None:
    arguments = {"key": "k1", **changes}
    with pytest.raises(PermanentError) as refused:
        async with store.begin(acme.id) as session:
            await submit(session, order(**arguments), now=MONDAY)  # type: ignore[arg-type]
    assert says in refused.value.public
    async with store.read(acme.id) as session:
        assert await session.scalar(select(func.count(Message.id))) == 0
        assert await session.scalar(select(func.count(Template.id))) == 0


async def test_an_answer_that_quotes_template_syntax_is_sent_as_it_stands(
    store: Sessions, acme: Tenant
) -> None:
    wanted = order(kind="answer", subject="Re: {{ x }}", text="> {% raw %} {{{ y\n", values={})
    async with store.begin(acme.id) as session:
        message = await submit(session, wanted, now=MONDAY)
    assert message.subject == "Re: {{ x }}"


async def test_a_subject_can_not_bring_headers_with_it(store: Sessions, acme: Tenant) -> None:
    wanted = order(subject="Hi {{ name }}", values={"name": "x\r\nBcc: all@customer.test"})
    async with store.begin(acme.id) as session:
        message = await submit(session, wanted, now=MONDAY)
    assert message.subject == "Hi x Bcc: all@customer.test"

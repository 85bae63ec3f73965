"""Mail that apps and reps hand in at the demo's doors: the HTTP API and authenticated SMTP."""

from __future__ import annotations

import asyncio
import json
from email.message import EmailMessage
from email.policy import SMTP

from mail.errors import PermanentError
from waypost.demo import cast
from waypost.demo.post import fetch, submit
from waypost.demo.stage import Stage
from waypost.demo.world import World

API_ORDER = "Your order {{ order }} is on its way, {{ contact.first_name }}"


async def place_orders(stage: Stage, world: World) -> None:
    """One generic message for two customers by the API, one by SMTP from Ann."""
    await asyncio.gather(_by_api(stage), _by_smtp(stage, world))


async def _by_api(stage: Stage) -> None:
    body = {
        "sender": f"ann@{cast.DOMAIN}",
        "sender_name": "Ann Berger",
        "subject": API_ORDER,
        "text": "Hello {{ contact.first_name }}, order {{ order }} leaves us today.",
        "recipients": [
            {"address": person.address, "name": person.name, "values": {"order": str(1001 + n)}}
            for n, person in enumerate(cast.customers()[:2])
        ],
    }
    headers = {
        "Authorization": f"Bearer {stage.api_token}",
        "Content-Type": "application/json",
        "Idempotency-Key": "demo-orders",
    }
    for _ in range(2):  # An app that is not sure asks twice; the key makes it one.
        status, _, text = await fetch(
            f"{stage.settings.console.url}/api/v1/messages",
            method="POST",
            form=json.dumps(body).encode(),
            headers=headers,
        )
        if status != 202:
            raise PermanentError(f"the API answered {status}: {text[:500]}")


async def _by_smtp(stage: Stage, world: World) -> None:
    ann = f"ann@{cast.DOMAIN}"
    customer = cast.customers()[2]
    message = EmailMessage()
    message["From"] = f"Ann Berger <{ann}>"
    message["To"] = customer.address
    message["Subject"] = "The plan for your building"
    message["Message-ID"] = f"<plan.{customer.address.partition('@')[0]}@{cast.DOMAIN}>"
    message.set_content("Hello,\n\nhere is the plan we spoke about.\n\nAnn\n")
    message.add_attachment(
        b"%PDF-1.4 a small plan", maintype="application", subtype="pdf", filename="plan.pdf"
    )
    raw = message.as_bytes(policy=SMTP)
    answer = await submit(world.ports.submission, stage.logins[ann], ann, [customer.address], raw)
    if answer[0] != 250:
        raise PermanentError(f"submission answered {answer[0]} {answer[1]}")

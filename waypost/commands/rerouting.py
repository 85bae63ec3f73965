"""`waypost queue reroute`, `unroute` and `rerouted`: mail that people send elsewhere."""

from __future__ import annotations

from argparse import Namespace

from mta import overrides
from storage.sessions import EVERY_COMPANY
from waypost.commands.queue import chosen_company, fitted, print_json, span_of, who
from waypost.commands.running import run
from waypost.wiring import Appliance


def reroute(chosen: Namespace) -> int:
    """Sends a domain's mail to a server of the operator's choice for a while."""
    span, host = span_of(chosen), overrides.host_of(chosen.host)

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now, company = parts.clock(), await chosen_company(parts, chosen)
        until = now + span
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            await overrides.add(
                session, chosen.domain, host, company=company, until=until,
                reason=chosen.reason, by=who(), now=now,
            )  # fmt: skip
        print(
            f"Until {until:%Y-%m-%d %H:%M:%S} UTC mail for {chosen.domain} goes to "
            f"{host.name}, port {host.port}."
        )
        return 0

    return run(chosen, work)


def unroute(chosen: Namespace) -> int:
    """Ends it early."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now, company = parts.clock(), await chosen_company(parts, chosen)
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            await overrides.end(session, chosen.domain, company=company, now=now)
        print(f"Mail for {chosen.domain} goes its own way again.")
        return 0

    return run(chosen, work)


def show(chosen: Namespace) -> int:
    """What is sent elsewhere, by whom and until when."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.read(EVERY_COMPANY) as session:
            rows = await overrides.in_force(session, now=parts.clock())
        if chosen.json:
            names = (
                "destination", "of_company", "host", "port", "until", "reason", "by", "created_at",
            )  # fmt: skip
            print_json([{name: getattr(row, name) for name in names} for row in rows])
            return 0
        heads = ("domain", "goes to", "company", "until (UTC)", "by", "why")
        lines = [
            (r.destination, f"{r.host}:{r.port}", r.of_company or "all", r.until, r.by, r.reason)
            for r in rows
        ]
        fitted(heads, lines, "Nothing is sent elsewhere.")
        return 0

    return run(chosen, work)

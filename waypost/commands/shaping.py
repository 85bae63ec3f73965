"""`waypost shaping`: how much mail a destination gets, why, and how to stop or start it."""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta

from config.values import parse_duration
from mail.errors import PermanentError
from mta.shaping.explain import explained, learnt_words
from mta.shaping.files import shaping
from mta.shaping.site import explain as site_and_why
from mta.shaping.store import learnt, orders, resume_site, suspend_site
from storage.sessions import EVERY_COMPANY
from waypost.commands.running import run
from waypost.commands.tables import table
from waypost.wiring import Appliance


def explain(chosen: Namespace) -> int:
    """Which rules hold for a domain, why, and what was learnt."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        rules = shaping(parts.settings.shaping.rules)
        domain = chosen.domain.rpartition("@")[2].rstrip(".").lower()
        hosts = [one.exchange for one in await parts.resolver.mx(domain) if one.exchange != "."]
        processes = parts.settings.engine.mail_processes
        print("\n".join(explained(rules, domain, hosts, processes=processes)))
        if parts.settings.relay.smart_host:
            print(f"  But all mail goes through {parts.settings.relay.smart_host}, see [relay].")
        site, _ = site_and_why(rules, domain, hosts)
        async with parts.sessions.read(EVERY_COMPANY) as session:
            rows = await learnt(session, site)
            said = [one for one in await orders(session, parts.clock()) if one.site == site]
        for row in rows:
            print(f"  {learnt_words(row.process, row.state)}")
        for order in said:
            if order.until is not None:
                when = order.until.strftime("%Y-%m-%d %H:%M:%S")
                print(f"  suspended by people until {when} UTC: {order.reason}")
        return 0

    return run(chosen, work)


def show(chosen: Namespace) -> int:
    """Sites that something was learnt about, and what people suspended."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.read(EVERY_COMPANY) as session:
            rows = await learnt(session)
            said = await orders(session, parts.clock())
        lines: list[tuple[object, ...]] = []
        for one in said:
            if one.until is not None:
                until = one.until.strftime("%Y-%m-%d %H:%M:%S")
                what = f"suspended until {until} UTC: {one.reason}"
                lines.append((one.site, "people", one.given_at, what))
        lines += [
            (row.site, row.process, row.updated_at, learnt_words("", row.state)) for row in rows
        ]
        table(("site", "who", "since (UTC)", "what"), lines, "Nothing stands out at any site.")
        return 0

    return run(chosen, work)


def suspend(chosen: Namespace) -> int:
    """Nothing goes to a site for a while."""
    try:
        span = parse_duration(chosen.span)
    except ValueError as error:
        raise PermanentError(f"--for {error}.") from None
    assert isinstance(span, timedelta)

    async def work(parts: Appliance, chosen: Namespace) -> int:
        now = parts.clock()
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            await suspend_site(
                session, chosen.site, until=now + span, reason=chosen.reason, now=now
            )
        until = (now + span).strftime("%Y-%m-%d %H:%M:%S")
        print(f"Nothing goes to {chosen.site} until {until} UTC; running processes follow at once.")
        return 0

    return run(chosen, work)


def resume(chosen: Namespace) -> int:
    """Mail to a site goes on, whoever or whatever stopped it."""

    async def work(parts: Appliance, chosen: Namespace) -> int:
        async with parts.sessions.begin(EVERY_COMPANY) as session:
            await resume_site(session, chosen.site, now=parts.clock())
        print(f"Mail to {chosen.site} goes on.")
        return 0

    return run(chosen, work)

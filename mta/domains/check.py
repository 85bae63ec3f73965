"""Looks every record of a domain up and judges it.

The judgements are pure; here are the look-ups, eight at a time, and which record is judged how.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mta.domains.answers import Answers, Names, settle
from mta.domains.dkim_record import judge_key
from mta.domains.findings import Finding, Judge, State
from mta.domains.host_records import judge_host, judge_mx, judge_reverse, judge_web_name
from mta.domains.policy_records import judge_dmarc, judge_versioned
from mta.domains.records import Machine, Need, Pair, Purpose, Record, machine_records
from mta.domains.spf_judgement import judge_spf
from mta.resolver import Look

AT_ONCE = 8

SECONDS = 12.0
"""For everything that one record leads to; name servers that do not answer cost time."""

Judgement = Callable[[Answers], Finding]


async def find_addresses(host: str, names: Names) -> tuple[str, ...]:
    """What DNS says about the host name, IPv4 first; none if it does not tell."""
    looks = [await names.look(host, kind) for kind in ("A", "AAAA")]
    return tuple(value for look in looks for value in look.values)


async def check_domain_records(
    records: Sequence[Record],
    names: Names,
    *,
    domain: str,
    reply: str,
    machine: Machine,
) -> list[Finding]:
    """The findings about the records of a domain, in their order. Raises nothing of DNS's."""
    others = {
        record.value.partition("p=")[2]: record.name
        for record in records
        if record.purpose is Purpose.DKIM
    }

    def judgement(record: Record) -> Judgement:
        apart = {key: name for key, name in others.items() if name != record.name}
        match record.purpose:
            case Purpose.DKIM:
                return lambda a: judge_key(record, a, domain=domain, others=apart)
            case Purpose.SPF | Purpose.RETURN_PATH:
                return lambda a: judge_spf(record, a, machine=machine)
            case Purpose.DMARC:
                return lambda a: judge_dmarc(record, a, domain=domain, reply=reply)
            case Purpose.MX:
                return lambda a: judge_mx(record, a, host=machine.host)
            case Purpose.POLICY_HOST:
                return lambda a: judge_web_name(record, a, addresses=machine.addresses)
            case _:
                return lambda a: judge_versioned(record, a)

    return await _settle_all([(record, judgement(record)) for record in records], names)


async def check_machine(machine: Machine, names: Names) -> list[Finding]:
    """The findings about the machine's own names."""

    def judgement(record: Record, address: str) -> Judgement:
        match record.purpose:
            case Purpose.HOST:
                return lambda a: judge_host(record, a)
            case Purpose.REVERSE:
                return lambda a: judge_reverse(record, a, address=address)
            case _:
                return lambda a: judge_web_name(record, a, addresses=machine.addresses)

    addresses = iter(machine.sending)
    pairs = [
        (record, judgement(record, next(addresses) if record.purpose is Purpose.REVERSE else ""))
        for record in machine_records(machine)
    ]
    return await _settle_all(pairs, names)


async def _settle_all(
    judgements: Sequence[tuple[Record, Judgement]], names: Names
) -> list[Finding]:
    answers, gate = Answers(), asyncio.Semaphore(AT_ONCE)

    async def one(record: Record, judge: Judgement) -> Finding:
        async with gate:
            try:
                async with asyncio.timeout(SECONDS):
                    finding = await settle(judge, answers, names)
            except TimeoutError:
                return Judge(record, Look()).unsure("the name servers take too long")
        return finding or Judge(record, Look()).unsure("it leads to too many other names")

    return list(await asyncio.gather(*(one(record, judge) for record, judge in judgements)))


def is_published(findings: Sequence[Finding], pair: Pair) -> bool:
    """Whether every key of the pair is there for all to see; doubt counts as no."""
    wanted = {selector.key for selector in pair.selectors}
    seen = {
        finding.record.value.partition("p=")[2]
        for finding in findings
        if finding.record.purpose is Purpose.DKIM
        and (finding.state is State.GOOD or finding.code == "testing")
    }
    return bool(wanted) and wanted <= seen


def is_ready(findings: Sequence[Finding]) -> bool:
    """Whether everything that mail can't do without is right."""
    needed = [f for f in findings if f.record.need is Need.REQUIRED]
    return bool(needed) and all(f.state in {State.GOOD, State.ADVICE} for f in needed)


def worst(findings: Sequence[Finding]) -> State:
    """What the whole comes to: wrong before unsure before advice before good."""
    states = {finding.state for finding in findings}
    order = (State.WRONG, State.UNSURE, State.ADVICE)
    return next((state for state in order if state in states), State.GOOD)

"""Whether an SPF record lets this machine send, and whether receivers can follow it (RFC 7208).

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from mta.domains.answers import Answers
from mta.domains.findings import Finding, Judge, quoted_badly
from mta.domains.records import Machine, Record, ip_term
from mta.domains.spf_record import MAX_LOOKUPS, MAX_VOID, Reach, follow, is_spf, mend, parse_spf
from mta.resolver import Look


def judge_spf(record: Record, answers: Answers, *, machine: Machine) -> Finding:
    """Whether this machine may send, and whether receivers can read the record at all."""
    look = answers.look(record.name, "TXT")
    judge = Judge(record, look)
    if look.trouble:
        return judge.unsure()
    texts = [text for text in look.values if is_spf(text)]
    if not texts:
        return _no_spf(judge, look)
    mended = mend(texts, machine.mechanisms)
    if len(texts) > 1:
        return judge.wrong(
            "several_spf",
            f"{len(texts)} SPF records stand at {record.name}; receivers then ignore all of them.",
            "Remove them and publish this one, which says what they say together.",
            mended,
        )
    spf = parse_spf(texts[0])
    if spf.problems:
        return judge.wrong(
            "bad_spf",
            f"The SPF record can't be read: {'; '.join(spf.problems[:3])}.",
            "Replace it with this one.",
            mended,
        )
    return _followed(judge, texts, follow(spf, record.name, answers), machine)


def _no_spf(judge: Judge, look: Look) -> Finding:
    for text in look.values:
        plain = quoted_badly(text)
        if plain and is_spf(plain):
            return judge.wrong(
                "extra_quotes",
                "The SPF record has quotes in it, so receivers do not know it for one.",
                "Enter the value without any quotes; the panel adds its own.",
            )
        if text.lower().lstrip().startswith(("v=spf", "spf1", "v = spf")):
            return judge.wrong(
                "bad_spf",
                'An SPF record begins with "v=spf1" and a space; receivers ignore this one.',
                "Replace it with this one.",
            )
    return judge.missing(f"There is no SPF record at {judge.record.name}.")


def _followed(judge: Judge, texts: Sequence[str], reach: Reach, machine: Machine) -> Finding:
    spf = parse_spf(texts[0])
    mended = mend(texts, machine.mechanisms)
    there = {term.text.lower().removeprefix("+") for term in spf.terms}
    unnamed = [term for term in machine.mechanisms if term not in there]
    shut_out = [one for one in machine.sending if not reach.lets(one)]
    if reach.lookups > MAX_LOOKUPS:
        return _too_many(judge, texts, reach, machine.sending)
    if reach.broken:
        return judge.wrong(
            "broken_include",
            f"Receivers give up on the SPF record: {'; '.join(reach.broken[:3])}.",
            "Take this term out, or ask the service it belongs to for the right one.",
            mended,
        )
    if shut_out and reach.untold:
        return judge.unsure(*reversed(reach.untold[0]))
    if shut_out or (not machine.sending and unnamed):
        which = ", ".join(shut_out) if shut_out else machine.host
        return judge.wrong(
            "shut_out",
            f"The SPF record does not let this machine send ({which}).",
            "Replace it with this one: it is yours with this machine added.",
            mended if unnamed else mend(texts, map(ip_term, shut_out)),
        )
    if reach.everybody:
        return judge.wrong(
            "everybody",
            "The record ends in +all: everybody may send in your name.",
            "Replace it with this one.",
            mended,
        )
    if not spf.all_sign and not any(term.name == "redirect" for term in spf.terms):
        return judge.advice(
            "no_end",
            "The record has no end, so it does not say anything about other machines.",
            "End it with ~all or -all.",
            mended,
        )
    if reach.void > MAX_VOID:
        return judge.advice(
            "void_lookups",
            f"{reach.void} names in the record do not exist; receivers may give up after two.",
            "Take out what no longer exists.",
        )
    if any(term.name == "ptr" for term in spf.terms):
        return judge.advice(
            "ptr",
            'The "ptr" term is slow, unreliable and ignored by many receivers (RFC 7208 §5.5).',
            "Replace it by the addresses or names that are meant.",
        )
    return judge.good(f"It takes {reach.lookups} of the {MAX_LOOKUPS} look-ups allowed.")


def _too_many(
    judge: Judge, texts: Sequence[str], reach: Reach, addresses: Sequence[str]
) -> Finding:
    costly = sorted(reach.costs, key=lambda cost: -cost[1])
    named = ", ".join(f"{term} ({count})" for term, count in costly[:4])
    return judge.wrong(
        "too_many_lookups",
        f"The SPF record needs {reach.lookups} look-ups; receivers stop after {MAX_LOOKUPS} and "
        "then treat all mail as unauthorised.",
        f"Take out what you no longer use. The terms that cost most: {named}. Naming this "
        "machine by its address, as here, costs none.",
        mend(texts, map(ip_term, addresses)),
    )

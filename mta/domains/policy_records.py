"""SPF, DMARC, MTA-STS and TLS reports: policies that receivers read as text.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mta.domains.answers import Answers
from mta.domains.findings import Finding, Judge, quoted_badly, tags
from mta.domains.records import Machine, Purpose, Record, ip_term
from mta.domains.spf_record import MAX_LOOKUPS, MAX_VOID, Reach, follow, is_spf, mend, parse_spf
from mta.resolver import Look

_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")


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


def judge_dmarc(record: Record, answers: Answers, *, domain: str, reply: str) -> Finding:
    """The DMARC policy of the domain, or of a domain above it (RFC 9989 §4.10)."""
    look = answers.look(record.name, "TXT")
    judge = Judge(record, look)
    if look.trouble:
        return judge.unsure()
    texts = [text for text in look.values if text.strip().lower().startswith("v=dmarc1")]
    if len(texts) > 1:
        return judge.wrong(
            "several_records",
            f"{len(texts)} DMARC records stand at {record.name}; receivers then ignore all.",
            "Leave one of them only.",
            texts[0],
        )
    if not texts:
        return _no_dmarc(judge, answers, domain)
    if quoted_badly(texts[0]):
        return judge.wrong(
            "extra_quotes",
            "The value has quotes or backslashes in it.",
            "Enter the value without any quotes and backslashes; the panel adds its own.",
            quoted_badly(texts[0]),
        )
    return _judge_dmarc(judge, texts[0], answers, domain, reply)


def _no_dmarc(judge: Judge, answers: Answers, domain: str) -> Finding:
    record = judge.record
    for text in judge.look.values:
        if quoted_badly(text).lower().startswith("v=dmarc1"):
            return judge.wrong(
                "extra_quotes",
                "The value has quotes or backslashes in it, so receivers ignore it.",
                "Enter the value without any quotes and backslashes; the panel adds its own.",
                quoted_badly(text),
            )
        if is_spf(text) or "dmarc" in text.lower():
            return judge.wrong(
                "bad_version",
                'A DMARC record begins with "v=DMARC1;" and receivers ignore this one.',
                "Replace it with this one.",
            )
    labels = domain.split(".")
    for cut in range(1, min(len(labels) - 1, 8)):
        above = ".".join(labels[cut:])
        look = answers.look(f"_dmarc.{above}", "TXT")
        found = [text for text in look.values if text.strip().lower().startswith("v=dmarc1")]
        if len(found) == 1:
            return judge.good(f"The policy of {above} holds here as well: {found[0][:200]}")
    misplaced = answers.look(domain, "TXT")
    if any(text.strip().lower().startswith("v=dmarc1") for text in misplaced.values):
        return judge.wrong(
            "wrong_name",
            f"The DMARC record is at {domain} itself, where nobody looks for it.",
            f"Move it to {record.name}",
        )
    if _has_dmarc(answers.look(f"{record.name}.{domain}", "TXT")):
        return judge.wrong(
            "doubled_name",
            f"The record is at {record.name}.{domain}: the panel added the domain by itself.",
            "In the field for the name write only _dmarc",
        )
    return judge.missing()


def _has_dmarc(look: Look) -> bool:
    return any(text.lower().startswith("v=dmarc1") for text in look.values)


def _judge_dmarc(judge: Judge, text: str, answers: Answers, domain: str, reply: str) -> Finding:
    given = tags(text)
    policy = (given or {}).get("p", "").lower()
    if given is None or policy not in {"none", "quarantine", "reject"}:
        return judge.wrong(
            "bad_policy",
            'The DMARC record has no p= of "none", "quarantine" or "reject", so it has no effect.',
            "Replace it with this one.",
        )
    for uri in filter(None, given.get("rua", "").split(",")):
        finding = _reports(judge, uri.strip(), answers, domain)
        if finding:
            return finding
    same = reply == domain or not reply.endswith(f".{domain}")
    if given.get("aspf", "r").lower() == "s" and not same:
        return judge.advice(
            "strict_spf",
            f"aspf=s wants the return path at {domain} itself, and ours is at {reply}: only DKIM "
            "speaks for the mail then, and what loses its signature on the way fails.",
            "Take aspf=s out.",
        )
    if given.get("adkim", "r").lower() == "s":
        return judge.advice(
            "strict_dkim",
            f"adkim=s: mail that you send from names below {domain} is signed by {domain}, and "
            "fails.",
            "Take adkim=s out, or add each such name as a domain of its own.",
        )
    if not given.get("rua"):
        return judge.advice(
            "no_reports",
            "Nobody gets reports, so you will not see who else sends in your name.",
            f"Add rua=mailto: and an address of yours, such as dmarc@{domain}.",
            f"{text.strip().rstrip(';')}; rua=mailto:dmarc@{domain}",
        )
    if policy == "none":
        return judge.good(
            "p=none is the right beginning. When the reports show all of your own mail as "
            "passing, go on to p=quarantine."
        )
    return judge.good()


def _reports(judge: Judge, uri: str, answers: Answers, domain: str) -> Finding | None:
    address = uri.partition("!")[0]
    where = address.rpartition("@")[2].lower().rstrip(".")
    if not address.lower().startswith("mailto:") or "." not in where:
        return judge.advice(
            "bad_report_address",
            f'"{uri[:100]}" is no address for reports.',
            f"Write rua=mailto:dmarc@{domain}",
        )
    if where == domain or where.endswith(f".{domain}") or domain.endswith(f".{where}"):
        return None
    consent = answers.look(f"{domain}._report._dmarc.{where}", "TXT")
    if consent.trouble or any(t.lower().startswith("v=dmarc1") for t in consent.values):
        return None
    return judge.advice(
        "reports_refused",
        f"Reports go to {where}, which does not say that it takes them, so nobody sends any.",
        f'{where} has to publish TXT "v=DMARC1" at {domain}._report._dmarc.{where}',
    )


def judge_versioned(record: Record, answers: Answers) -> Finding:
    """The TXT records of MTA-STS (RFC 8461 §3.1) and of TLS reports (RFC 8460 §3)."""
    look = answers.look(record.name, "TXT")
    judge = Judge(record, look)
    if look.trouble:
        return judge.unsure()
    version = record.value.partition(";")[0]
    texts = [text for text in look.values if text.startswith(version)]
    if not texts:
        if any(quoted_badly(text).startswith(version) for text in look.values):
            return judge.wrong(
                "extra_quotes",
                "The value has quotes or backslashes in it.",
                "Enter the value without any quotes and backslashes; the panel adds its own.",
            )
        return judge.missing(f"There is no {version} record at {record.name}.")
    if len(texts) > 1:
        return judge.wrong(
            "several_records",
            f"{len(texts)} such records stand at {record.name}; senders then ignore all.",
            "Leave one of them only.",
        )
    given, wanted = tags(texts[0]) or {}, tags(record.value) or {}
    if record.purpose is Purpose.POLICY:
        if not _ID.match(given.get("id", "")):
            return judge.wrong(
                "bad_id", "The id is missing or has other signs than letters and digits.",
                "Replace it with this one.",
            )  # fmt: skip
        if given["id"] != wanted["id"]:
            return judge.advice(
                "old_id",
                "The policy has changed and its id has not: senders go on with the old policy.",
                "Replace it with this one.",
            )
    elif not given.get("rua", "").startswith(("mailto:", "https://")):
        return judge.wrong(
            "bad_report_address", "rua= names no mailto: or https: address.",
            "Replace it with this one.",
        )  # fmt: skip
    return judge.good()

"""DMARC, MTA-STS and TLS reports: policies that others read as text.

Pure.
"""

from __future__ import annotations

import re

from mta.domains.answers import Answers
from mta.domains.findings import Finding, Judge, quoted_badly, tags
from mta.domains.records import Purpose, Record
from mta.domains.spf_record import is_spf
from mta.resolver import Look

_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")


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

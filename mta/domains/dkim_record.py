"""Whether a DKIM key is published as it has to be (RFC 6376 §3.6.1, RFC 8463 §4.2).

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from mta.domains.answers import Answers
from mta.domains.findings import Finding, Judge, quoted_badly, tags
from mta.domains.records import Need, Record
from mta.resolver import Look


def judge_key(
    record: Record, answers: Answers, *, domain: str, others: Mapping[str, str]
) -> Finding:
    """`others` are the names of our other keys by their `p=` text: people mix them up."""
    look = answers.look(record.name, "TXT")
    judge = Judge(record, look)
    if look.trouble:
        return judge.unsure()
    if record.need is Need.REMOVE:
        return _to_remove(judge)
    if not look.values:
        return _missing(judge, answers, domain)
    if len(look.values) > 1:
        return judge.wrong(
            "several_records",
            f"{len(look.values)} TXT records stand at {record.name}; receivers take any of them.",
            "Leave only this one. If the panel made several records of one long value, join them "
            "into one record.",
        )
    return _judge_text(judge, look.values[0], others)


def _to_remove(judge: Judge) -> Finding:
    if not judge.look.values:
        return judge.good("It is removed.")
    return judge.advice(
        "remove",
        f"The old key at {judge.record.name} is still published.",
        "Remove this record: no mail needs it any more.",
    )


def _missing(judge: Judge, answers: Answers, domain: str) -> Finding:
    record = judge.record
    doubled = f"{record.name}.{domain}"
    if not judge.look.alias:
        if _has_key(answers.look(doubled, "TXT")):
            return judge.wrong(
                "doubled_name",
                f"The key is published at {doubled}: the panel added the domain by itself.",
                f"In the field for the name write only {record.name.removesuffix('.' + domain)}",
            )
        selector = record.name.partition(".")[0]
        if _has_key(answers.look(f"{selector}.{domain}", "TXT")):
            return judge.wrong(
                "wrong_name",
                f'The key is published at {selector}.{domain}, without "_domainkey".',
                f"Move it to {record.name}",
            )
    return judge.missing()


def _has_key(look: Look) -> bool:
    return any("v=DKIM1" in value for value in look.values)


def _judge_text(judge: Judge, text: str, others: Mapping[str, str]) -> Finding:
    record = judge.record
    plain = quoted_badly(text)
    if plain:
        return judge.wrong(
            "extra_quotes",
            "The value has quotes or backslashes in it, which receivers take for part of the key.",
            "Enter the value without any quotes and backslashes; the panel adds its own.",
        )
    given, wanted = tags(text), tags(record.value)
    if given is None or wanted is None or "p" not in given:
        return judge.wrong(
            "no_key", "The text there is no DKIM key.", "Replace it with this value."
        )
    if "v" in given and (given["v"] != "DKIM1" or not text.lstrip().startswith("v")):
        return judge.wrong(
            "bad_version",
            'A DKIM key begins with "v=DKIM1"; receivers ignore this one.',
            "Replace it with this value.",
        )
    key, ours = given["p"].replace(" ", ""), wanted["p"]
    if not key:
        return judge.wrong(
            "revoked",
            "The key is revoked: its p= is empty, so every signature with it fails.",
            "Publish this value again, or make new keys.",
        )
    if key != ours:
        return _other_key(judge, key, ours, others)
    kind = given.get("k", "rsa").lower()
    if kind != wanted["k"]:
        return judge.wrong(
            "wrong_algorithm",
            f"The key is marked k={kind}, and it is a key for {wanted['k']}.",
            "Replace it with this value.",
        )
    if "sha256" not in given.get("h", "sha256").lower():
        return judge.wrong(
            "wrong_hash",
            f"h={given['h']} forbids the hash that we sign with (SHA-256).",
            "Take the h= tag out.",
        )
    services = {one.strip() for one in given.get("s", "*").split(":")}
    if not services & {"*", "email"}:
        return judge.wrong(
            "wrong_service", f"s={given['s']} forbids this key for mail.", "Take the s= tag out."
        )
    if "y" in {one.strip() for one in given.get("t", "").split(":")}:
        return judge.advice(
            "testing",
            "t=y says that you only test: receivers may treat the mail as unsigned.",
            "Take the t=y tag out.",
        )
    return judge.good()


def _other_key(judge: Judge, key: str, ours: str, others: Mapping[str, str]) -> Finding:
    if key in others:
        return judge.wrong(
            "swapped",
            f"This is the key of {others[key]}: two records are mixed up.",
            "Give each name its own value.",
        )
    if ours.startswith(key):
        return judge.wrong(
            "truncated",
            f"The key is cut off after {len(key)} of {len(ours)} characters, so every signature "
            "fails.",
            "Enter the whole value. Where the panel takes 255 characters only, enter the parts of "
            "the zone file one after the other, each in its own quotes.",
        )
    if key.startswith(ours):
        return judge.wrong(
            "too_long",
            "There is more text after the key, so it can't be read.",
            "Replace it with this value.",
        )
    near = sum(a != b for a, b in zip(key, ours, strict=False)) < 8 and len(key) == len(ours)
    return judge.wrong(
        "other_key",
        "A few characters of the key are wrong." if near else "Another key is published there.",
        "Replace it with this value.",
    )

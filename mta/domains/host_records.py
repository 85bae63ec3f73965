"""Names that have to lead to machines: MX, the public host, the host name and its way back.

Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from mta.domains.answers import Answers
from mta.domains.findings import Finding, Judge
from mta.domains.records import Purpose, Record
from mta.resolver import Look


def judge_mx(record: Record, answers: Answers, *, host: str) -> Finding:
    """Replies come here and nowhere else (RFC 5321 §5.1, RFC 2181 §10.3)."""
    look = answers.look(record.name, "MX")
    judge = Judge(record, look)
    if look.trouble:
        return judge.unsure()
    if not look.values:
        return judge.missing()
    targets = [value.partition(" ")[2] for value in look.values]
    others = [one for one in targets if one != host]
    if "." in targets:
        return judge.wrong(
            "null_mx",
            f'The MX record is ".", which says that {record.name} takes no mail (RFC 7505).',
            "Replace it with this one.",
        )
    if host not in targets:
        return _elsewhere(judge, others, host, answers)
    if others:
        return judge.wrong(
            "mixed_mx",
            f"Replies also go to {', '.join(others[:3])}, where nobody understands them.",
            f"Leave only the MX record that leads to {host}.",
        )
    target = answers.look(host, "A")
    if target.alias:
        return judge.wrong(
            "mx_is_cname",
            f"{host} is a CNAME to {target.alias}; an MX record may not lead to one.",
            f"Give {host} A and AAAA records in place of the CNAME.",
        )
    if target.trouble:
        return judge.unsure(target.trouble, host)
    if not target.values and not answers.look(host, "AAAA").values:
        return judge.wrong(
            "mx_without_address",
            f"{host} has no address, so no mail can come.",
            f"Add an A or AAAA record for {host}.",
        )
    return judge.good()


def _elsewhere(judge: Judge, others: Sequence[str], host: str, answers: Answers) -> Finding:
    doubled = next((one for one in others if one.startswith(f"{host}.")), "")
    if doubled:
        return judge.wrong(
            "doubled_name",
            f"The MX record leads to {doubled}: the panel added the domain by itself.",
            f"Write {host}. with a dot at its end.",
        )
    behind = next((one for one in others if answers.look(one, "A").alias == host), "")
    if behind:
        return judge.wrong(
            "mx_to_cname",
            f"The MX record leads to {behind}, which is a CNAME; many servers refuse that.",
            f"Write {host} in the MX record itself.",
        )
    return judge.wrong(
        "mx_elsewhere",
        f"Replies to {judge.record.name} go to {', '.join(others[:3])}, so they never come here.",
        f"Let the MX record of {judge.record.name} lead to {host}. The MX of your own domain "
        "stays as it is.",
    )


def judge_host(record: Record, answers: Answers) -> Finding:
    """The machine's own name: it has an address of the open internet and is no CNAME."""
    looks = [answers.look(record.name, kind) for kind in ("A", "AAAA")]
    look = looks[1] if record.type == "AAAA" else looks[0]
    judge = Judge(record, look)
    trouble = next((one.trouble for one in looks if one.trouble), "")
    if trouble:
        return judge.unsure(trouble)
    values = [value for one in looks for value in one.values]
    if look.alias:
        return judge.wrong(
            "host_is_cname",
            f"{record.name} is a CNAME to {look.alias}; an MX record may not lead to one.",
            "Give it A and AAAA records in its place.",
        )
    if not values:
        return judge.missing(
            f"{record.name} has no address.",
            "Add an A or AAAA record with this machine's public address, or set [host] name to "
            "a name that has one.",
        )
    closed = [value for value in look.values if not ipaddress.ip_address(value).is_global]
    if closed:
        return judge.wrong(
            "private_address",
            f"{record.name} leads to {', '.join(closed)}, which can't be reached from outside.",
            "Publish the address that the world sees; ask your provider if in doubt.",
        )
    return judge.good()


def judge_reverse(record: Record, answers: Answers, *, address: str) -> Finding:
    """The address leads to the host name, and the host name back (forward-confirmed)."""
    look = answers.look(record.name, "PTR")
    judge = Judge(record, look)
    if look.trouble:
        return judge.unsure()
    if not look.values:
        return judge.missing(
            f"{address} has no name; large mailbox providers refuse mail from it.",
            f"Ask whoever gave you the address to set its reverse name (PTR) to {record.value}.",
        )
    names = [value.rstrip(".").lower() for value in look.values]
    if record.value in names and address in _addresses(answers, record.value):
        return judge.good()
    confirmed = [name for name in names[:5] if address in _addresses(answers, name)]
    if confirmed:
        return judge.advice(
            "other_name",
            f"{address} is called {confirmed[0]}, and this machine says {record.value} in HELO.",
            f"Set the reverse name to {record.value}, or [host] name to {confirmed[0]}.",
        )
    return judge.wrong(
        "wrong_reverse",
        f"{address} is called {', '.join(names[:3])}, which does not lead back to it.",
        f"Ask whoever gave you the address to set its reverse name (PTR) to {record.value}.",
    )


def _addresses(answers: Answers, name: str) -> list[str]:
    return [value for kind in ("A", "AAAA") for value in answers.look(name, kind).values]


def judge_web_name(record: Record, answers: Answers, *, addresses: Sequence[str]) -> Finding:
    """A name that browsers follow: by CNAME, A or AAAA, here or to a server in front."""
    looks: list[Look] = [answers.look(record.name, kind) for kind in ("A", "AAAA")]
    look = looks[0] if looks[0].values or not looks[1].values else looks[1]
    judge = Judge(record, look)
    values = [value for one in looks for value in one.values]
    trouble = next((one.trouble for one in looks if one.trouble), "")
    if trouble and not values:
        return judge.unsure(trouble)
    if not values:
        if look.alias:
            return judge.wrong(
                "dead_alias",
                f"{record.name} is a CNAME to {look.alias}, which has no address.",
                "Replace it with this one.",
            )
        if record.purpose is Purpose.PUBLIC_HOST:
            return judge.missing(
                f"{record.name} has no address, so no link in any mail works.",
                f"Add a CNAME to {record.value}, or A and AAAA records.",
            )
        return judge.missing(f"{record.name} has no address.")
    closed = [value for value in values if not ipaddress.ip_address(value).is_global]
    if closed:
        return judge.wrong(
            "private_address",
            f"{record.name} leads to {', '.join(closed)}, which can't be reached from outside.",
            "Publish the address that the world sees.",
        )
    if addresses and not set(values) & set(addresses):
        return judge.good(
            f"It leads to {', '.join(values[:3])}, not to this machine: right if a web server in "
            "front of it passes the requests on."
        )
    return judge.good()

"""Records as a zone file has them (RFC 1035 §5.1).

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mta.domains.records import Need, Record

ZONE_TTL_SECONDS = 3600
STRING_BYTES = 255
"""The longest string of a TXT record (RFC 1035 §3.3.14); longer texts are several of them."""


def text_strings(value: str) -> list[str]:
    """A text as the strings that a TXT record is made of, each in quotes (RFC 1035 §5.1)."""
    raw = value.encode()
    parts = [raw[i : i + STRING_BYTES] for i in range(0, len(raw), STRING_BYTES)] or [b""]
    return ['"' + "".join(map(_escaped, part)) + '"' for part in parts]


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}"


def zone_line(record: Record) -> str:
    """The record as one entry of a zone file; long texts go over several lines in brackets."""
    value = record.value
    if record.type == "TXT":
        strings = text_strings(value)
        value = strings[0] if len(strings) == 1 else "(\n    " + "\n    ".join(strings) + " )"
    elif record.type in {"MX", "CNAME", "PTR"}:
        value += "."
    return f"{record.name}. {ZONE_TTL_SECONDS} IN {record.type} {value}"


def zone_file(title: str, records: Iterable[Record], *, published: Collection[Record] = ()) -> str:
    """All records as a zone file, each under what it is for.

    What is to be removed, and what is there already, is in comments: to enter a policy anew could
    take back what its owner has made of it.
    """
    parts = [f"; {_comment(title)}\n"]
    for record in records:
        there = "There already. " if record in published else ""
        parts.append(f"; {record.need}: {there}{_comment(record.why)}")
        line = zone_line(record)
        if not record.value or record.need is Need.REMOVE or there:
            line = "; " + line.replace("\n", "\n; ")
        parts.append(line + "\n")
    return "\n".join(parts)


def _comment(text: str) -> str:
    return " ".join(text.split())

"""What the spool notes beside a message: who brought it, from whom to whom (RFC 5321 §2.3.1).

Pure.
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class Note(msgspec.Struct, omit_defaults=True):
    """`ours` has the recipients at our own domains by company (UUID in hex); `others` are people:
    address, RFC 3461's NOTIFY and ORCPT. `company` is whose login it was, empty at the MX door.
    """

    key: str
    at: datetime
    door: str
    peer: str
    helo: str
    sender: str
    login: str | None = None
    company: str = ""
    ret: str = ""
    envelope_id: str = ""
    require_tls: bool = False
    ours: dict[str, list[str]] = {}
    others: list[tuple[str, list[str], str]] = []


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Note).decode

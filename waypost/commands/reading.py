"""`waypost parse` and `waypost read`: useful on their own, without an appliance."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from mail.errors import PermanentError


def parse(chosen: Namespace) -> int:
    """Takes raw messages apart."""
    from inbound import stream
    from inbound.analysis import analyse

    if chosen.stream:
        stream.run(sys.stdin, sys.stdout)
        return 0
    try:
        raw = stream.read(chosen.file)
    except OSError as error:
        raise PermanentError(f"{chosen.file}: can't be read: {error.strerror}.") from None
    print(stream.explain(analyse(raw)))
    return 0


def read(chosen: Namespace) -> int:
    """Reads replies: intents, facts, rules, decision."""
    from responder import stream
    from responder.reading.reader import Reader

    reader = Reader.load(Path(chosen.model) if chosen.model else None)
    if chosen.stream:
        stream.run(sys.stdin, sys.stdout, reader)
        return 0
    try:
        text = Path(chosen.file).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise PermanentError(f"{chosen.file}: can't be read: {error.strerror}.") from None
    print(stream.explain(text, reader))
    return 0

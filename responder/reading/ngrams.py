"""Words, pairs of words and runs of letters, hashed into a vector.

Embeddings carry the topic, n-grams the speech act ("stop", "how much", "until the"); they also work
in languages that the encoder never saw.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

SIZE = 1 << 13
MAX_CHARACTERS = 2000

_WORD = re.compile(r"\w+|[?!]")


def features(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """One unit row of `SIZE` numbers a text."""
    rows = np.zeros((len(texts), SIZE), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for gram in _grams(text[:MAX_CHARACTERS].lower()):
            code = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
            row[code % SIZE] += 1.0 if code & 0x80000000 else -1.0
        np.copyto(row, np.sign(row) * np.log1p(np.abs(row)))
        row /= max(float(np.linalg.norm(row)), 1e-9)
    return rows


def _grams(text: str) -> Iterator[str]:
    words = _WORD.findall(text)
    yield from (f"w {word}" for word in words)
    yield from (f"p {a} {b}" for a, b in pairwise(words))
    for word in words:
        padded = f" {word} "
        for length in (3, 4):
            yield from (f"c {padded[i : i + length]}" for i in range(len(padded) - length + 1))

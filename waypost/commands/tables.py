"""Prints rows as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Rows under heads, each column as wide as it has to be; `empty` where there are none."""
    if not rows:
        print(empty)
        return
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(r[i]) for r in (list(heads), *cells)) for i in range(len(heads))]
    for row in (list(heads), *cells):
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, datetime):
        return cell.strftime("%Y-%m-%d %H:%M:%S")
    return str(cell).replace("\n", " ")

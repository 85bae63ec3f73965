"""Writes line charts as SVG: no library, no fonts of its own, the same bytes each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

BLUE, ORANGE, GREY = "#1f5fbf", "#d9730d", "#8a8f98"

WIDTH, HEIGHT = 820, 210
LEFT, RIGHT, TOP, GAP, BOTTOM = 74, 20, 90, 52, 50
LEAST = 0.2
"""The foot of a logarithmic axis; zero stands there too."""


@dataclass(frozen=True)
class Line:
    """Points (x, y) with a name in the legend."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One drawing; all panels of a chart have the same x axis."""

    label: str
    lines: Sequence[Line]
    logarithmic: bool = False


def chart(title: str, x_label: str, panels: Sequence[Panel]) -> str:
    """The whole picture. The legend shows each name once."""
    height = TOP + len(panels) * HEIGHT + (len(panels) - 1) * GAP + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13"'
        ' fill="#24292f" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
    ]
    parts += _legend({line.name: line for panel in panels for line in panel.lines})
    most_x = max(x for panel in panels for line in panel.lines for x, _ in line.points)
    for number, panel in enumerate(panels):
        parts += _panel(panel, TOP + number * (HEIGHT + GAP), most_x)
    foot = height - 12
    parts.append(
        f'<text x="{WIDTH / 2:.0f}" y="{foot}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _legend(lines: dict[str, Line]) -> list[str]:
    parts, x = [], float(LEFT)
    for line in lines.values():
        parts.append(_stroke(f"M{x:.0f} 46 h24", line))
        parts.append(f'<text x="{x + 30:.0f}" y="50">{escape(line.name)}</text>')
        x += 30 + 7.4 * len(line.name) + 26
    return parts


def _panel(panel: Panel, top: float, most_x: float) -> list[str]:
    bottom = top + HEIGHT
    most_y = max(y for line in panel.lines for _, y in line.points)
    marks = _powers(most_y) if panel.logarithmic else _marks(most_y)
    ceiling = marks[-1]

    def place_y(y: float) -> float:
        if panel.logarithmic:
            share = (log10(max(y, LEAST)) - log10(LEAST)) / (log10(ceiling) - log10(LEAST))
        else:
            share = y / ceiling
        return bottom - share * HEIGHT

    def place_x(x: float) -> float:
        return LEFT + x / most_x * (WIDTH - LEFT - RIGHT)

    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="600">{escape(panel.label)}</text>']
    for y in marks:
        at = place_y(y)
        parts.append(f'<path d="M{LEFT} {at:.1f} H{WIDTH - RIGHT}" stroke="#e4e7eb"/>')
        name = "0" if panel.logarithmic and y <= LEAST else f"{y:,g}"
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{name}</text>')
    for x in _marks(most_x):
        if x <= most_x:
            at = place_x(x)
            parts.append(
                f'<text x="{at:.1f}" y="{bottom + 18:.0f}" text-anchor="middle">{x:g}</text>'
            )
    for line in panel.lines:
        points = " L".join(f"{place_x(x):.1f} {place_y(y):.1f}" for x, y in line.points)
        parts.append(_stroke(f"M{points}", line))
    return parts


def _stroke(path: str, line: Line) -> str:
    dashes = ' stroke-dasharray="6 5"' if line.dashed else ""
    width = 1.6 if line.dashed else 2.2
    return (
        f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="{width}"'
        f' stroke-linejoin="round"{dashes}/>'
    )


def _marks(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`, four to seven of them."""
    rough = max(most, 1e-9) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * by for by in (1, 2, 2.5, 5, 10) if power * by >= rough)
    return [round(step * n, 10) for n in range(ceil(most / step - 1e-9) + 1)]


def _powers(most: float) -> list[float]:
    top = max(1, ceil(log10(max(most, 1.0))))
    return [LEAST, *(10.0**n for n in range(top + 1))]

"""Small line plots as SVG, one panel a line, for documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, PANEL, MARGIN = 720, 140, 40


@dataclass(frozen=True, slots=True)
class Line:
    """Values at equal distances."""

    name: str
    values: Sequence[float]


def plot(lines: Sequence[Line], across: str) -> str:
    """Panels below each other, each from 0 to a little above its highest value."""
    height = PANEL * len(lines) + MARGIN
    panels = "".join(_panel(line, number * PANEL) for number, line in enumerate(lines))
    steps = max(len(line.values) for line in lines)
    below = f'<text x="{WIDTH - MARGIN}" y="{height - 12}" text-anchor="end">{steps} {escape(across)}</text>'
    style = "text{font:12px sans-serif;fill:#666}polyline{fill:none;stroke:#2a6fdb;stroke-width:1.5}"
    style += "line{stroke:#999;stroke-width:.5}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"><style>{style}</style>'
        f"{panels}{below}</svg>\n"
    )


def _panel(line: Line, top: int) -> str:
    highest = max(line.values) * 1.1 or 1.0
    floor, ceiling = top + PANEL - 10, top + 30
    width = (WIDTH - 2 * MARGIN) / max(1, len(line.values) - 1)
    points = " ".join(
        f"{MARGIN + step * width:.1f},{floor - value / highest * (floor - ceiling):.1f}"
        for step, value in enumerate(line.values)
    )
    title = f"{line.name}: {min(line.values):.1f} to {max(line.values):.1f}"
    return (
        f'<text x="{MARGIN}" y="{top + 20}">{escape(title)}</text>'
        f'<line x1="{MARGIN}" y1="{floor}" x2="{WIDTH - MARGIN}" y2="{floor}"/><polyline points="{points}"/>'
    )

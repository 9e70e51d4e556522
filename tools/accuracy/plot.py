"""Small multiples as SVG: for every model, its metric against latency, a line per method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT, MARGIN, COLUMNS = 250, 190, 34, 4
COLOURS = ("#888888", "#bbbbbb", "#d62728", "#ff9896", "#2ca02c", "#1f77b4", "#9467bd", "#e377c2", "#8c564b")
LEGEND = 24


@dataclass(frozen=True)
class Line:
    """Points (latency as a share of the dense model's, metric) of one method."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One model."""

    title: str
    dense: float
    lines: tuple[Line, ...]


def draw(panels: Sequence[Panel], names: Sequence[str]) -> str:
    """All panels under one legend; x runs from 0 to 1.1 times the dense latency, y from 0 to 1."""
    colour = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, LEGEND + rows * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(names, colour),
    ]
    for at, panel in enumerate(panels):
        left, top = at % COLUMNS * WIDTH, LEGEND + at // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({left},{top})">')
        parts += _panel(panel, colour)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str], colour: dict[str, str]) -> Iterable[str]:
    step = COLUMNS * WIDTH / max(len(names), 1)
    for at, name in enumerate(names):
        x = at * step + 8
        yield f'<rect x="{x:.0f}" y="11" width="16" height="2" fill="{colour[name]}"/>'
        yield f'<text x="{x + 20:.0f}" y="15">{escape(name)}</text>'


def _place(x: float, y: float) -> tuple[float, float]:
    """Data to pixels of a panel."""
    inner_width, inner_height = WIDTH - MARGIN - 10, HEIGHT - 2 * MARGIN
    return MARGIN + min(x, 1.1) / 1.1 * inner_width, HEIGHT - MARGIN - max(y, 0) * inner_height


def _panel(panel: Panel, colour: dict[str, str]) -> Iterable[str]:
    yield f'<text x="{WIDTH / 2:.0f}" y="{MARGIN - 16}" text-anchor="middle">{escape(panel.title)}</text>'
    for share in (0.0, 0.5, 1.0):
        (x, bottom), (left, y) = _place(share, 0), _place(0, share)
        right = _place(1.1, 0)[0]
        yield f'<line x1="{left:.0f}" y1="{y:.0f}" x2="{right:.0f}" y2="{y:.0f}" stroke="#dddddd"/>'
        yield f'<text x="{left - 4:.0f}" y="{y + 3:.0f}" text-anchor="end" fill="#555555">{share:g}</text>'
        yield f'<text x="{x:.0f}" y="{bottom + 12:.0f}" text-anchor="middle" fill="#555555">{share:g}</text>'
    x, y = _place(1.0, panel.dense)
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="black"/>'
    for line in panel.lines:
        placed = [(x, y), *(_place(*point) for point in line.points)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
        yield f'<polyline points="{path}" fill="none" stroke="{colour[line.name]}" stroke-width="1.5"/>'
        for px, py in placed[1:]:
            yield f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.2" fill="{colour[line.name]}"/>'

"""Charts as SVG. Pure. A chart shows the command that made it, and is readable without colour."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

Points = Sequence[tuple[float, float]]

_WIDTH: Final = 760
_LEFT: Final = 270  # width for the names of bars
_RIGHT: Final = 190  # width for the labels after the bars
_ROW: Final = 30
_HEAD: Final = 44
_FOOT: Final = 34
_SHADES: Final = ("#8d99ae", "#2b6cb0")  # compared systems, and ours
_LINES: Final = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")
_DASHES: Final = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 4")
_STYLE: Final = "font-family='system-ui, sans-serif' font-size='13' fill='#1a202c'"


def bar_chart(title: str, rows: Sequence[tuple[str, float, str]], *, highlighted: Iterable[str], command: str) -> str:
    """Return a chart of horizontal bars.

    Args:
        title: of the chart.
        rows: name, figure and label of each bar.
        highlighted: the names of the highlighted bars.
        command: the command that made the figures.
    """
    highlighted_names, most = frozenset(highlighted), max(figure for _, figure, _ in rows) or 1.0
    height = _HEAD + _ROW * len(rows) + _FOOT
    parts = []
    for number, (name, figure, label) in enumerate(rows):
        shade = _SHADES[name in highlighted_names]
        top, width = _HEAD + number * _ROW, (_WIDTH - _LEFT - _RIGHT) * figure / most
        parts += [
            f"<text x='{_LEFT - 10}' y='{top + 18}' text-anchor='end'>{escape(name)}</text>",
            f"<rect x='{_LEFT}' y='{top + 4}' width='{max(width, 1):.1f}' height='20' fill='{shade}'/>",
            f"<text x='{_LEFT + width + 8:.1f}' y='{top + 18}'>{escape(label)}</text>",
        ]
    return _svg(title, height, parts, command)


def line_chart(title: str, lines: Mapping[str, Points], *, x_label: str, y_label: str, command: str) -> str:
    """Return a chart of curves on two logarithmic axes.

    Args:
        title: of the chart.
        lines: name to points; all coordinates are positive.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        command: the command that made the figures.
    """
    left, right, top, bottom = 70, _WIDTH - 230, _HEAD + 6, 340
    x_range = _decades(x for points in lines.values() for x, _ in points)
    y_range = _decades(y for points in lines.values() for _, y in points)

    def position(x: float, y: float) -> tuple[float, float]:
        return (
            left + (right - left) * (math.log10(x) - x_range[0]) / (x_range[-1] - x_range[0]),
            bottom - (bottom - top) * (math.log10(y) - y_range[0]) / (y_range[-1] - y_range[0]),
        )

    parts = []
    for power in x_range:
        x, _ = position(10.0**power, 10.0 ** y_range[0])
        parts.append(f"<line x1='{x:.1f}' y1='{top}' x2='{x:.1f}' y2='{bottom}' stroke='#e2e8f0'/>")
        parts.append(f"<text x='{x:.1f}' y='{bottom + 18}' text-anchor='middle'>{10**power:,}</text>")
    for power in y_range:
        _, y = position(10.0 ** x_range[0], 10.0**power)
        parts.append(f"<line x1='{left}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='#e2e8f0'/>")
        parts.append(f"<text x='{left - 8}' y='{y + 4:.1f}' text-anchor='end'>{10.0**power:,g}</text>")
    for number, (name, points) in enumerate(lines.items()):
        colour, dash = _LINES[number % len(_LINES)], _DASHES[number % len(_DASHES)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (position(*point) for point in points))
        stroke = f"stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'"
        legend = top + 14 + 22 * number
        parts += [
            f"<polyline points='{path}' fill='none' {stroke}/>",
            f"<line x1='{right + 14}' y1='{legend - 4}' x2='{right + 40}' y2='{legend - 4}' {stroke}/>",
            f"<text x='{right + 46}' y='{legend}'>{escape(name)}</text>",
        ]
    parts.append(f"<text x='{(left + right) / 2}' y='{bottom + 40}' text-anchor='middle'>{escape(x_label)}</text>")
    parts.append(f"<text x='{left - 60}' y='{top - 10}'>{escape(y_label)}</text>")
    return _svg(title, bottom + 52 + _FOOT, parts, command)


def _decades(values: Iterable[float]) -> range:
    """Return the exponents of the powers of ten that enclose all values, at least two."""
    logs = [math.log10(value) for value in values]
    low, high = math.floor(min(logs) + 1e-9), math.ceil(max(logs) - 1e-9)
    return range(low, max(high, low + 1) + 1)


def _svg(title: str, height: int, parts: Iterable[str], command: str) -> str:
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' role='img' {_STYLE}>",
            f"<title>{escape(title)}</title>",
            f"<rect width='{_WIDTH}' height='{height}' fill='#ffffff'/>",
            f"<text x='10' y='24' font-size='16' font-weight='600'>{escape(title)}</text>",
            *parts,
            f"<text x='10' y='{height - 12}' font-size='11' fill='#4a5568'>{escape(command)}</text>",
            "</svg>\n",
        ]
    )

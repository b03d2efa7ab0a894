"""Numbers as lines of an SVG. Rule: pure; a drawing is 100 by 100 and stretched, so its text stands beside it.

Source of the steps on the axis: 1, 2 and 5 times a power of ten, as on any paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_SIDE: Final = 100.0
_STEPS: Final = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Chart:
    """Several lines over one time: `lines` and the `area` below the first are paths; `top` is the axis' end."""

    top: float
    lines: tuple[str, ...]
    area: str


def chart(*series: Sequence[float]) -> Chart:
    """Draw series of equal length, the oldest value first."""
    top = ceiling(max((value for line in series for value in line), default=0.0))
    lines = tuple(_path(line, top) for line in series)
    area = f"{lines[0]} L{_SIDE:g},{_SIDE:g} L0,{_SIDE:g} Z" if lines and lines[0] else ""
    return Chart(top, lines, area)


def ceiling(value: float) -> float:
    """Return the least round number that is not below `value`, ten at the least."""
    if value <= _STEPS[-1]:
        return float(_STEPS[-1])
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in _STEPS if step * unit >= value)


def _path(values: Sequence[float], top: float) -> str:
    if not values:
        return ""
    if len(values) == 1:
        values = (values[0], values[0])
    step = _SIDE / (len(values) - 1)
    points = (f"{at * step:.2f},{_SIDE - value / top * _SIDE:.2f}" for at, value in enumerate(values))
    return "M" + " L".join(points)

"""A curve in characters: each column is the last value of its stretch of time, in eighths of a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

BLOCKS: Final = " ▁▂▃▄▅▆▇█"


def plot_lines(
    samples: Sequence[tuple[float, float]],
    *,
    width: int,
    height: int,
    until: float | None = None,
    seconds: float | None = None,
) -> list[str]:
    """The curve, top line first. A value holds until the next sample: that is how data points behave.

    :param samples: Time and number, in order.
    :param until: Right edge; the last sample without it.
    :param seconds: How much time the width is; everything there is without it.
    """
    if not samples or width < 1 or height < 1:
        return [" " * max(width, 0)] * max(height, 0)
    low, high = extremes(samples)
    end = until if until is not None else samples[-1][0]
    start = end - seconds if seconds else samples[0][0]
    columns = _columns(samples, width, start, max(end, start))
    span = high - low
    steps = [
        None
        if value is None
        else (1 + round((value - low) / span * (8 * height - 1)) if span else 4 * height)
        for value in columns
    ]
    return [
        "".join(BLOCKS[max(0, min(8, (step or 0) - 8 * line))] for step in steps)
        for line in reversed(range(height))
    ]


def extremes(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The lowest and the highest number."""
    numbers = [number for _, number in samples]
    return min(numbers), max(numbers)


def _columns(
    samples: Sequence[tuple[float, float]], width: int, start: float, end: float
) -> list[float | None]:
    step = (end - start) / width
    columns: list[float | None] = []
    here, last = 0, None
    for column in range(width):
        edge = end if column == width - 1 else start + step * (column + 1)
        while here < len(samples) and samples[here][0] <= edge:
            last = samples[here][1]
            here += 1
        columns.append(last)
    return columns


def axis(samples: Sequence[tuple[float, float]], label: Callable[[float], str]) -> tuple[str, str]:
    """The words at the lower and the upper end."""
    low, high = extremes(samples)
    return label(low), label(high)

"""Numbers of a device by hour, day, week or month (open-api.md §16)."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final, Literal, get_args

Aggregator = Literal["sum", "avg", "max", "min"]
Unit = Literal["HOURS", "DAYS", "WEEKS", "MONTHS"]
AGGREGATORS: Final[tuple[Aggregator, ...]] = get_args(Aggregator)
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)

_COMPUTE: Final[Mapping[Aggregator, Callable[[Fraction, Fraction], Fraction]]] = {
    "sum": operator.add,
    "avg": operator.add,
    "max": max,
    "min": min,
}


class Buckets:
    """Numbers by bucket; only what the result needs is kept of them."""

    def __init__(self, aggregator: Aggregator, unit: Unit) -> None:
        self._aggregator, self._unit = aggregator, unit
        self._buckets: dict[dt.datetime, dict[str, tuple[int, Fraction]]] = {}

    def add(self, at: float, numbers: Mapping[str, int | float]) -> None:
        """Numbers that were reported then (Unix seconds), in any order."""
        if not numbers:
            return
        bucket = self._buckets.setdefault(_begin(at, self._unit), {})
        compute = _COMPUTE[self._aggregator]
        for name, number in numbers.items():
            # The text of a float is what was meant: 0.1 and not the binary number beside it.
            value = Fraction(str(number))
            known = bucket.get(name)
            bucket[name] = (1, value) if known is None else (known[0] + 1, compute(known[1], value))

    def results(self) -> list[tuple[float, dict[str, int | float]]]:
        """Begin of each bucket that has values (Unix seconds, UTC), with one number for each name in it."""
        is_average = self._aggregator == "avg"
        return [
            (
                begin.timestamp(),
                {
                    name: _number(value / count if is_average else value)
                    for name, (count, value) in found.items()
                },
            )
            for begin, found in sorted(self._buckets.items())
        ]


def _begin(at: float, unit: Unit) -> dt.datetime:
    """Where the bucket begins that holds this time; weeks begin on Monday."""
    moment = dt.datetime.fromtimestamp(at, dt.UTC)
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if unit == "HOURS":
        return hour
    day = hour.replace(hour=0)
    if unit == "DAYS":
        return day
    return day - dt.timedelta(days=day.weekday()) if unit == "WEEKS" else day.replace(day=1)


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)

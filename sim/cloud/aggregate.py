"""Numbers of a device by hour, day, week or month (open-api.md §16)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal, get_args

Aggregator = Literal["sum", "avg", "max", "min"]
Unit = Literal["HOURS", "DAYS", "WEEKS", "MONTHS"]
AGGREGATORS: Final[tuple[Aggregator, ...]] = get_args(Aggregator)
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)

_COMPUTE: Final[Mapping[Aggregator, Callable[[Sequence[Fraction]], Fraction]]] = {
    "sum": lambda values: sum(values, Fraction(0)),
    "avg": lambda values: sum(values, Fraction(0)) / len(values),
    "max": max,
    "min": min,
}


def aggregate(
    reports: Iterable[tuple[float, Mapping[str, int | float]]], aggregator: Aggregator, unit: Unit
) -> list[tuple[float, dict[str, int | float]]]:
    """Begin of each bucket that has values (Unix seconds, UTC), with one number for each name in it.

    :param reports: Unix seconds and the numbers that were reported then, in any order.
    """
    buckets: dict[dt.datetime, dict[str, list[Fraction]]] = {}
    for at, numbers in reports:
        bucket = buckets.setdefault(_begin(at, unit), {})
        for name, number in numbers.items():
            # The text of a float is what was meant: 0.1 and not the binary number beside it.
            bucket.setdefault(name, []).append(Fraction(str(number)))
    compute = _COMPUTE[aggregator]
    return [
        (begin.timestamp(), {name: _number(compute(values)) for name, values in found.items()})
        for begin, found in sorted(buckets.items())
        if found
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

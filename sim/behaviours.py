"""Data points that move by themselves: functions of time that give real values."""

from __future__ import annotations

import dataclasses
import math
import re
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random
from typing import Final, Protocol

from gizserial.errors import EncodeError
from gizserial.product import DataPoint, DataType, Product

_MOVE: Final = re.compile(
    r"(?P<name>[^=]+)=(?P<kind>[a-z]+):(?P<low>-?[0-9.]+)\.\.(?P<high>-?[0-9.]+)(?::(?P<seconds>[0-9.]+))?"
)
PERIOD: Final = 60.0
"""Seconds of a wave or ramp when none are given."""
HELP: Final = "NAME=sine|ramp|square|walk:LOW..HIGH[:SECONDS]"


class Behaviour(Protocol):
    """How one value moves."""

    def at(self, t: float) -> float:
        """The value at a time in seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sine:
    """Up and down, once per period."""

    low: float
    high: float
    period: float

    def at(self, t: float) -> float:
        """Begins in the middle, rising."""
        middle, swing = (self.high + self.low) / 2, (self.high - self.low) / 2
        return middle + swing * math.sin(2 * math.pi * t / self.period)


@dataclasses.dataclass(frozen=True, slots=True)
class Ramp:
    """From low to high, then again from low."""

    low: float
    high: float
    period: float

    def at(self, t: float) -> float:
        """Begins at low."""
        return self.low + (self.high - self.low) * (t % self.period) / self.period


@dataclasses.dataclass(frozen=True, slots=True)
class Square:
    """Low for half a period, then high."""

    low: float
    high: float
    period: float

    def at(self, t: float) -> float:
        """Begins at low."""
        return self.low if t % self.period < self.period / 2 else self.high


class Walk:
    """A random walk of up to a twentieth of the range per step, one step each second."""

    def __init__(self, low: float, high: float, random: Random) -> None:
        self._low, self._high, self._random = low, high, random
        self._value = (low + high) / 2
        self._last = float("-inf")

    def at(self, t: float) -> float:
        """Steps when a second has passed since the last step."""
        if t - self._last >= 1:
            self._last = t
            step = (self._high - self._low) / 20
            moved = self._value + self._random.uniform(-step, step)
            self._value = min(self._high, max(self._low, moved))
        return self._value


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A data point and how it moves."""

    point: DataPoint
    behaviour: Behaviour

    def raw(self, t: float) -> int:
        """The raw value nearest to the moving one, within what the definition allows."""
        value = self.behaviour.at(t)
        if self.point.scale is None:
            return min(self.point.raw_limit, max(0, round(value)))
        scale = self.point.scale
        raw = (Decimal(repr(value)) - scale.addition) / scale.ratio
        nearest = int(raw.to_integral_value(ROUND_HALF_EVEN))
        return min(scale.raw_max, max(scale.raw_min, nearest))


def parse_move(word: str, product: Product, random: Random) -> Move:
    """A ``--move`` word.

    :raises EncodeError: it is not one, or names no numeric, bool or enum point.
    """
    match = _MOVE.fullmatch(word)
    if match is None:
        raise EncodeError(f"{word!r} does not move anything; write {HELP}")
    point = product.point(match["name"])
    if point.data_type is DataType.BINARY:
        raise EncodeError(f"{point.name} is a binary point; only numbers, bools and enums move")
    try:
        low, high = float(match["low"]), float(match["high"])
        period = float(match["seconds"] or PERIOD)
    except ValueError:
        raise EncodeError(f"{word!r} has a number that is none; write {HELP}") from None
    if not math.isfinite(low) or not math.isfinite(high) or low > high:
        raise EncodeError(f"{word!r}: LOW is a number of at most HIGH")
    if not 0 < period < math.inf:
        raise EncodeError(f"{word!r}: the period is a number of seconds above 0")
    kind = match["kind"]
    if kind == "sine":
        return Move(point, Sine(low, high, period))
    if kind == "ramp":
        return Move(point, Ramp(low, high, period))
    if kind == "square":
        return Move(point, Square(low, high, period))
    if kind == "walk":
        return Move(point, Walk(low, high, random))
    raise EncodeError(f"{kind!r} is no way to move; write {HELP}")

"""Data points of a capture over time: what the device said, what was asked of it, where the line was bad."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gizserial.capture.record import Record
from gizserial.codec import Codec, Message
from gizserial.describe import json_value
from gizserial.errors import GizserialError, UnknownName
from gizserial.framing import Frame
from gizserial.p0 import Meaning
from gizserial.product import DataPoint, DataType, Product
from gizserial.streams import describe_records

GAP: Final = 120.0
"""A line on which both sides live is never silent for so long: the heartbeat comes every 55 s."""
MOST: Final = 12
"""Curves drawn when no names are given."""
MOST_DOTS: Final = 200
"""A curve with more samples has no dots: they would run into a band that hides it."""
COLUMNS: Final = 2000
"""Differences in time that a picture can show."""
STATUS: Final = "status."
"""Before the name of a bit of the module's status word (cli.md §6)."""
STATUS_BITS: Final = (
    *("soft_ap", "station", "onboarding", "binding", "router", "cloud", "rssi", "app", "test"),
)


class NothingToPlotError(GizserialError):
    """The capture does not hold what was asked for."""


@dataclasses.dataclass(slots=True)
class Curve:
    """One value. It holds from each sample to the next: the device says what changed, and when."""

    name: str
    labels: tuple[str, ...] | None = None
    """Texts of the numbers 0, 1, ... of a bool or an enum; None for a number."""
    samples: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    asked: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    """What controls asked for."""

    def add(self, t: float, number: float) -> None:
        """The device said it.

        Where there are no dots, a report between two others of the same value is forgotten, unless they are
        so far apart that a gap may be between them.
        """
        said = self.samples
        if len(said) > MOST_DOTS and said[-1][1] == said[-2][1] == number and t - said[-2][0] <= GAP:
            said[-1] = t, number
        else:
            said.append((t, number))

    def text(self, number: float) -> str:
        """The value as people read it."""
        if self.labels is not None and number == int(number) and 0 <= number < len(self.labels):
            return self.labels[int(number)]
        return f"{number:.10g}"

    @property
    def changes(self) -> bool:
        """It had more than one value."""
        return len({number for _, number in self.samples}) > 1

    def range(self) -> tuple[float, float]:
        """The lowest and the highest number."""
        numbers = [number for _, number in (*self.samples, *self.asked)]
        return min(numbers), max(numbers)


@dataclasses.dataclass(slots=True)
class Plot:
    """Curves over one time axis."""

    curves: list[Curve]
    bad: list[float]
    """When something came that was no good frame."""
    gaps: list[tuple[float, float]]
    """Stretches in which nothing at all was heard."""
    start: float
    end: float
    timed: bool
    """The axis is seconds; without times in the capture it counts frames."""
    left_out: list[str]
    """Points that change too, when nobody named any and there are too many."""


def parts(curve: Curve, plot: Plot) -> Iterator[list[tuple[float, float]]]:
    """The samples between gaps, each part held up to the gap or the end."""
    ends = [gap[0] for gap in plot.gaps] + [plot.end]
    starts = [plot.start] + [gap[1] for gap in plot.gaps]
    for start, end in zip(starts, ends, strict=True):
        first = bisect.bisect_left(curve.samples, start, key=_time)
        after = bisect.bisect_right(curve.samples, end, key=_time)
        if inside := curve.samples[first:after]:
            yield [*thinned(inside, plot), (end, inside[-1][1])]


def thinned(samples: list[tuple[float, float]], plot: Plot) -> list[tuple[float, float]]:
    """Of many samples those that a picture needs: the first, lowest, highest and last of each column."""
    if len(samples) <= 4 * COLUMNS:
        return samples
    kept: list[tuple[float, float]] = []
    for _, group in itertools.groupby(samples, lambda sample: _column(sample[0], plot)):
        column = list(group)
        numbers = [number for _, number in column]
        places = {0, numbers.index(min(numbers)), numbers.index(max(numbers)), len(column) - 1}
        kept += [column[place] for place in sorted(places)]
    return kept


def damage(plot: Plot) -> list[float]:
    """When something bad came, once for each column of a picture."""
    return list({_column(t, plot): t for t in plot.bad}.values())


def _column(t: float, plot: Plot) -> int:
    return int((t - plot.start) / ((plot.end - plot.start) or 1.0) * COLUMNS)


def _time(sample: tuple[float, float]) -> float:
    return sample[0]


def collect(records: Iterable[Record], product: Product, names: Sequence[str] = ()) -> Plot:
    """Read a capture.

    :param names: Data points, or bits of the status word as ``status.cloud``; none: those that change.
    :raises UnknownName: No data point has this name.
    :raises NothingToPlotError: Nothing of it is in the capture, or it is no number.
    """
    curves = {name: _curve(name, product) for name in dict.fromkeys(names)}
    everything = {} if names else {p.name: _curve(p.name, product) for p in product.points if _plottable(p)}
    wanted = curves or everything
    bad: list[float] = []
    gaps: list[tuple[float, float]] = []
    first = last = None
    timed = True
    for count, described in enumerate(describe_records(_watched(records, gaps), Codec(product))):
        timed = timed and described.t is not None
        t = float(count) if described.t is None else described.t
        first, last = t if first is None else first, max(t, last or t)
        message = described.message
        if not isinstance(described.item, Frame) or message is None or message.error is not None:
            bad.append(t)
            continue
        _take(message, t, wanted)
    if first is None or last is None:
        raise NothingToPlotError("the capture is empty")
    found = [curve for curve in wanted.values() if curve.samples or curve.asked]
    left_out: list[str] = []
    if not names:
        found = [curve for curve in found if curve.changes]
        left_out = [curve.name for curve in found[MOST:]]
        found = found[:MOST]
        if not found:
            raise NothingToPlotError("no data point changes in the capture; name what to plot")
    for name, curve in curves.items():
        if not curve.samples and not curve.asked:
            raise NothingToPlotError(f"{name} is never said in the capture")
    for curve in found:
        curve.samples.sort(key=_time)  # the clock of a recorder may have been set back
    return Plot(found, bad, gaps, first, last, timed, left_out)


def _watched(records: Iterable[Record], gaps: list[tuple[float, float]]) -> Iterator[Record]:
    """The records, while their silences are noted."""
    last: float | None = None
    for record in records:
        if record.t is not None:
            if last is not None and record.t - last > GAP:
                gaps.append((last, record.t))
            last = record.t
        yield record


def _plottable(point: DataPoint) -> bool:
    return point.data_type is not DataType.BINARY


def _curve(name: str, product: Product) -> Curve:
    bit = name.removeprefix(STATUS)
    if bit != name:
        if bit not in STATUS_BITS:
            raise UnknownName("bit of the status word", bit, STATUS_BITS)
        return Curve(name, None if bit == "rssi" else ("false", "true"))
    point = product.point(name)
    if not _plottable(point):
        raise NothingToPlotError(f"{name} is binary: it has no number that could be drawn")
    if point.data_type is DataType.BOOL:
        return Curve(name, ("false", "true"))
    return Curve(name, tuple(point.texts) or None)


def _take(message: Message, t: float, wanted: dict[str, Curve]) -> None:
    if message.attrs is not None and message.raw is not None and message.p0 is not None:
        control = message.p0.meaning is Meaning.CONTROL
        for name, value in message.attrs.items():
            curve = wanted.get(name)
            if curve is None:
                continue
            raw = message.raw[name]
            number = raw if curve.labels is not None else json_value(value)
            if not isinstance(number, int | float):
                continue
            if control:
                curve.asked.append((t, float(number)))
            else:
                curve.add(t, float(number))
    elif message.name == "status" and message.fields:
        for name, value in message.fields.items():
            curve = wanted.get(STATUS + name)
            if curve is not None:
                curve.add(t, float(value))


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, at most so many."""
    for exponent in range(-12, 13):
        for factor in (1, 2, 5):
            step = factor * 10.0**exponent
            if (high - low) / step > most:
                continue
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most and low < high:
                return [round(number * step, 12) for number in range(first, last + 1)]
    return [low]

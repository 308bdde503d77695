"""When an MCU reports, and what: the SDK's report policy without its timer fault (serial.md §6.6)."""

from __future__ import annotations

from typing import Final

from gizserial.datapoints import Raw
from gizserial.errors import ValueOutOfRange
from gizserial.mcu_options import McuOptions
from gizserial.product import Access, DataPoint, DataType, Layout, Product

_SLOW_TYPES: Final = frozenset({DataType.UINT8, DataType.UINT16, DataType.UINT32, DataType.BINARY})


def is_slow(point: DataPoint) -> bool:
    """Whether a change of the point waits for ``report_min_s``: read-only numbers and binaries."""
    return point.access is Access.READONLY and point.data_type in _SLOW_TYPES


def zero(point: DataPoint) -> Raw:
    """The value after power-up: a real 0, as in the SDK, or the least raw value where 0 is not allowed."""
    if point.data_type is DataType.BINARY:
        return bytes(point.size)
    if point.scale is None:
        return 0
    try:
        return point.raw(0)
    except ValueOutOfRange:
        return point.scale.raw_min


class ReportPolicy:
    """Compares live values with those reported last.

    A fixed-length report carries everything, so it brings the slow points along; in variable length only
    what may be reported now is flagged.
    """

    def __init__(self, product: Product, options: McuOptions) -> None:
        self._product, self._options = product, options
        self._slow: Final = tuple(point for point in product.points if is_slow(point))
        self.reported: dict[str, Raw] = {}
        self._last_slow = float("-inf")
        """When slow points were reported, the periodic report aside. Reports without them do not count: a
        switch that moves every few seconds would keep a variable-length product's numbers off the line."""
        self._full_due: float | None = None
        self.power_up(0.0)

    def power_up(self, now: float) -> None:
        """Nothing was reported yet: the start state counts as known (observed.md, MCU SDK)."""
        self.reported = {point.name: zero(point) for point in self._product.points}
        self._last_slow = float("-inf")
        self._full_due = now + self._options.report_full_s if self._product.points else None

    def next_timeout(self, live: dict[str, Raw]) -> float | None:
        """When a report is due by time alone."""
        times = [] if self._full_due is None else [self._full_due]
        if any(self._differs(point, live) for point in self._slow):
            times.append(self._last_slow + self._options.report_min_s)
        return min(times, default=None)

    def full_due(self, now: float) -> bool:
        """The periodic report is due."""
        return self._full_due is not None and now >= self._full_due

    def due(self, live: dict[str, Raw], now: float) -> list[str]:
        """Changed points that are to be reported now, in id order; empty when none is."""
        slow_too = self._slow_too(now)
        changed = [point for point in self._product.points if self._differs(point, live)]
        quick = any(not is_slow(point) for point in changed)
        if self._product.layout is Layout.FIXED:
            return [point.name for point in changed] if quick or slow_too else []
        return [point.name for point in changed if slow_too or not is_slow(point)]

    def _slow_too(self, now: float) -> bool:
        return now >= self._last_slow + self._options.report_min_s

    def sent(self, names: list[str], live: dict[str, Raw], now: float, *, full: bool) -> None:
        """A report left. The copy is updated when it is sent, not when it is acked (§6.6)."""
        whole = full or self._product.layout is Layout.FIXED
        carried = [
            point for point in self._product.points if is_slow(point) and (whole or point.name in names)
        ]
        if self._options.report_min_slow_only:
            carried = [point for point in carried if self._slow_too(now) and self._differs(point, live)]
        for name in [point.name for point in self._product.points] if whole else names:
            self.reported[name] = live[name]
        if whole:
            self._full_due = now + self._options.report_full_s
        if carried and not full:
            self._last_slow = now

    def _differs(self, point: DataPoint, live: dict[str, Raw]) -> bool:
        return live[point.name] != self.reported[point.name]

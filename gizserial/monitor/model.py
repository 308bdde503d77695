"""Bytes of one or two lines and times → rows, values and counters in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from gizserial.capture.record import MAX_TIME, Record
from gizserial.codec import Codec
from gizserial.commands import Direction
from gizserial.describe import Described
from gizserial.framing import Frame
from gizserial.monitor.counters import Counters
from gizserial.monitor.filters import Filter
from gizserial.monitor.rows import Row, one_line, row_of
from gizserial.monitor.values import Values
from gizserial.product import Product
from gizserial.streams import Lane, described_by

KEEP: Final = 20_000
"""Rows that are kept unless told otherwise."""
KEEP_BYTES: Final = 32 * 1024 * 1024
"""Wire bytes that the kept rows hold at most."""
TRIM_AFTER: Final = 500
"""Rows that may be shown a little longer than they are kept."""
IDLE: Final = 0.5
"""Seconds of silence that end an incomplete frame, as in the roles (serial.md §1.7)."""


class Monitor:
    """A machine that listens.

    :param keep: Rows that are kept; older ones are dropped.
    """

    def __init__(self, product: Product | None = None, *, keep: int = KEEP) -> None:
        self.codec: Final = Codec(product)
        self.values = Values(product)
        self.counters = Counters()
        self.filter = Filter()
        self.rows: deque[Row] = deque()
        self.shown: list[Row] = []
        """The kept rows that the filter lets through."""
        self.dropped = 0
        """How many of the shown rows were dropped from the front since the filter was set."""
        self._keep = max(1, keep)
        self._kept_bytes = 0
        self._number = 0
        self._lanes: dict[Direction | None, Lane[Described]] = {}
        self._last_byte: dict[Direction | None, float] = {}

    # --- in --------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, *, now: float, direction: Direction | None = None) -> list[Row]:
        """Bytes that came. Never raises on what a peer sent; gives the rows they made.

        :param direction: Who sent them; None where one line carries both.
        """
        self._last_byte[direction] = now
        return self._take(self._lane(direction).feed(Record(now, direction, data)), direction)

    def receive_record(self, record: Record) -> list[Row]:
        """One record of a capture, which may have no time."""
        return self._take(self._lane(record.direction).feed(record), record.direction)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due, or None while nothing is incomplete."""
        return min(
            (
                self._last_byte[d] + IDLE
                for d, lane in self._lanes.items()
                if lane.waiting and d in self._last_byte
            ),
            default=None,
        )

    def handle_timeout(self, *, now: float) -> list[Row]:
        """Lines that fell silent: what is incomplete is told as it is."""
        done: list[Row] = []
        for direction, lane in self._lanes.items():
            last = self._last_byte.get(direction)
            if lane.waiting and last is not None and now >= last + IDLE:
                done += self._take(lane.flush(), direction)
        return done

    def flush(self) -> list[Row]:
        """The input ended."""
        return [item for d, lane in self._lanes.items() for item in self._take(lane.flush(), d)]

    def line(self, text: str, *, now: float, lost: bool = False) -> None:
        """Something happened to a line: it becomes a row of its own."""
        if lost:
            self.flush()
            self.counters.line_losses += 1
        self._number += 1
        self._add(Row(number=self._number, t=now, kind="line", name="line", direction=None, text=text))

    # --- out -------------------------------------------------------------------------------------------

    def text(self, row: Row) -> str:
        """What the row says, in one line."""
        return one_line(row, self.codec)

    def set_filter(self, wanted: Filter) -> None:
        """Show other rows."""
        self.filter = wanted
        self.shown = [row for row in self.rows if self._matches(row)]
        self.dropped = 0

    def clear(self) -> None:
        """Forget rows, counters and what is known of values; numbers go on."""
        self.rows.clear()
        self.shown.clear()
        self.dropped = self._kept_bytes = 0
        self.counters = Counters()
        self.values = Values(self.codec.product)

    def records(self, rows: Iterable[Row] | None = None) -> Iterator[Record]:
        """The kept rows, or those given, as records of a capture. Times never go backwards below 0."""
        for row in self.rows if rows is None else rows:
            if row.item is not None:
                t = None if row.t is None else min(max(row.t, 0.0), MAX_TIME)
                yield Record(t, row.seen, row.item.wire)

    # --- inside ----------------------------------------------------------------------------------------

    def _lane(self, direction: Direction | None) -> Lane[Described]:
        lane = self._lanes.get(direction)
        if lane is None:
            lane = self._lanes[direction] = Lane(described_by(self.codec), direction, lenient=True)
        return lane

    def _take(self, items: Iterable[Described], seen: Direction | None) -> list[Row]:
        done = []
        for described in items:
            item = described.item
            repeat = isinstance(item, Frame) and self.counters.is_repeat(
                item, described.direction, described.t
            )
            self._number += 1
            row = row_of(described, number=self._number, seen=seen, repeat=repeat)
            self.counters.add(row)
            self.values.take(described)
            self._add(row)
            done.append(row)
        return done

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        self._kept_bytes += row.size
        if self._matches(row):
            self.shown.append(row)
        gone = 0
        while len(self.rows) > self._keep or (self._kept_bytes > KEEP_BYTES and len(self.rows) > 1):
            old = self.rows.popleft()
            self._kept_bytes -= old.size
            gone += 1
        if gone and self.shown and self.shown[0].number + TRIM_AFTER < self.rows[0].number:
            self._trim()

    def _trim(self) -> None:
        """Forget shown rows that are no longer kept. Now and then only: a list is slow to take from."""
        first = self.rows[0].number
        stale = sum(1 for _ in _while_older(self.shown, first))
        if stale:
            del self.shown[:stale]
            self.dropped += stale

    def _matches(self, row: Row) -> bool:
        return self.filter.matches(row, lambda: one_line(row, self.codec))


def _while_older(rows: list[Row], number: int) -> Iterator[Row]:
    for row in islice(rows, len(rows)):
        if row.number >= number:
            return
        yield row

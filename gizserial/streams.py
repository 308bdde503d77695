"""Records of a capture → described items: one framer per direction, the time of every item's first byte."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from gizserial.capture.record import Record
from gizserial.codec import Codec
from gizserial.commands import Direction
from gizserial.describe import Described, describe
from gizserial.framing import Framer, Item


class _Lane:
    """One direction of a stream."""

    def __init__(self, codec: Codec, direction: Direction | None, *, lenient: bool) -> None:
        self._codec = codec
        self._direction = direction
        self._framer = Framer(lenient=lenient, hold_noise=True)
        self._times: deque[tuple[int, float | None]] = deque()

    def feed(self, record: Record) -> Iterator[Described]:
        if record.data:
            self._times.append((self._framer.offset, record.t))
        return self._describe(self._framer.feed(record.data))

    def flush(self) -> Iterator[Described]:
        return self._describe(self._framer.flush())

    def _describe(self, items: Iterable[Item]) -> Iterator[Described]:
        for item in items:
            yield describe(item, self._codec, t=self._time_of(item.offset), direction=self._direction)

    def _time_of(self, offset: int) -> float | None:
        """Time of the record that held this byte. Items come in order, so older records can go."""
        while len(self._times) > 1 and self._times[1][0] <= offset:
            self._times.popleft()
        return self._times[0][1] if self._times else None


def describe_records(records: Iterable[Record], codec: Codec, *, lenient: bool = True) -> Iterator[Described]:
    """Every byte of a stream in exactly one item, per direction in wire order (cli.md §4)."""
    lanes: dict[Direction | None, _Lane] = {}
    for record in records:
        lane = lanes.get(record.direction)
        if lane is None:
            lane = lanes[record.direction] = _Lane(codec, record.direction, lenient=lenient)
        yield from lane.feed(record)
    for lane in lanes.values():
        yield from lane.flush()

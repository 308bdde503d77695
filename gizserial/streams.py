"""Records of a capture → described items: one framer per direction, the time of every item's first byte."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeAlias, TypeVar

from gizserial.capture.record import Record
from gizserial.codec import Codec
from gizserial.commands import Direction
from gizserial.describe import Described, describe
from gizserial.framing import Framer, Item

T = TypeVar("T")
Make: TypeAlias = Callable[[Item, float | None, Direction | None], T]
"""What becomes of an item, the time of its first byte, and its direction."""


class Lane(Generic[T]):
    """One direction of a stream: records in, items out, each with the time of its first byte.

    :param make: What is given for an item; see :func:`described_by`.
    """

    def __init__(self, make: Make[T], direction: Direction | None, *, lenient: bool) -> None:
        self._make = make
        self._direction = direction
        self._framer = Framer(lenient=lenient, hold_noise=True)
        self._times: deque[tuple[int, float | None]] = deque()
        self._told = 0

    @property
    def waiting(self) -> bool:
        """Bytes were taken that are in no item yet: a line that fell silent ends them with :meth:`flush`."""
        return self._framer.offset > self._told

    def feed(self, record: Record) -> Iterator[T]:
        """Take a record and give what it completed."""
        if record.data:
            self._times.append((self._framer.offset, record.t))
        return self._made(self._framer.feed(record.data))

    def flush(self) -> Iterator[T]:
        """The stream ended or fell silent: give what is left."""
        return self._made(self._framer.flush())

    def _made(self, items: Iterable[Item]) -> Iterator[T]:
        for item in items:
            self._told = item.offset + len(item.wire)
            yield self._make(item, self._time_of(item.offset), self._direction)

    def _time_of(self, offset: int) -> float | None:
        """Time of the record that held this byte. Items come in order, so older records can go."""
        while len(self._times) > 1 and self._times[1][0] <= offset:
            self._times.popleft()
        return self._times[0][1] if self._times else None


def described_by(codec: Codec) -> Make[Described]:
    """Items with everything that can be said of them."""
    return lambda item, t, direction: describe(item, codec, t=t, direction=direction)


def describe_records(records: Iterable[Record], codec: Codec, *, lenient: bool = True) -> Iterator[Described]:
    """Every byte of a stream in exactly one item, per direction in wire order (cli.md §4)."""
    return cut_records(records, described_by(codec), lenient=lenient)


def cut_records(records: Iterable[Record], make: Make[T], *, lenient: bool = True) -> Iterator[T]:
    """As :func:`describe_records`, with something else for each item."""
    lanes: dict[Direction | None, Lane[T]] = {}
    for record in records:
        lane = lanes.get(record.direction)
        if lane is None:
            lane = lanes[record.direction] = Lane(make, record.direction, lenient=lenient)
        yield from lane.feed(record)
    for lane in lanes.values():
        yield from lane.flush()

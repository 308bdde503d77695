"""Who sent what on a line where both are heard at one place: the commands of the frames say it."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from gizserial.capture.record import Record
from gizserial.codec import Codec
from gizserial.commands import Direction
from gizserial.framing import Frame, Framer, Item

SILENCE: Final = 0.5
"""A frame in which nothing arrives for so long is over."""
HOLD: Final = 2.0
"""Bytes before the first frame whose sender is known wait for it so long."""
HOLD_MOST: Final = 4096
"""And at most so many of them."""
UNKNOWN: Final[Direction] = "mcu>module"
"""What they count as then: it is usually the MCU whose line is tapped."""
GUESSED: Final = MappingProxyType({"guessed": True})


class Senders:
    """Bytes of one tap → one record for each frame, with its direction.

    What has no sender of its own (noise, damaged frames, unknown commands and those that both ends send)
    counts to the frame before it and has the extra member ``guessed``.
    """

    def __init__(self) -> None:
        self._framer = Framer(lenient=True)
        self._times: deque[tuple[int, float]] = deque()
        self._last: Direction | None = None
        self._held: list[Record] = []
        self._held_bytes = 0
        self._heard = 0.0

    def receive_data(self, data: bytes, *, now: float) -> list[Record]:
        """Take bytes and give the records that they completed."""
        if data:
            self._times.append((self._framer.offset, now))
            self._heard = now
        return self._records(self._framer.feed(data))

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due; None while nothing is waiting."""
        times = [self._heard + SILENCE] if self._framer.in_frame else []
        if self._held:
            times.append((self._held[0].t or 0.0) + HOLD)
        return min(times, default=None)

    def handle_timeout(self, *, now: float) -> list[Record]:
        """The line fell silent, or the first sender was waited for long enough."""
        ended = self._framer.flush() if self._framer.in_frame and now >= self._heard + SILENCE else []
        records = self._records(ended)
        if self._held and now >= (self._held[0].t or 0.0) + HOLD:
            records += self._let_go(UNKNOWN)
        return records

    def flush(self) -> list[Record]:
        """The end: everything that is left."""
        return [*self._records(self._framer.flush()), *self._let_go(self._last or UNKNOWN)]

    def _records(self, items: Iterable[Item]) -> list[Record]:
        found: list[Record] = []
        for item in items:
            direction = Codec.direction_of(item.command) if isinstance(item, Frame) else None
            record = Record(self._time_of(item.offset), direction, item.wire)
            if direction is not None:
                found += self._let_go(direction)
                self._last = direction
                found.append(record)
            elif self._last is not None:
                found.append(_guess(record, self._last))
            else:
                self._held.append(record)
                self._held_bytes += len(item.wire)
                if self._held_bytes > HOLD_MOST:
                    found += self._let_go(UNKNOWN)
        return found

    def _let_go(self, direction: Direction) -> list[Record]:
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._last = self._last or direction
        return [_guess(record, direction) for record in held]

    def _time_of(self, offset: int) -> float:
        while len(self._times) > 1 and self._times[1][0] <= offset:
            self._times.popleft()
        return self._times[0][1] if self._times else 0.0


def _guess(record: Record, direction: Direction) -> Record:
    return dataclasses.replace(record, direction=direction, extra=GUESSED)


def with_senders(records: Iterable[Record]) -> Iterable[Record]:
    """Records that all say who sent them, also where the capture does not."""
    senders = Senders()
    for record in records:
        if record.direction is not None:
            yield record
        else:
            yield from senders.receive_data(record.data, now=record.t or 0.0)
    yield from senders.flush()

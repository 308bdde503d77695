"""``--pace``: makes a line that is faster as slow as its baud rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gizserial.io.base import WRITE_LIMIT, Data, LineEvent, Lost, Transport
from gizserial.io.wrapped import WrappedPort

BITS_PER_BYTE: Final = 10
"""Start bit, 8 data bits, stop bit (serial.md §1.1)."""
SLICE: Final = 0.002
"""Longest time, in seconds, whose bytes are passed on together; at least one byte."""
HELD_LIMIT: Final = 4096
"""Bytes from the peer that we hold before we stop reading."""


class Lane:
    """One direction: passes bytes on when their last bit would have arrived.

    The average is exact, however late the event loop is: bytes are due at times that follow from one another,
    and all that are due are passed on together.

    :param byte_time: Seconds per byte.
    :param on_due: Gets the bytes.
    """

    def __init__(self, byte_time: float, on_due: Callable[[bytes], None]) -> None:
        self._byte_time, self._on_due = byte_time, on_due
        self._slice = max(1, int(SLICE / byte_time))
        self._held = bytearray()
        self._start = float("-inf")  # when the first held byte begins; when the line is free, if none is held
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0  # bytes that the timer was set for

    def __len__(self) -> int:
        return len(self._held)

    def push(self, data: bytes) -> None:
        """Put bytes behind those that are on their way."""
        if not self._held:
            self._start = max(self._start, asyncio.get_running_loop().time())
        self._held += data
        if self._timer is None:
            self._arm()

    def take(self) -> bytes:
        """Everything that is on its way; the lane is empty and idle then."""
        data = bytes(self._held)
        self._held.clear()
        self._start = float("-inf")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return data

    def _arm(self) -> None:
        self._armed = min(self._slice, len(self._held))
        due = self._start + self._armed * self._byte_time
        self._timer = asyncio.get_running_loop().call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        passed = asyncio.get_running_loop().time() - self._start
        # The event loop may be early by its clock's resolution; what it was set for is due in any case.
        size = min(len(self._held), max(int(passed / self._byte_time), self._armed))
        data = bytes(self._held[:size])
        del self._held[:size]
        self._start += size * self._byte_time
        if self._held:
            self._arm()
        self._on_due(data)


class PacedPort(WrappedPort):
    """A transport as slow as its baud rate, in both directions.

    :param inner: The line that carries the bytes. It belongs to this object from now on.
    :param baud: Bits per second, ten to a byte.
    """

    def __init__(self, inner: Transport, *, baud: int, write_limit: int = WRITE_LIMIT) -> None:
        super().__init__(inner, write_limit=write_limit)
        self._outward = Lane(BITS_PER_BYTE / baud, self._send)
        self._inward = Lane(BITS_PER_BYTE / baud, self._deliver)

    async def _close(self) -> None:
        self._outward.take()
        self._inward.take()
        await super()._close()

    def _start_writing(self) -> None:
        data = bytes(self._waiting)
        self._waiting.clear()
        self._outward.push(data)

    def _unsent(self) -> int:
        return len(self._outward)

    def _happened(self, event: LineEvent) -> None:
        if isinstance(event, Data):
            self._inward.push(event.data)
            if self._on_hand() > HELD_LIMIT:
                self._inner.pause_reading()
            return
        if isinstance(event, Lost):
            self._outward.take()
            self._deliver(self._inward.take())  # it was sent before the line broke
        self._queue(event)

    def _deliver(self, data: bytes) -> None:
        if data:
            self._queue(Data(data))
            self._read_on()

    def _on_hand(self) -> int:
        return len(self._inward) + sum(len(event.data) for event in self._held if isinstance(event, Data))

    def _read_on(self) -> None:
        if self._on_hand() <= HELD_LIMIT:
            self._inner.resume_reading()

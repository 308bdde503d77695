"""A transport with faults: whatever carries the bytes, in the time of the event loop, real or virtual."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from gizserial.commands import Direction, Role
from gizserial.io.base import WRITE_LIMIT, Data, LineEvent, Lost, Overflow, Transport
from gizserial.io.memory import Piece
from gizserial.io.wrapped import WrappedPort
from sim.faults import Faults

Tap: TypeAlias = Callable[[Direction, bytes, float, bool], None]
"""Told what crosses the line: direction, bytes, seconds since it was opened, and whether the faults have
happened to it."""


class FaultyTransport(WrappedPort):
    """A line on which faults happen to what is written and to what comes.

    :param inner: The line that carries the bytes. It belongs to this object from now on.
    :param role: Whose end this is: a module sends ``module>mcu``.
    :param tap: Told everything, before and after the faults.
    """

    def __init__(
        self,
        inner: Transport,
        faults: Faults,
        role: Role,
        *,
        tap: Tap | None = None,
        write_limit: int = WRITE_LIMIT,
    ) -> None:
        super().__init__(inner, write_limit=write_limit)
        self.faults: Final = faults
        self._out: Direction = role.direction
        self._in: Direction = role.peer.direction
        self._tap = tap
        self._start = 0.0
        self._outward = _Waiting(self._send)
        self._inward = _Waiting(self._arrive)

    def pause_reading(self) -> None:
        """Report no more data."""
        super().pause_reading()
        self._inner.pause_reading()

    async def _open(self) -> None:
        self._start = asyncio.get_running_loop().time()
        await super()._open()

    async def _close(self) -> None:
        self._outward.clear()
        self._inward.clear()
        await super()._close()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._start

    def _start_writing(self) -> None:
        data = bytes(self._waiting)
        self._waiting.clear()
        now = self._now()
        self._told(self._out, data, now, False)
        self._inward.push(self._absolute(self.faults.returned(self._out, data, now)))
        self._outward.push(self._absolute(self.faults.passed(self._out, data, now)))
        if not self._outward.size:
            self._sent_all()

    def _unsent(self) -> int:
        return self._outward.size

    def _send(self, data: bytes) -> None:
        self._told(self._out, data, self._now(), True)
        super()._send(data)

    def _happened(self, event: LineEvent) -> None:
        if isinstance(event, Data):
            now = self._now()
            self._told(self._in, event.data, now, False)
            if self._inward.size + len(event.data) > WRITE_LIMIT:
                self._queue(Overflow(len(event.data)))
                return
            self._outward.push(self._absolute(self.faults.returned(self._in, event.data, now)))
            self._inward.push(self._absolute(self.faults.passed(self._in, event.data, now)))
            return
        if isinstance(event, Lost):
            self._outward.clear()
            self._inward.clear()
        self._queue(event)

    def _read_on(self) -> None:
        if not self._paused:
            self._inner.resume_reading()

    def _arrive(self, data: bytes) -> None:
        self._told(self._in, data, self._now(), True)
        self._queue(Data(data))

    def _absolute(self, pieces: list[Piece]) -> list[Piece]:
        return [(at + self._start, piece) for at, piece in pieces if piece]

    def _told(self, direction: Direction, data: bytes, now: float, faulted: bool) -> None:
        if self._tap is not None:
            self._tap(direction, data, now, faulted)


class _Waiting:
    """Bytes that are passed on at their times, in order; those that are due at once, at once."""

    def __init__(self, on_due: Callable[[bytes], None]) -> None:
        self._on_due = on_due
        self._pieces: deque[Piece] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._passing = False
        self.size = 0

    def push(self, pieces: list[Piece]) -> None:
        """Put pieces behind those that wait."""
        for at, piece in pieces:
            after = self._pieces[-1][0] if self._pieces else at
            self._pieces.append((max(at, after), piece))
            self.size += len(piece)
        if self._timer is None and not self._passing:
            self._pass()

    def clear(self) -> None:
        """Nothing waits any more."""
        self._pieces.clear()
        self.size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        # The event loop may be early by its clock's resolution; what it was set for is due in any case.
        self._pass(self._pieces[0][0] if self._pieces else 0.0)

    def _pass(self, due: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self._passing = True
        try:
            while self._pieces and self._pieces[0][0] <= max(loop.time(), due):
                piece = self._pieces.popleft()[1]
                self.size -= len(piece)
                self._on_due(piece)
        finally:
            self._passing = False
        if self._pieces:
            self._timer = loop.call_at(self._pieces[0][0], self._fire)

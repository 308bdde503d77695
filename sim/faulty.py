"""A transport with faults: whatever carries the bytes, in the time of the event loop, real or virtual."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from gizserial.commands import Direction, Role
from gizserial.framing import Framer
from gizserial.io.base import WRITE_LIMIT, Data, LineEvent, Lost, Overflow, Transport
from gizserial.io.memory import MemoryLink, Piece
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.wrapped import WrappedPort
from sim.faults import Faults

Tap: TypeAlias = Callable[[Direction, bytes, float, bool], None]
"""Told what crosses the line: direction, bytes, seconds since it was opened, and whether the faults have
happened to it."""
WRITE_GAP: Final = 0.05
"""Seconds of silence that end a write of the other end: more than adapters keep bytes back (16 ms)."""


class FaultyTransport(WrappedPort):
    """A line on which faults happen to what is written and to what comes.

    How the other end writes cannot be seen from here, the chunks are the adapter's: a frame that comes counts
    as one write, and so does what a chunk has outside of frames.

    :param inner: The line that carries the bytes. It belongs to this object from now on.
    :param role: Whose end this is: a module sends ``module>mcu``.
    :param tap: Told everything, before and after the faults.
    :param near_only: The other end is such a transport too: each has the faults of what it writes, and tells
        what it writes and what arrives at it. See :meth:`pair`.
    """

    def __init__(
        self,
        inner: Transport,
        faults: Faults,
        role: Role,
        *,
        tap: Tap | None = None,
        near_only: bool = False,
        write_limit: int = WRITE_LIMIT,
    ) -> None:
        super().__init__(inner, write_limit=write_limit)
        self.faults: Final = faults
        self._out: Direction = role.direction
        self._in: Direction = role.peer.direction
        self._tap = tap
        self._near_only = near_only
        self._start = 0.0
        self._outward = _Waiting(self._send)
        self._inward = _Waiting(self._arrive)
        self._writes = _Writes(self._written_there)

    @classmethod
    def pair(
        cls, link: MemoryLink, faults: Faults, *, tap: Tap | None = None
    ) -> tuple[FaultyTransport, FaultyTransport]:
        """The module's end and the MCU's of a line in memory, each with the faults of what it writes."""
        module, mcu = MemoryTransport.pair(link)
        return (
            cls(module, faults, Role.MODULE, tap=tap, near_only=True),
            cls(mcu, faults, Role.MCU, tap=tap, near_only=True),
        )

    def pause_reading(self) -> None:
        """Report no more data."""
        super().pause_reading()
        self._inner.pause_reading()

    async def _open(self) -> None:
        self._start = asyncio.get_running_loop().time()
        await super()._open()

    async def _close(self) -> None:
        self._forget()
        await super()._close()

    def _forget(self) -> None:
        self._outward.clear()
        self._inward.clear()
        self._writes.clear()

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
        if not self._near_only:
            self._told(self._out, data, self._now(), True)
        super()._send(data)

    def _happened(self, event: LineEvent) -> None:
        if isinstance(event, Data):
            self._came(event.data)
            return
        if isinstance(event, Lost):
            self._forget()
        self._queue(event)

    def _came(self, data: bytes) -> None:
        if self._near_only:
            self._arrive(data)
            return
        self._told(self._in, data, self._now(), False)
        if self._writes.begun or self.faults.concern(self._in):
            self._writes.feed(data)
        else:
            self._written_there(data)

    def _written_there(self, data: bytes) -> None:
        if self._inward.size + len(data) > WRITE_LIMIT:
            self._queue(Overflow(len(data)))
            return
        now = self._now()
        self._outward.push(self._absolute(self.faults.returned(self._in, data, now)))
        self._inward.push(self._absolute(self.faults.passed(self._in, data, now)))

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


class _Writes:
    """Makes of the chunks that come what the other end is taken to have written at once."""

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        self._on_write = on_write
        self._framer = Framer()
        self._silence: asyncio.TimerHandle | None = None

    @property
    def begun(self) -> bool:
        """A frame has begun and is not complete."""
        return self._framer.in_frame

    def feed(self, data: bytes) -> None:
        """A chunk has come."""
        self._listen()
        items = self._framer.feed(data)
        if self._framer.in_frame:
            self._silence = asyncio.get_running_loop().call_later(WRITE_GAP, self._give_up)
        for item in items:
            self._on_write(item.wire)

    def clear(self) -> None:
        """What has begun does not go on."""
        self._listen()
        self._framer = Framer()

    def _listen(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _give_up(self) -> None:
        self._silence = None
        for item in self._framer.flush():
            self._on_write(item.wire)


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

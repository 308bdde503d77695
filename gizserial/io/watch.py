"""Listening on one or two lines: what came and when, for whoever takes it; perhaps passed on between them."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Self

from gizserial.commands import Direction
from gizserial.io.base import Back, Data, LineEvent, Lost, Overflow, Transport

BACKLOG: Final = 1024 * 1024
"""Bytes that may wait to be taken, before the ports are left alone for a while."""


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """Bytes of one line."""

    t: float
    """Seconds since the watch began."""
    direction: Direction | None
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """The line came up, went down, or something else that the user may want to know."""

    t: float
    text: str
    lost: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One port and who is heard on it (None: both, the command says who)."""

    port: Transport
    direction: Direction | None = None


class Watch:
    """Listens from ``async with`` on. What it heard waits in order until it is taken.

    :param between: Pass on what one line of two says to the other one.
    :param clock: Seconds, never backwards; the event loop's by default.
    """

    def __init__(
        self, lines: Sequence[Line], *, between: bool = False, clock: Callable[[], float] | None = None
    ) -> None:
        self.lines = tuple(lines)
        self._between = between
        self._clock = clock
        self._start = 0.0
        self._waiting: deque[Heard | Happened] = deque()
        self._bytes = 0
        self._paused = False
        self._wake = asyncio.Event()

    @property
    def now(self) -> float:
        """Seconds since the watch began."""
        clock = self._clock or asyncio.get_running_loop().time
        return clock() - self._start

    @property
    def waiting(self) -> bool:
        """There is something to take."""
        return bool(self._waiting)

    async def __aenter__(self) -> Self:
        """Open the ports; none stays open when one cannot be.

        :raises TransportError: One cannot be opened.
        """
        self._start += self.now
        opened = False
        try:
            for number, line in enumerate(self.lines):
                await line.port.open(functools.partial(self._receive, number))
            opened = True
        finally:
            if not opened:
                await self.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the ports."""
        await self.close()

    async def close(self) -> None:
        """Close the ports. What waits can still be taken."""
        for line in self.lines:
            await line.port.close()

    def take(self) -> Heard | Happened | None:
        """The next thing, or None."""
        if not self._waiting:
            self._wake.clear()
            return None
        thing = self._waiting.popleft()
        if isinstance(thing, Heard):
            self._bytes -= len(thing.data)
            if self._paused and self._bytes < BACKLOG // 2:
                self._paused = False
                for line in self.lines:
                    line.port.resume_reading()
        return thing

    async def wait(self, seconds: float | None = None) -> None:
        """Until there is something to take, or the time is over."""
        if self._waiting:
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _receive(self, number: int, event: LineEvent) -> None:
        line = self.lines[number]
        if isinstance(event, Data):
            if self._between and len(self.lines) == 2:
                self.lines[1 - number].port.write(event.data)
            # Microseconds, as captures have them.
            self._waiting.append(Heard(round(self.now, 6), line.direction, event.data))
            self._bytes += len(event.data)
            if self._bytes > BACKLOG and not self._paused:
                self._paused = True
                for each in self.lines:
                    each.port.pause_reading()
        else:
            self._waiting.append(self._happened(line, event))
        self._wake.set()

    def _happened(self, line: Line, event: LineEvent) -> Happened:
        name = line.port.name
        if isinstance(event, Back):
            return Happened(self.now, f"line up ({name})")
        if isinstance(event, Lost):
            who = "" if name in event.reason else f" ({name})"
            return Happened(self.now, f"line down: {event.reason}{who}", lost=True)
        if isinstance(event, Overflow):
            return Happened(self.now, f"{name} is too slow: {event.dropped} bytes dropped")
        return Happened(self.now, getattr(event, "text", str(event)))

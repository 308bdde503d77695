"""What every transport does, whatever carries the bytes.

A transport tells one receiver, a plain function called in the event loop, what happens on its line::

    await transport.open(receiver)     Back, Data, Data, ..., Lost, Back, Data, ...
    transport.write(b"...")            never blocks
    await transport.close()            silent: nothing is reported afterwards

It is a function and not an iterator because nothing then queues between the line and the machine: a chunk
is read, handled and forgotten before the next one is read, so memory is bounded and latency small. A receiver
that cannot take more for a while calls :meth:`Transport.pause_reading`; the bytes then wait where they are
(in the operating system, or at the peer).

The line is *up* between :class:`Back` and :class:`Lost`. A serial port is up when it has been opened, a
virtual port or a listening socket when somebody opened the other end. Bytes written while the line is
down vanish, as they do on a wire that ends nowhere.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from gizserial.errors import TransportError

WRITE_LIMIT: Final = 65536
"""Bytes that wait for a peer that does not read, before more of them are dropped."""
READ_SIZE: Final = 4096
"""Largest chunk taken from the operating system at once."""
REOPEN_INTERVAL: Final = 0.5
"""Seconds between attempts to open a port again that went away."""


@dataclasses.dataclass(frozen=True, slots=True)
class Back:
    """The line is up: the port was opened (the first time too), or a peer has come."""


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    """Bytes that the peer sent."""

    data: bytes
    """At least one byte, in any chunking."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """The line went down. Reported once; :class:`Back` follows if it comes up again."""

    reason: str
    """One sentence for the user."""


@dataclasses.dataclass(frozen=True, slots=True)
class Overflow:
    """The peer does not read: what was written last is dropped. Once, until everything waiting has left."""

    dropped: int
    """Bytes of the first write that was dropped."""


@dataclasses.dataclass(frozen=True, slots=True)
class Notice:
    """Something the user may want to know; the line is as it was."""

    text: str


LineEvent: TypeAlias = Back | Data | Lost | Overflow | Notice
Receiver: TypeAlias = Callable[[LineEvent], None]


class Transport(Protocol):
    """A line to one peer. All methods belong to the thread of the event loop."""

    @property
    def name(self) -> str:
        """What the user calls it; after :meth:`open` with the real address, where one was chosen."""

    @property
    def other_end(self) -> str | None:
        """What a peer on this machine opens (a PORT again); None where the other end is a device."""

    @property
    def connected(self) -> bool:
        """Whether the line is up."""

    async def open(self, receiver: Receiver, /) -> None:
        """Open it. Events may come before this returns, and until :meth:`close`.

        :raises TransportError: It cannot be opened; one sentence says why and what to do.
        """

    def write(self, data: bytes, /) -> None:
        """Send bytes in order, all of them or none. Never blocks, never raises for what a peer did.

        While the line is down they vanish. When more than :data:`WRITE_LIMIT` would wait, they are dropped
        and :class:`Overflow` is reported.
        """

    async def drain(self) -> None:
        """Wait until everything written was given to the operating system, or the line went down."""

    def pause_reading(self) -> None:
        """Report no more :class:`Data` until :meth:`resume_reading`."""

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""

    async def close(self) -> None:
        """Close it and forget what is waiting. Safe to call twice, and after a failed :meth:`open`."""


class Port:
    """The bookkeeping that transports share: the line's state, and bytes that wait for the peer.

    A subclass opens the thing in :meth:`_open`, calls :meth:`_up`, :meth:`_received` and :meth:`_down`, and
    sends what is in ``_waiting`` when :meth:`_start_writing` tells it to.
    """

    def __init__(self, name: str, *, write_limit: int = WRITE_LIMIT) -> None:
        self._name = name
        self._other_end: str | None = None
        self._connected = False
        self._receiver: Receiver | None = None
        self._waiting = bytearray()
        self._write_limit = write_limit
        self._overflowing = False
        self._paused = False
        self._drained: asyncio.Event | None = None

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._name

    @property
    def other_end(self) -> str | None:
        """What a peer on this machine opens."""
        return self._other_end

    @property
    def connected(self) -> bool:
        """Whether the line is up."""
        return self._connected

    async def open(self, receiver: Receiver, /) -> None:
        """Open it; see :meth:`Transport.open`."""
        if self._receiver is not None:
            raise TransportError(f"{self.name} is open already; close it first")
        self._receiver = receiver
        self._drained = asyncio.Event()
        self._drained.set()
        opened = False
        try:
            await self._open()
            opened = True
        finally:
            if not opened:
                await self.close()

    def write(self, data: bytes, /) -> None:
        """Send bytes; see :meth:`Transport.write`."""
        if not self._connected or not data:
            return
        if self._unsent() + len(data) > self._write_limit:
            if not self._overflowing:
                self._overflowing = True
                self._report(Overflow(len(data)))
            return
        if self._drained is not None:
            self._drained.clear()
        self._waiting += data
        self._start_writing()

    async def drain(self) -> None:
        """Wait until everything was given away; see :meth:`Transport.drain`."""
        if self._drained is not None:
            await self._drained.wait()

    def pause_reading(self) -> None:
        """Report no more data."""
        self._paused = True

    def resume_reading(self) -> None:
        """Report data again."""
        self._paused = False

    async def close(self) -> None:
        """Close it; see :meth:`Transport.close`."""
        self._receiver = None
        self._connected = False
        self._sent_all()
        await self._close()

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError

    def _start_writing(self) -> None:
        """Send ``_waiting``, now or soon, and call :meth:`_sent_all` when it is empty."""
        raise NotImplementedError

    def _unsent(self) -> int:
        """How many bytes wait."""
        return len(self._waiting)

    def _sent_all(self) -> None:
        """Nothing waits any more."""
        self._waiting.clear()
        self._overflowing = False
        if self._drained is not None:
            self._drained.set()

    def _up(self) -> None:
        """The line is up; reported when it was down."""
        if not self._connected and self._receiver is not None:
            self._connected = True
            self._report(Back())

    def _received(self, data: bytes) -> None:
        """Bytes came."""
        self._report(Data(data))

    def _down(self, reason: str) -> None:
        """The line is down; reported when it was up."""
        if self._connected:
            self._connected = False
            self._sent_all()
            self._report(Lost(reason))

    def _report(self, event: LineEvent) -> None:
        if self._receiver is not None:
            self._receiver(event)

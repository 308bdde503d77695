"""A serial line in memory, in virtual time: for tests of anything that talks to a module or an MCU.

::

    link = MemoryLink(byte_time=10 / 9600)
    link.a.set_manipulator(corrupt(Random(7), 0.01))
    link.a.write(b"hello", now=0.0)
    link.next_delivery()            when the next byte is there
    link.b.receive(now=1.0)         what has arrived by then

A manipulator stands between the writer and the line. It gets the bytes of one write and its time, and says
what goes onto the line, and when: nothing, something else, in pieces, later. :func:`chain` joins several. All
that draw lots take a :class:`random.Random` of the caller, so a run can be repeated.

No asyncio here: :class:`gizserial.io.simulation.Simulation` runs two machines over a link, and
:class:`gizserial.io.memory_transport.MemoryTransport` makes transports of its ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import TypeAlias

from gizserial.io.base import WRITE_LIMIT

Piece: TypeAlias = tuple[float, bytes]
"""When bytes go onto the line, and which."""
Manipulator: TypeAlias = Callable[[bytes, float], Iterable[Piece]]
"""Bytes of one write and its time → what becomes of them. Times before the write count as the write's."""


class LinkEnd:
    """One end of a :class:`MemoryLink`: writes to the other end, receives from it. Not made by itself."""

    def __init__(self, byte_time: float, latency: float, limit: int) -> None:
        self._byte_time, self._latency, self._limit = byte_time, latency, limit
        self._peer = self
        self._manipulator: Manipulator = untouched
        self._free = float("-inf")  # when the line towards the peer is free again
        self._coming: deque[tuple[float, bytes]] = (
            deque()
        )  # from the peer: when the first byte begins, the rest
        self._size = 0
        self.dropped = 0
        """Bytes written here that did not fit: the other end does not receive."""

    def set_manipulator(self, manipulator: Manipulator | None) -> None:
        """Let something happen to what is written here from now on; None is nothing."""
        self._manipulator = manipulator or untouched

    def write(self, data: bytes, *, now: float) -> None:
        """Send bytes to the other end. Bytes stay in order, whatever the manipulator wants."""
        for at, piece in self._manipulator(data, now):
            self._put(piece, max(at, now))

    def hear(self, data: bytes, *, now: float) -> None:
        """Bytes come to this end that its peer did not write: an echo, or noise. No manipulator sees them."""
        self._peer._put(data, now)

    def _put(self, piece: bytes, at: float) -> None:
        peer = self._peer
        if not piece:
            return
        if peer._size + len(piece) > self._limit:
            self.dropped += len(piece)
            return
        start = max(at, self._free)
        self._free = start + len(piece) * self._byte_time
        peer._coming.append((start + self._latency, piece))
        peer._size += len(piece)

    def next_delivery(self) -> float | None:
        """When the next byte is here; None while none is on its way."""
        return self._coming[0][0] + self._byte_time if self._coming else None

    def receive(self, *, now: float, limit: int = WRITE_LIMIT) -> bytes:
        """Take what has arrived by ``now``: everything, or the first ``limit`` bytes of it."""
        arrived = bytearray()
        while self._coming:
            start, piece = self._coming[0]
            size = min(self._arrived(start, now, len(piece)), limit - len(arrived))
            if not size:
                break
            arrived += piece[:size]
            if size < len(piece):
                self._coming[0] = (start + size * self._byte_time, piece[size:])
                break
            self._coming.popleft()
        self._size -= len(arrived)
        return bytes(arrived)

    def _arrived(self, start: float, now: float, size: int) -> int:
        """How many bytes of a piece are here."""
        # The time of the first byte as next_delivery gives it, so that it is here at that very time.
        if start + self._byte_time > now:
            return 0
        return size if not self._byte_time else min(size, max(1, math.floor((now - start) / self._byte_time)))

    def discard(self) -> None:
        """Forget what is on its way here."""
        self._coming.clear()
        self._size = 0


class MemoryLink:
    """A line with two ends, ``a`` and ``b``.

    :param byte_time: Seconds per byte in each direction (10 / 9600 at 9600 baud); 0 is a line without limit,
        which delivers the pieces whole.
    :param latency: Seconds that every byte is under way besides.
    :param limit: Bytes under way in one direction; more are dropped and counted.
    """

    def __init__(self, *, byte_time: float = 0.0, latency: float = 0.0, limit: int = WRITE_LIMIT) -> None:
        if byte_time < 0 or latency < 0:
            raise ValueError("byte_time and latency are seconds, at least 0")
        self.a, self.b = (LinkEnd(byte_time, latency, limit) for _ in "ab")
        self.a._peer, self.b._peer = self.b, self.a

    def next_delivery(self) -> float | None:
        """When the next byte is at either end."""
        times = [time for end in (self.a, self.b) if (time := end.next_delivery()) is not None]
        return min(times, default=None)

    def discard(self) -> None:
        """Forget what is under way, as when the cable is pulled."""
        self.a.discard()
        self.b.discard()


def untouched(data: bytes, now: float) -> list[Piece]:
    """What happens without a manipulator: the bytes, whole and at once."""
    return [(now, data)]


def mute(data: bytes, now: float) -> list[Piece]:  # noqa: ARG001 - a manipulator's signature
    """Nothing arrives."""
    return []


def chain(*manipulators: Manipulator) -> Manipulator:
    """One after the other; each gets every piece that the one before made."""

    def manipulate(data: bytes, now: float) -> list[Piece]:
        pieces: list[Piece] = [(now, data)]
        for manipulator in manipulators:
            pieces = [made for at, piece in pieces for made in manipulator(piece, at)]
        return pieces

    return manipulate


def drop(rng: Random, rate: float) -> Manipulator:
    """Each byte is lost with the probability ``rate``."""
    _check_rate(rate)

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return [(now, bytes(byte for byte in data if rng.random() >= rate))]

    return manipulate


def drop_writes(rng: Random, rate: float) -> Manipulator:
    """Each write is lost as a whole with the probability ``rate``."""
    _check_rate(rate)

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return [] if rng.random() < rate else [(now, data)]

    return manipulate


def corrupt(rng: Random, rate: float) -> Manipulator:
    """Each byte becomes another one with the probability ``rate``."""
    _check_rate(rate)

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return [(now, bytes(b ^ rng.randint(1, 255) if rng.random() < rate else b for b in data))]

    return manipulate


def duplicate(rng: Random, rate: float) -> Manipulator:
    """Each write arrives twice with the probability ``rate``."""
    _check_rate(rate)

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return [(now, data)] * (2 if rng.random() < rate else 1)

    return manipulate


def split(rng: Random, largest: int, *, gap: float = 0.0) -> Manipulator:
    """A write arrives in pieces of 1 to ``largest`` bytes, each up to ``gap`` seconds after the last."""
    if largest < 1 or gap < 0:
        raise ValueError("pieces have at least 1 byte, and gaps at least 0 seconds")

    def manipulate(data: bytes, now: float) -> list[Piece]:
        pieces: list[Piece] = []
        start = 0
        while start < len(data):
            size = rng.randint(1, largest)
            pieces.append((now, data[start : start + size]))
            start += size
            now += rng.uniform(0, gap)
        return pieces

    return manipulate


def delay(rng: Random, shortest: float, longest: float) -> Manipulator:
    """A write waits between ``shortest`` and ``longest`` seconds. Later ones wait behind it."""
    if not 0 <= shortest <= longest:
        raise ValueError("delays are seconds, the shortest at least 0 and at most the longest")

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return [(now + rng.uniform(shortest, longest), data)]

    return manipulate


def _check_rate(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate is a probability from 0 to 1, not {rate}")

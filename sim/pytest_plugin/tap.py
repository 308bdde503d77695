"""What crosses the line of one test, kept in memory; it becomes a file when the test fails."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Final

from gizserial.capture import Direction, Meta, Record
from gizserial.capture.jsonl import JsonlWriter
from gizserial.codec import Codec
from gizserial.commands import Role
from gizserial.describe import describe, headline
from gizserial.framing import Framer
from gizserial.io.base import Data, LineEvent, Receiver, Transport
from gizserial.io.files import atomic_writer
from gizserial.product import Product

MOST_RECORDS: Final = 100_000
"""Older ones are forgotten: a test that runs for days must not fill the memory."""
_ARROWS: Final = {"module>mcu": "module → mcu", "mcu>module": "mcu → module"}


class Recorder:
    """The bytes of one line, in order.

    :param test: Id of the test, for the capture's first line.
    """

    def __init__(self, test: str, product: Product | None) -> None:
        self._test, self._product = test, product
        self._records: deque[Record] = deque(maxlen=MOST_RECORDS)
        self._start: float | None = None

    def __len__(self) -> int:
        return len(self._records)

    def add(self, direction: Direction, data: bytes) -> None:
        """Bytes crossed the line now."""
        now = asyncio.get_running_loop().time()
        self._start = now if self._start is None else self._start
        self._records.append(Record(round(now - self._start, 6), direction, data))

    def write(self, path: Path) -> None:
        """Write a ``.jsonl`` capture.

        :raises GizserialError: it cannot be written.
        """
        members = {"test": self._test}
        if self._product is not None:
            members["product_key"] = self._product.product_key
        with atomic_writer(path) as file:
            writer = JsonlWriter(file, str(path), Meta(members))
            for record in tuple(self._records):
                writer.write(record)

    def last_frames(self, count: int) -> list[str]:
        """The last frames, one line each, decoded."""
        codec = Codec(self._product)
        framers: dict[Direction, Framer] = {}
        lines: deque[str] = deque(maxlen=count)
        for record in tuple(self._records):
            direction = record.direction
            if direction is None:
                continue
            framer = framers.setdefault(direction, Framer())
            for item in framer.feed(record.data):
                text = headline(describe(item, codec, t=record.t, direction=direction))
                lines.append(f"{record.t or 0.0:10.3f}  {_ARROWS[direction]}  {text}")
        for direction, framer in framers.items():
            for item in framer.flush():
                text = headline(describe(item, codec, direction=direction))
                lines.append(f"{'at the end':>10}  {_ARROWS[direction]}  {text}")
        return list(lines)


class TappedPort:
    """A transport whose bytes a recorder hears.

    :param role: Who writes to it.
    """

    def __init__(self, inner: Transport, role: Role, recorder: Recorder) -> None:
        self._inner, self._role, self._recorder = inner, role, recorder

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._inner.name

    @property
    def other_end(self) -> str | None:
        """What a peer on this machine opens."""
        return self._inner.other_end

    @property
    def connected(self) -> bool:
        """Whether the line is up."""
        return self._inner.connected

    async def open(self, receiver: Receiver, /) -> None:
        """Open it."""

        def heard(event: LineEvent) -> None:
            if isinstance(event, Data):
                self._recorder.add(self._role.peer.direction, event.data)
            receiver(event)

        await self._inner.open(heard)

    def write(self, data: bytes, /) -> None:
        """Send bytes."""
        if data and self.connected:
            self._recorder.add(self._role.direction, data)
        self._inner.write(data)

    async def drain(self) -> None:
        """Wait until everything was given away."""
        await self._inner.drain()

    def pause_reading(self) -> None:
        """Report no more data."""
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """Report data again."""
        self._inner.resume_reading()

    async def close(self) -> None:
        """Close it."""
        await self._inner.close()

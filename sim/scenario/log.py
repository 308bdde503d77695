"""What crosses the line in a run, decoded, and something to wait on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Final

from gizserial.codec import Codec
from gizserial.commands import Direction
from gizserial.describe import Described, describe, headline
from gizserial.framing import Framer, Item
from gizserial.product import Product

IDLE_PARTIAL: Final = 0.5
"""Seconds after which a frame that does not go on is given up (serial.md §1.7)."""
MOST: Final = 500_000
"""Frames of one run; whoever sends more babbles."""
_TICK: Final = 1e-9


class BabbleError(Exception):
    """More frames came than a run keeps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A frame, noise or a broken frame."""

    number: int
    t: float
    """Seconds since the line was opened, at our end of it."""
    direction: Direction
    described: Described
    arrived: bool
    """After the faults; else as it was sent."""

    @property
    def line(self) -> str:
        """In one line."""
        note = "  (arrived)" if self.arrived else ""
        return f"{self.t:10.3f}  {self.direction}  {headline(self.described)}{note}"


class Log:
    """Everything that was sent, and everything that arrived; both directions.

    :param on_seen: Told every item that was sent.
    """

    def __init__(self, product: Product, on_seen: Callable[[Seen], None] | None = None) -> None:
        self.seen: list[Seen] = []
        self.bytes: Counter[tuple[Direction, bool]] = Counter()
        """How many came, by direction and whether they arrived; those of unfinished frames too."""
        self._codec = Codec(product)
        self._framers: dict[tuple[Direction, bool], Framer] = {}
        self._flushes: dict[tuple[Direction, bool], asyncio.TimerHandle] = {}
        self._on_seen = on_seen
        self._changed: set[asyncio.Event] = set()
        self._start = asyncio.get_running_loop().time()

    def begin(self) -> None:
        """The line is opened: time counts from now."""
        self._start = asyncio.get_running_loop().time()

    def now(self) -> float:
        """Seconds since the line was opened."""
        return asyncio.get_running_loop().time() - self._start

    def take(self, direction: Direction, data: bytes, arrived: bool) -> None:
        """Bytes crossed the line."""
        way = direction, arrived
        self.bytes[way] += len(data)
        framer = self._framers.setdefault(way, Framer())
        for item in framer.feed(data):
            self._add(way, item)
        flush = self._flushes.pop(way, None)
        if flush is not None:
            flush.cancel()
        if framer.in_frame:
            self._flushes[way] = asyncio.get_running_loop().call_later(IDLE_PARTIAL, self._flush, way)
        if data:
            self.changed()

    def changed(self) -> None:
        """Something may be as expected now."""
        for event in self._changed:
            event.set()

    async def until(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until the condition holds, at most until a time; gives whether it does."""
        event = asyncio.Event()
        self._changed.add(event)
        try:
            while not condition():
                left = deadline - self.now()
                if left <= _TICK:
                    return False
                event.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await event.wait()
            return True
        finally:
            self._changed.discard(event)

    def close(self) -> None:
        """Nothing more comes."""
        for flush in self._flushes.values():
            flush.cancel()
        self._flushes.clear()

    def _flush(self, way: tuple[Direction, bool]) -> None:
        self._flushes.pop(way, None)
        for item in self._framers[way].flush():
            self._add(way, item)

    def _add(self, way: tuple[Direction, bool], item: Item) -> None:
        if len(self.seen) >= MOST:
            raise BabbleError(f"more than {MOST} frames crossed the line")
        direction, arrived = way
        now = self.now()
        described = describe(item, self._codec, t=round(now, 6), direction=direction)
        entry = Seen(len(self.seen), now, direction, described, arrived)
        self.seen.append(entry)
        if self._on_seen is not None and not arrived:
            self._on_seen(entry)
        self.changed()

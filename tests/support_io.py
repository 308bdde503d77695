"""What the tests of ports and drivers share: a receiver that remembers, a clock that jumps, a machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from gizserial.io.base import Back, Data, LineEvent, Lost

T = TypeVar("T")

EVERY_BYTE = bytes(range(256))
AWKWARD = bytes.fromhex("03 04 0A 0D 11 13 7F FF FF 00 1A 1C 0D 0A")
"""What terminals like to interpret: ^C ^D LF CR XON XOFF DEL FF FF NUL ^Z ^\\."""
DEADLINE = 10.0
"""Seconds after which a real port is taken to be stuck."""


class Recorder:
    """A receiver that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[LineEvent] = []
        self._changed = asyncio.Event()

    def __call__(self, event: LineEvent) -> None:
        self.events.append(event)
        self._changed.set()

    @property
    def data(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Data))

    def count(self, kind: type[LineEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def up(self, times: int = 1) -> None:
        await self.until(lambda: self.count(Back) >= times)

    async def down(self, times: int = 1) -> None:
        await self.until(lambda: self.count(Lost) >= times)

    async def bytes_came(self, size: int) -> bytes:
        await self.until(lambda: len(self.data) >= size)
        return self.data


async def eventually(condition: Callable[[], object]) -> None:
    """Poll something that cannot be waited for."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - a file or a process has no event
            await asyncio.sleep(0.002)


class Ticker:
    """A machine: says ``tick`` every ``interval`` seconds while the line is up, and reports what it gets."""

    def __init__(self, interval: float, *, word: bytes = b"tick") -> None:
        self.interval, self.word = interval, word
        self.out = bytearray()
        self.due: float | None = None
        self.calls: list[tuple[str, float]] = []

    def connection_made(self, *, now: float) -> list[str]:
        self.calls.append(("made", now))
        self.due = now + self.interval
        return ["made"]

    def connection_lost(self, *, now: float) -> list[str]:
        self.calls.append(("lost", now))
        self.due = None
        return ["lost"]

    def receive_data(self, data: bytes, *, now: float) -> list[str]:
        self.calls.append(("data", now))
        return [data.decode("latin-1")]

    def data_to_send(self, *, now: float) -> bytes:  # noqa: ARG002 - the machines' signature
        data = bytes(self.out)
        self.out.clear()
        return data

    def next_timeout(self) -> float | None:
        return self.due

    def handle_timeout(self, *, now: float) -> list[str]:
        if self.due is None or now < self.due:
            return []
        self.due += self.interval
        self.out += self.word
        return []

    def say(self, word: bytes) -> None:
        self.out += word

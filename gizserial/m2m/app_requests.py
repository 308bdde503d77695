"""Requests of apps on their way to the MCU: one at a time, the others wait (device-cloud.md §8.1)."""

from __future__ import annotations

from collections import deque
from typing import Final

from gizserial.m2m.effects import P0Received

QUEUE_DEPTH: Final = 16
"""So many requests wait while the MCU answers one; what is beyond is dropped."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds after which a request that the driver forgot to answer makes room for the next."""


class AppRequests:
    """The pending request and those behind it."""

    def __init__(self) -> None:
        self._waiting: deque[P0Received] = deque()
        self._until = 0.0
        self.current: P0Received | None = None
        """What the MCU is asked at present."""

    @property
    def full(self) -> bool:
        """One more has to be dropped."""
        return len(self._waiting) >= QUEUE_DEPTH

    def add(self, request: P0Received, now: float) -> P0Received | None:
        """Take a request; returns it when it is its turn already."""
        self._waiting.append(request)
        return self.next(now) if self.current is None else None

    def next(self, now: float) -> P0Received | None:
        """The pending request is over: the one whose turn it is now."""
        self.current = self._waiting.popleft() if self._waiting else None
        self._until = now + REQUEST_TIMEOUT
        return self.current

    def clear(self) -> None:
        """The connection is gone, and who asked with it."""
        self._waiting.clear()
        self.current = None

    def next_timeout(self) -> float | None:
        """When the pending request is given up."""
        return None if self.current is None else self._until

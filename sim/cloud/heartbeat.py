"""How regularly a device says that it is there (open-api.md §19, ``…/online``)."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The PINGREQs of one connection; intervals are whole seconds, the first one begins with the CONNECT."""

    count: int
    max: int
    min: int
    avg: int
    last: int
    """From the last one, or from the CONNECT when there was none, to the end."""


class Heartbeats:
    """Counts the PINGREQs of one connection. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._began = self._last = now
        self._count = 0
        self._longest, self._shortest = 0.0, float("inf")

    def beat(self, now: float) -> None:
        """One came."""
        interval = now - self._last
        self._count, self._last = self._count + 1, now
        self._longest, self._shortest = max(self._longest, interval), min(self._shortest, interval)

    def summary(self, now: float) -> Heartbeat:
        """What they were like, at the end of the connection."""
        return Heartbeat(
            count=self._count,
            max=int(self._longest),
            min=int(self._shortest) if self._count else 0,
            avg=int((self._last - self._began) / self._count) if self._count else 0,
            last=int(now - self._last),
        )

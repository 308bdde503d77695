"""How many of what came: per command and in all, rates, and how long acks took."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from typing import Final

from gizserial.commands import FRAMES, Direction
from gizserial.framing import BadFrame, Frame
from gizserial.monitor.rows import Row

RATE_WINDOW: Final = 5.0
"""Seconds over which rates are taken."""
REPEAT_WINDOW: Final = 2.0
"""Seconds in which the same frame again is a resend: 200 ms three times (serial.md §6.1), and slow lines."""


@dataclasses.dataclass(slots=True)
class Count:
    """One command in one direction."""

    direction: Direction | None
    name: str
    frames: int = 0
    bad: int = 0
    resends: int = 0
    warnings: int = 0
    bytes: int = 0
    last: float | None = None
    """Time of the last one."""
    acks: int = 0
    """How many of them were answered."""
    ack_sum: float = 0.0
    ack_max: float = 0.0

    @property
    def ack_mean(self) -> float | None:
        """Seconds until the ack began, on average."""
        return self.ack_sum / self.acks if self.acks else None


class Counters:
    """Takes rows in the order of the wire."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Count] = {}
        self.frames = 0
        self.bytes = 0
        self.noise_bytes = 0
        self.resends = 0
        self.warnings = 0
        self.line_losses = 0
        self.bad: Counter[str] = Counter()
        """Bad frames by reason; ``payload`` are sound frames whose body is too short."""
        self._open: dict[tuple[int, int], tuple[float, Count]] = {}
        self._last: dict[Direction | None, tuple[Frame, float | None]] = {}
        self._slots: deque[tuple[int, int, int]] = deque()

    def is_repeat(self, frame: Frame, direction: Direction | None, t: float | None) -> bool:
        """Whether this frame says what the last command of this direction said. Acks are never repeats."""
        spec = FRAMES.get(frame.command)
        if spec is not None and spec.is_ack:
            return False
        last, when = self._last.get(direction, (None, None))
        self._last[direction] = frame, t
        close = t is None or when is None or t - when <= REPEAT_WINDOW
        return close and frame == last

    def add(self, row: Row) -> None:
        """Count one row."""
        if row.kind == "line":
            return
        self.bytes += row.size
        if row.kind == "noise":
            self.noise_bytes += row.size
            self._rate(row.t, 0, row.size)
            return
        key = (row.direction or "", row.name)
        count = self.counts.get(key)
        if count is None:
            count = self.counts[key] = Count(row.direction, row.name)
        count.bytes += row.size
        count.last = row.t
        if row.kind == "error":
            count.bad += 1
            self.bad[row.item.reason if isinstance(row.item, BadFrame) else "payload"] += 1
            self._rate(row.t, 0, row.size)
            return
        self.frames += 1
        count.frames += 1
        count.resends += row.repeat
        count.warnings += row.warned
        self.resends += row.repeat
        self.warnings += row.warned
        self._rate(row.t, 1, row.size)
        if isinstance(row.item, Frame) and row.t is not None:
            self._match(row.item, row.t, count)

    def _match(self, frame: Frame, t: float, count: Count) -> None:
        spec = FRAMES.get(frame.command)
        if spec is None:
            return
        if spec.is_ack:
            sent = self._open.pop((frame.command, frame.sn), None)
            if sent is not None and t >= sent[0]:
                asked = sent[1]
                asked.acks += 1
                asked.ack_sum += t - sent[0]
                asked.ack_max = max(asked.ack_max, t - sent[0])
        elif spec.row.ack is not None:
            self._open[spec.row.ack, frame.sn] = t, count  # at most 256 of each command

    def _rate(self, t: float | None, frames: int, size: int) -> None:
        if t is None:
            return
        slot = int(t * 10)
        if self._slots and self._slots[-1][0] == slot:
            _, before, bytes_before = self._slots.pop()
            frames, size = frames + before, size + bytes_before
        self._slots.append((slot, frames, size))
        while self._slots[0][0] < slot - int(RATE_WINDOW * 10):
            self._slots.popleft()

    def rates(self, now: float) -> tuple[float, float]:
        """Frames and bytes per second over the last :data:`RATE_WINDOW`."""
        since = int((now - RATE_WINDOW) * 10)
        recent = [(frames, size) for slot, frames, size in self._slots if slot > since]
        window = min(RATE_WINDOW, max(now, 1.0))
        return sum(f for f, _ in recent) / window, sum(s for _, s in recent) / window

    def table(self) -> list[Count]:
        """Most frequent first."""
        return sorted(self.counts.values(), key=lambda c: (-c.frames - c.bad, c.name, c.direction or ""))

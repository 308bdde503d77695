"""Asks questions on a line, one after the other, and keeps what came after each: a machine without I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any, Final, Generic, TypeAlias, TypeVar

from gizserial.commands import Command, Role
from gizserial.framing import Frame, Framer

T = TypeVar("T")

WAIT: Final = 0.4
"""Seconds for the first byte of an answer: 200 ms of the protocol, and as much for slow adapters."""
GAP: Final = 0.08
"""Silence that ends what came: several times what USB adapters collect before they hand it over (16 ms)."""
SETTLE: Final = 0.03
"""Silence after the answer that was waited for."""
LONGEST: Final = 3.0
"""Seconds after which a peer that never stops talking is interrupted."""
MOST: Final = 8192
"""Bytes kept of one exchange."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """Something to send, and how long to listen afterwards."""

    wire: bytes = b""
    """Empty: only listen."""
    frame: Frame | None = None
    expect: int | None = None
    """Id of the frame that answers it."""
    wait: float = WAIT
    required: bool = True
    """The protocol wants an answer, whatever the peer's product is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """A probe and everything that came until the line was silent again."""

    probe: Probe
    received: bytes
    sent: tuple[bytes, ...] = ()
    """All frames that we sent meanwhile: the probe, and acks of the peer's reports."""
    delay: float | None = None
    """Seconds from the last byte of the probe to the first that came."""
    bursts: tuple[bytes, ...] = ()
    """``received``, cut where the line was silent."""
    cut_off: bool = False
    """The peer never stopped."""


Plan: TypeAlias = Generator[Probe, Exchange, T]
"""What is asked: yields probes, is sent exchanges, returns what it found."""


class Interrupted(Exception):
    """The user has had enough: a plan puts back what it changed, or ends at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """The plan is at its end."""

    result: T


class Examination(Generic[T]):
    """Carries out a plan.

    :param role: Who we are to the peer.
    :param byte_time: Seconds per byte on the line.
    :param acks: Ack the reports of an MCU, which otherwise repeats them.
    """

    def __init__(self, plan: Plan[T], role: Role, *, byte_time: float = 0.0, acks: bool = True) -> None:
        self._plan, self._role = plan, role
        self._byte_time, self._acks = byte_time, acks
        self.exchanges: Final[list[Exchange]] = []
        self.finished: Finished[T] | None = None
        self._probe: Probe | None = None
        self._out = bytearray()
        self._sent: list[bytes] = []
        self._bursts: list[bytearray] = []
        self._size = 0
        self._left = self._last = 0.0
        self._first: float | None = None
        self._answered = self._up = False
        self._framer = Framer()

    def connection_made(self, *, now: float) -> list[Exchange | Finished[T]]:
        """The line is up: the first question is asked."""
        self._up = True
        if self._probe is None and self.finished is None:
            return self._next(None, now)
        return []

    def connection_lost(self, *, now: float) -> list[Exchange | Finished[T]]:  # noqa: ARG002 - the machines' signature
        """The line is down: the questions wait."""
        self._up = False
        return []

    def receive_data(self, data: bytes, *, now: float) -> list[Exchange | Finished[T]]:
        """Keep what came."""
        if self._probe is None or not data:
            return []
        if self._first is None:
            self._first = now
        if not self._bursts or now - self._last >= GAP:
            self._bursts.append(bytearray())
        self._last = now
        room = MOST - self._size
        self._bursts[-1] += data[:room]
        self._size += len(data[:room])
        for item in self._framer.feed(data):
            if isinstance(item, Frame):
                self._frame(item)
        return []

    def _frame(self, frame: Frame) -> None:
        probe = self._probe
        if probe is None:
            return
        if frame.command == probe.expect and probe.frame is not None and frame.sn == probe.frame.sn:
            self._answered = True
        if self._acks and self._role is Role.MODULE and frame.command == Command.P0_FROM_MCU:
            self._send(Frame(frame.command + 1, frame.sn).encode())

    def _send(self, wire: bytes) -> None:
        self._out += wire
        self._sent.append(wire)

    def data_to_send(self, *, now: float) -> bytes:
        """Take the bytes that are to leave."""
        data = bytes(self._out)
        self._out.clear()
        if data and self._probe is not None and len(self._sent) == 1:
            self._left = now + len(data) * self._byte_time
        return data

    def next_timeout(self) -> float | None:
        """When what came is complete."""
        if self._probe is None or not self._up:
            return None
        due = self._left + self._probe.wait
        if self._bursts:
            if self._answered:
                due = self._last + max(SETTLE, 4 * self._byte_time)
            else:
                due = max(due, self._last + GAP)
        return min(due, self._left + self._probe.wait + LONGEST)

    def handle_timeout(self, *, now: float) -> list[Exchange | Finished[T]]:
        """Ask the next question when it is time."""
        due = self.next_timeout()
        if self._probe is None or due is None or now < due:
            return []
        exchange = Exchange(
            self._probe,
            b"".join(self._bursts),
            tuple(self._sent),
            None if self._first is None else max(0.0, self._first - self._left),
            tuple(bytes(burst) for burst in self._bursts),
            cut_off=now - self._last < GAP and not self._answered and bool(self._bursts),
        )
        self.exchanges.append(exchange)
        return [exchange, *self._next(exchange, now)]

    def interrupt(self, *, now: float) -> bool:
        """Raise :class:`Interrupted` in the plan; gives whether it has something to put back."""
        if self._probe is None:
            return False
        try:
            probe = self._plan.throw(Interrupted())
        except (Interrupted, StopIteration):
            self._probe = None
            return False
        self._begin(probe, now)
        return True

    def _next(self, exchange: Exchange | None, now: float) -> list[Exchange | Finished[T]]:
        try:
            probe = next(self._plan) if exchange is None else self._plan.send(exchange)
        except StopIteration as end:
            self._probe = None
            value: Any = end.value
            self.finished = Finished(value)
            return [self.finished]
        self._begin(probe, now)
        return []

    def _begin(self, probe: Probe, now: float) -> None:
        self._probe = probe
        self._bursts, self._size, self._first, self._answered = [], 0, None, False
        self._sent.clear()
        self._framer = Framer()
        self._left = now
        self._last = float("-inf")
        if probe.wire:
            self._send(probe.wire)

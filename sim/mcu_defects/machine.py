"""A simulated MCU with defects: the correct role, and faults between it and the line."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import Final

from gizserial.events import Event
from gizserial.framing import Frame, Framer, Item
from gizserial.mcu import McuRole
from gizserial.mcu_reports import zero
from gizserial.p0 import P0Codec
from gizserial.product import Product
from sim.mcu_defects.model import Defect, Fault, Out

_IDLE: Final = 0.5
"""A frame in which nothing arrives for so long is given up, as in the role."""


class DefectiveMcu:
    """A machine like :class:`~gizserial.mcu.McuRole`, with defects.

    :param role: The correct role, made with :func:`options_with`.
    """

    def __init__(self, role: McuRole, defects: Sequence[Defect]) -> None:
        self.role: Final = role
        self.product: Final[Product] = role.product
        self.p0: Final = P0Codec(role.product)
        self.now = float("-inf")
        self.deaf_until = float("-inf")
        """Nothing is heard until then."""
        self._framer = Framer()
        self._last_byte = float("-inf")
        self._later: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()
        self._up = False
        self._faults: list[Fault] = []
        for defect in defects:
            if defect.make is not None:
                fault = defect.make()
                fault.started(self)
                self._faults.append(fault)

    # --- for faults

    def deaf(self, seconds: float) -> None:
        """Hear nothing for a while, as firmware that hangs until its watchdog bites."""
        self.deaf_until = self.now + seconds

    def say(self, what: Frame | bytes, delay: float = 0.0) -> None:
        """Put something onto the line besides what the role says."""
        wire = what if isinstance(what, bytes) else self._encode(what)
        heapq.heappush(self._later, (self.now + delay, next(self._order), wire))

    # --- the machine

    def forget_values(self, now: float) -> None:
        """What was set is again as at the start."""
        for point in self.product.writable:
            self.role.set_raw(point.name, zero(point), now=now)

    def connection_made(self, *, now: float) -> Sequence[Event]:
        """The line is up."""
        self.now = max(self.now, now)
        self._up = True
        self._framer = Framer()
        return self.role.connection_made(now=now)

    def connection_lost(self, *, now: float) -> Sequence[Event]:
        """The line is down."""
        self.now = max(self.now, now)
        self._up = False
        self._framer = Framer()
        self._later.clear()
        return self.role.connection_lost(now=now)

    def receive_data(self, data: bytes, *, now: float) -> Sequence[Event]:
        """Bytes off the line, through the faults."""
        self.now = max(self.now, now)
        for fault in self._faults:
            data = fault.incoming(data, now)
        if now < self.deaf_until or not data:
            return ()
        self._last_byte = now
        return self._items(self._framer.feed(data), now)

    def drop_partial(self) -> None:
        """Forget a frame that has begun."""
        self._framer = Framer()

    def _items(self, items: Sequence[Item], now: float) -> list[Event]:
        events: list[Event] = []
        for item in items:
            seen: list[Item | bytes] = [item]
            for fault in self._faults:
                seen = [
                    after
                    for one in seen
                    for after in ([one] if isinstance(one, bytes) else fault.received(one, now))
                ]
            for one in seen:
                events += self.role.receive_data(_wire(one), now=now)
        return events

    def data_to_send(self, *, now: float) -> bytes:
        """What the role says, through the faults, and what faults say besides."""
        self.now = max(self.now, now)
        framer = Framer()
        data = self.role.data_to_send(now=now)
        items = [*framer.feed(data), *framer.flush()]
        out = bytearray()
        for item in items:
            if not isinstance(item, Frame):
                out += item.wire
                continue
            leaving = [Out(item)]
            for fault in self._faults:
                leaving = [
                    Out(after.what, one.delay + after.delay)
                    for one in leaving
                    for after in ([one] if isinstance(one.what, bytes) else fault.sent(one.what, now))
                ]
            for one in leaving:
                wire = one.what if isinstance(one.what, bytes) else self._encode(one.what)
                if one.delay:
                    heapq.heappush(self._later, (now + one.delay, next(self._order), wire))
                else:
                    out += wire
        while self._later and self._later[0][0] <= now:
            out += heapq.heappop(self._later)[2]
        return bytes(out)

    def _encode(self, frame: Frame) -> bytes:
        wire = frame.encode()
        for fault in self._faults:
            wire = fault.encoded(frame, wire)
        return wire

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        times = [self.role.next_timeout(), *(fault.next_timeout() for fault in self._faults)]
        if self._later:
            times.append(self._later[0][0])
        if self._framer.in_frame:
            times.append(self._last_byte + _IDLE)
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, *, now: float) -> Sequence[Event]:
        """What is due."""
        self.now = max(self.now, now)
        events: list[Event] = []
        if self._framer.in_frame and now >= self._last_byte + _IDLE:
            events += self._items(self._framer.flush(), now)
        for fault in self._faults:
            due = fault.next_timeout()
            if due is not None and due <= now:
                fault.handle_timeout(now)
        role_due = self.role.next_timeout()
        if role_due is not None and role_due <= now:
            events += self.role.handle_timeout(now=now)
        return events


def _wire(item: Item | bytes) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, Frame):
        return item.encode()
    return item.wire

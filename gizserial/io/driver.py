"""Joins a machine to a transport: moves the bytes, watches the clock, hands out the events.

A machine does no I/O and reads no clock (:class:`Machine`). :class:`Driver` is all it needs to run in real
time, :class:`gizserial.io.simulation.Simulation` all it needs to run in virtual time::

    async with Driver(module, open_port("pty:"), on_event=show) as driver:
        module.control({"LED_OnOff": True}, now=driver.now())
        driver.wake()
        await driver.wait()
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from gizserial.io.base import Back, Data, LineEvent, Lost, Transport

if TYPE_CHECKING:
    from types import TracebackType

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)

Direction: TypeAlias = Literal["received", "sent"]
"""Of bytes, as seen from the machine that the driver drives."""
OnBytes: TypeAlias = Callable[[Direction, bytes, float], None]
"""Told everything that crosses the line: direction, bytes, time."""

STUCK: Final = 1000
"""Timeouts handled without one that lies later, before a machine counts as stuck."""


class Clock(Protocol):
    """Seconds that only grow. The zero is the clock's own."""

    def now(self) -> float:
        """The time."""


class MonotonicClock:
    """The real time, as seconds since this object was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._start


class Machine(Protocol[EventT_co]):
    """A state machine without I/O, clock or tasks. ``now`` never goes back from one call to the next.

    Each method may queue bytes and move the timeout: whoever drives the machine asks for both after it.
    """

    def connection_made(self, *, now: float) -> Sequence[EventT_co]:
        """The line is up: for the first time, or again."""

    def connection_lost(self, *, now: float) -> Sequence[EventT_co]:
        """The line is down. Bytes that it still wants to send will not arrive."""

    def receive_data(self, data: bytes, *, now: float) -> Sequence[EventT_co]:
        """Take bytes off the line, in chunks of any size. Never raises on what a peer sent."""

    def data_to_send(self, *, now: float) -> bytes:
        """Take everything that is queued for the line; empty when nothing is."""

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due; None while nothing is waiting."""

    def handle_timeout(self, *, now: float) -> Sequence[EventT_co]:
        """Do what is due at ``now``. Afterwards :meth:`next_timeout` lies later, or is None."""


class StuckMachine(RuntimeError):
    """A machine that does not move its timeout on: a fault in our code, not in the peer's."""

    def __init__(self, machine: object, now: float) -> None:
        super().__init__(f"{type(machine).__name__} does not move its timeout on at {now:.6f} s")


class Driver(Generic[EventT]):
    """One machine on one transport, in real time.

    An asynchronous context manager: entering opens the transport, leaving closes it. It has no task of its
    own; everything happens in callbacks of the event loop, and an exception in one of them ends :meth:`wait`.

    :param on_event: Told what the machine reports. It may call the machine's methods.
    :param on_line: Told what happens to the line; not the bytes.
    :param on_bytes: Told everything that crosses the line, before the machine handles it.
    :param clock: Where ``now`` comes from.
    """

    def __init__(
        self,
        machine: Machine[EventT],
        transport: Transport,
        *,
        on_event: Callable[[EventT], None] | None = None,
        on_line: Callable[[LineEvent], None] | None = None,
        on_bytes: OnBytes | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.machine, self.transport = machine, transport
        self._on_event, self._on_line, self._on_bytes = on_event, on_line, on_bytes
        self._clock = clock or MonotonicClock()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._done: asyncio.Future[None] | None = None
        self._heard = False  # whether wait has raised what went wrong
        self._latest = float("-inf")

    def now(self) -> float:
        """The time to give to the machine's methods."""
        self._latest = max(self._latest, self._clock.now())
        return self._latest

    async def __aenter__(self) -> Self:
        """Open the transport.

        :raises TransportError: It cannot be opened.
        """
        self._done = asyncio.get_running_loop().create_future()
        self._heard = False
        await self.transport.open(self._line)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the transport.

        :raises Exception: As :meth:`wait`, when nobody waited.
        """
        done, self._done = self._done, None
        await self._close()
        if done is None or not done.done():
            return
        failure = done.exception()
        if failure is not None and kind is None and not self._heard:
            raise failure  # nobody waited: what went wrong in a callback must not be lost

    async def wait(self) -> None:
        """Wait until :meth:`stop`.

        :raises StuckMachine: The machine does not move its timeout on.
        :raises Exception: Whatever ``on_event``, ``on_line``, ``on_bytes`` or the machine raised.
        """
        if self._done is None:
            raise RuntimeError("the driver is not running: enter it with 'async with'")
        done = self._done
        try:
            await asyncio.shield(done)
        finally:
            self._heard = done.done()

    async def run(self) -> None:
        """Open the transport, drive until :meth:`stop` or cancellation, close it."""
        async with self:
            await self.wait()

    def stop(self) -> None:
        """Let :meth:`wait` return."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def wake(self) -> None:
        """A method of the machine was called from outside: send what it queued and watch its timeout.

        Not needed inside ``on_event``.
        """
        self._guarded(lambda _now: ())

    def report(self, events: Sequence[EventT]) -> None:
        """Hand out events that a method of the machine returned to the application, and :meth:`wake`."""
        self._guarded(lambda _now: events)

    def _line(self, event: LineEvent) -> None:
        self._guarded(lambda now: self._happened(event, now))

    def _happened(self, event: LineEvent, now: float) -> Sequence[EventT]:
        if isinstance(event, Data):
            if self._on_bytes is not None:
                self._on_bytes("received", event.data, now)
            return self.machine.receive_data(event.data, now=now)
        if self._on_line is not None:
            self._on_line(event)
        if isinstance(event, Back):
            return self.machine.connection_made(now=now)
        if isinstance(event, Lost):
            return self.machine.connection_lost(now=now)
        return ()

    def _guarded(self, step: Callable[[float], Sequence[EventT]]) -> None:
        """One step of the machine, then everything that follows from it."""
        if self._done is None or self._done.done():
            return
        try:
            events = step(self.now())
            if self._busy:
                # Called from on_event: bytes and timers are looked after when the outer step ends.
                self._hand_out(events)
                return
            self._busy = True
            try:
                self._hand_out(events)
                self._settle()
            finally:
                self._busy = False
        except Exception as error:  # noqa: BLE001 - whoever waits for the driver gets it
            if not self._done.done():
                self._done.set_exception(error)

    def _hand_out(self, events: Sequence[EventT]) -> None:
        if self._on_event is not None:
            for event in events:
                self._on_event(event)

    def _settle(self) -> None:
        """Handle what is due, send what is queued, watch for the next timeout."""
        self._send()
        latest, repeated = float("-inf"), 0
        while repeated < STUCK:
            due = self.machine.next_timeout()
            now = self.now()
            if due is None or due > now:
                self._watch(due, now)
                return
            # After a pause (a sleeping laptop) many timeouts may be due, each later than the one before.
            repeated = repeated + 1 if due <= latest else 0
            latest = max(latest, due)
            self._hand_out(self.machine.handle_timeout(now=now))
            self._send()
        raise StuckMachine(self.machine, self.now())

    def _send(self) -> None:
        now = self.now()
        data = self.machine.data_to_send(now=now)
        if data and self.transport.connected:
            if self._on_bytes is not None:
                self._on_bytes("sent", data, now)
            self.transport.write(data)

    def _watch(self, due: float | None, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(due - now, self.wake)

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.transport.close()


async def drive(
    machine: Machine[EventT],
    transport: Transport,
    clock: Clock | None = None,
    on_event: Callable[[EventT], None] | None = None,
) -> None:
    """Drive a machine that nobody else talks to, until cancelled; see :class:`Driver`."""
    await Driver(machine, transport, clock=clock, on_event=on_event).run()

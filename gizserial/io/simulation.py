"""Machines over lines in memory, in virtual time: from one event to the next, without waiting.

::

    link = MemoryLink(byte_time=10 / 9600)
    simulation = Simulation((module, link.a), (mcu, link.b))
    simulation.run(until=24 * 3600)
    module.control(..., now=simulation.now)
    simulation.run(until=simulation.now + 1)

A day passes in as long as its events take to handle.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeAlias

from gizserial.io.driver import STUCK, Direction, EventT, Machine, StuckMachine
from gizserial.io.memory import LinkEnd, MemoryLink

ENDLESS: Final = 1_000_000
"""Steps at one and the same moment before a conversation on a line without speed counts as endless."""

OnEvent: TypeAlias = Callable[[Machine[EventT], EventT, float], None]
"""Told what a machine reports, and when."""
OnMachineBytes: TypeAlias = Callable[[Machine[EventT], Direction, bytes, float], None]
"""Told what a machine sends and receives, and when."""


class Simulation(Generic[EventT]):
    """Any number of machines, each at one end of a line, and a clock that jumps.

    The lines are up from the start of the first run.

    :param joined: Machines with the end that each has; the other end may be anybody's.
    :param on_event: Told every event: machine, event, time. It may call the machines' methods.
    :param on_bytes: Told everything that crosses the lines: machine, direction as it sees it, bytes, time.
    :param start: The time to begin with.
    """

    def __init__(
        self,
        *joined: tuple[Machine[EventT], LinkEnd],
        on_event: OnEvent[EventT] | None = None,
        on_bytes: OnMachineBytes[EventT] | None = None,
        start: float = 0.0,
    ) -> None:
        self.now = start
        """The time. Give it to the machines' methods between two runs."""
        self.steps = 0
        """How often a machine was called for what was due."""
        self._joined = joined
        self._on_event, self._on_bytes = on_event, on_bytes
        self._up = self._begun = False
        self._actions: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Call something at a time, which is ``now`` then; in the order asked for when times are equal."""
        heapq.heappush(self._actions, (time, next(self._order), action))

    def plug(self) -> None:
        """The lines are up; nothing happens when they are. The first run does it by itself."""
        if not self._up:
            self._up = self._begun = True
            for machine, _end in self._joined:
                self._hand_out(machine, machine.connection_made(now=self.now))

    def unplug(self) -> None:
        """The lines go down, and what is under way is lost; :meth:`plug` is needed afterwards."""
        if self._up:
            self._up = False
            for _machine, end in self._joined:
                end.discard()
            for machine, _end in self._joined:
                self._hand_out(machine, machine.connection_lost(now=self.now))

    def run(self, *, until: float) -> None:
        """Let everything happen that is due by ``until``, which is the time afterwards.

        :raises StuckMachine: A machine does not move its timeout on, or two answer one another without end.
        """
        if not self._begun:
            self.plug()
        timeouts = steps = 0
        self._send()
        while (due := self._next()) is not None and due <= until:
            if due > self.now:
                self.now, timeouts, steps = due, 0, 0
            overdue = self._step()
            steps += 1
            timeouts = timeouts + 1 if overdue is not None else 0
            if timeouts > STUCK or steps > ENDLESS:
                raise StuckMachine(overdue or self._joined[0][0], self.now)
        self.now = max(self.now, until)

    def _next(self) -> float | None:
        times = [self._actions[0][0]] if self._actions else []
        for machine, end in self._joined:
            times += [time for time in (machine.next_timeout(), end.next_delivery()) if time is not None]
        return min(times, default=None)

    def _step(self) -> Machine[EventT] | None:
        """What is due now, first what arrived. Gives a machine whose timeout was handled."""
        overdue: Machine[EventT] | None = None
        self.steps += 1
        for machine, end in self._joined:
            data = end.receive(now=self.now)
            if data:
                self._tell(machine, "received", data)
                self._hand_out(machine, machine.receive_data(data, now=self.now))
        for machine, _end in self._joined:
            due = machine.next_timeout()
            if due is not None and due <= self.now:
                overdue = machine
                self._hand_out(machine, machine.handle_timeout(now=self.now))
        while self._actions and self._actions[0][0] <= self.now:
            heapq.heappop(self._actions)[2]()
        self._send()
        return overdue

    def _send(self) -> None:
        for machine, end in self._joined:
            data = machine.data_to_send(now=self.now)
            if data and self._up:
                self._tell(machine, "sent", data)
                end.write(data, now=self.now)

    def _tell(self, machine: Machine[EventT], direction: Direction, data: bytes) -> None:
        if self._on_bytes is not None:
            self._on_bytes(machine, direction, data, self.now)

    def _hand_out(self, machine: Machine[EventT], events: Sequence[EventT]) -> None:
        if self._on_event is not None:
            for event in events:
                self._on_event(machine, event, self.now)


def simulate(
    machines: tuple[Machine[EventT], Machine[EventT]],
    link: MemoryLink,
    *,
    until: float,
    start: float = 0.0,
    on_event: OnEvent[EventT] | None = None,
    on_bytes: OnMachineBytes[EventT] | None = None,
    actions: Iterable[tuple[float, Callable[[], object]]] = (),
) -> Simulation[EventT]:
    """Run two machines over a link, the first at ``link.a``; see :class:`Simulation`.

    :param actions: Times, and what to call then.
    """
    first, second = machines
    simulation = Simulation(
        (first, link.a), (second, link.b), on_event=on_event, on_bytes=on_bytes, start=start
    )
    for time, action in actions:
        simulation.at(time, action)
    simulation.run(until=until)
    return simulation

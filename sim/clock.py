"""Virtual time for whatever runs in an event loop: a day passes in as long as its events take to handle.

::

    run_virtual(main())         asyncio.run, with a clock that jumps to the next timer

Only what waits for timers may run in it: memory links, machines, our simulators. A real port or socket
is looked at between two jumps and finds that hours have passed.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

START: Final = 1000.0
"""The time a virtual loop begins with: not 0, so that a time taken for a duration is seen."""


_MOST_TURNS: Final = 100_000
"""Turns of the loop at one and the same time, before it moves on by :data:`_STEP`: a wait that is too short
to move a float of hours would never end for a clock that counts from somewhere else."""
_STEP: Final = 1e-9
"""Seconds."""


class StandstillError(RuntimeError):
    """Everything waits, and no timer is set: in real time this would hang for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when nothing else is to be done."""

    def __init__(self, start: float = START) -> None:
        self.virtual_time = start
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self.virtual_time


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._owner = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise StandstillError("everything waits and no timer is set")
        if ready or not timeout:
            self._turns += 1
            if self._turns > _MOST_TURNS:
                self._jump(_STEP)
        else:
            self._jump(timeout)
        return ready

    def _jump(self, seconds: float) -> None:
        self._owner.virtual_time += seconds
        self._turns = 0


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time.

    :raises StandstillError: everything waits and no timer is set.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class LoopClock:
    """The time of the running event loop, real or virtual: the clock for whatever runs in it."""

    def now(self) -> float:
        """Seconds."""
        return asyncio.get_running_loop().time()

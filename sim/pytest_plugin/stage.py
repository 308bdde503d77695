"""Where the simulators of a test play: an event loop in a thread of its own, in real or in virtual time.

A test is plain code in its own thread. What it wants is handed over as a coroutine, and the test goes on when
that has ended. In virtual time the loop runs only while it does: between two calls the time stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sim.clock import VirtualLoop

T = TypeVar("T")


class Stage:
    """An event loop that other threads use; see :class:`RealStage` and :class:`VirtualStage`."""

    virtual: bool
    loop: asyncio.AbstractEventLoop

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for what it gives or raises."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the loop; what still runs in it is cancelled."""
        raise NotImplementedError

    def now(self) -> float:
        """The loop's time, in seconds."""
        return self.loop.time()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.call(asyncio.sleep(seconds))

    def enter(self, context: contextlib.AbstractAsyncContextManager[T]) -> Entered[T]:
        """Enter a context in a task of the loop, which stays in it until :meth:`Entered.leave`.

        :raises Exception: whatever entering raises.
        """
        entered = Entered(self, context)
        self.call(entered.started())
        return entered


class Entered(contextlib.AbstractContextManager["Entered[T]"]):
    """A context that was entered in the loop, and is left there by the same task, as task groups want."""

    def __init__(self, stage: Stage, context: contextlib.AbstractAsyncContextManager[T]) -> None:
        self._stage, self._context = stage, context
        self._task: asyncio.Task[None] | None = None

    async def started(self) -> None:
        """Enter; what entering raises is raised here."""
        self._stop = asyncio.Event()
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._stay(ready))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([self._task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not ready.is_set():
            waiting.cancel()
            self._task.result()

    async def _stay(self, ready: asyncio.Event) -> None:
        async with self._context:
            ready.set()
            await self._stop.wait()

    def leave(self) -> None:
        """Leave it.

        :raises Exception: whatever leaving raises.
        """
        self._stage.call(self._left())

    async def _left(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    def __exit__(self, *_: object) -> None:
        self.leave()


class RealStage(Stage):
    """Real time: the loop runs all the time."""

    virtual = False

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="gizwits", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for what it gives or raises."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        finally:
            future.cancel()  # for a test that was interrupted

    def close(self) -> None:
        """Stop the loop; what still runs in it is cancelled."""
        self.call(_cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class VirtualStage(Stage):
    """Virtual time: it jumps to the next timer, and stands still while no call is under way."""

    virtual = True

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        # A thread of its own, because the test may have a running loop in its own.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gizwits")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for what it gives or raises."""
        return self._thread.submit(self.loop.run_until_complete, work).result()

    def close(self) -> None:
        """Stop the loop; what still runs in it is cancelled."""
        self.call(_cancel_all())
        self._thread.shutdown()
        self.loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()

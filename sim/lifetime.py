"""How long a simulator runs: until one of its parts ends, Ctrl-C, or a request to terminate."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any, Final

TERMINATED: Final = 143
"""Exit status after SIGTERM, as shells count it."""


async def first_to_end(*parts: Coroutine[Any, Any, Any]) -> None:
    """Run all of them until one ends, then stop the others.

    :raises Exception: what the one that ended raised.
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run an event loop until ``main`` ends; gives its exit status, or 143 after SIGTERM.

    :raises KeyboardInterrupt: after Ctrl-C, when everything was closed.
    """

    async def guarded() -> int:
        terminated = False
        task = asyncio.ensure_future(main)

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            return await task
        except asyncio.CancelledError:
            if terminated:
                return TERMINATED
            raise

    return asyncio.run(guarded())

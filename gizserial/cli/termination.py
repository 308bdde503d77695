"""SIGTERM ends a command in order, as Ctrl-C does, with the status that shells give it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any, Final

TERMINATED: Final = 143
"""Exit status after SIGTERM, as shells count it."""


async def or_terminated(work: Coroutine[Any, Any, int]) -> int:
    """Run ``work``, which gives the exit status; SIGTERM cancels it, and the status is that of SIGTERM."""
    task = asyncio.ensure_future(work)
    stopped = False

    def terminate() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped:
            return TERMINATED
        raise

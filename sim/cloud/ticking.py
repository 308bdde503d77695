"""Does what is due, again and again: a loop around a ``tick`` that says when it wants to be called next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sim.cloud.errors import CloudError


async def keep_ticking(
    tick: Callable[[], float], changed: asyncio.Event, complain: Callable[[str], None], *, longest: float
) -> None:
    """Call ``tick`` until cancelled.

    :param tick: Does what is due; gives the seconds until the next call.
    :param changed: Set when it has to be called sooner.
    :param complain: Takes one sentence when it failed.
    :param longest: Seconds until the next call after a failure.
    """
    while True:
        changed.clear()
        wait = longest
        try:
            wait = tick()
        except CloudError as error:
            complain(f"what was due could not be done: {error}")
        try:
            async with asyncio.timeout(wait):
                await changed.wait()
        except TimeoutError:
            continue

"""How long a simulator runs: until one of its parts ends, Ctrl-C, or a request to terminate."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gizserial.cli.termination import or_terminated


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
    return asyncio.run(or_terminated(main))

"""What has to happen as time passes: guests whose time is over, history that is too old, the certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sim.cloud.app_side import AppSide
from sim.cloud.events import Bound, Event
from sim.cloud.ticking import keep_ticking

PRUNE_EVERY: Final = 3600.0
"""Seconds between two looks at what is too old."""


class Housekeeping:
    """A task of the cloud.

    :param renew: Renews the certificate when it is time; takes Unix seconds.
    """

    def __init__(self, side: AppSide, *, renew: Callable[[float], object]) -> None:
        self._side, self._renew = side, renew
        self._pruned_at = float("-inf")
        self._changed = asyncio.Event()
        self._forget = side.hub.subscribe(self._watch)

    def _watch(self, event: Event) -> None:
        if isinstance(event, Bound):
            self._changed.set()  # it may end sooner than what is waited for

    def tick(self) -> float:
        """Do what is due; gives the seconds until the next look."""
        now = self._side.now()
        ends = self._side.bindings.expire()
        if now - self._pruned_at >= PRUNE_EVERY:
            self._pruned_at = now
            self._side.history.prune(now)
            self._renew(now)
        return PRUNE_EVERY if ends is None else min(PRUNE_EVERY, max(0.0, ends - now))

    async def run(self) -> None:
        """Look after the house until cancelled."""
        try:
            await keep_ticking(self.tick, self._changed, self._side.hub.complain, longest=PRUNE_EVERY)
        finally:
            self._forget()

"""A :class:`~gizserial.io.memory.MemoryLink` as two transports, for tests that have an event loop."""

from __future__ import annotations

import asyncio

from gizserial.io.base import READ_SIZE, Port
from gizserial.io.memory import LinkEnd, MemoryLink


class MemoryTransport(Port):
    """One end of a link, in the time of the event loop. Up while both ends are open. See :meth:`pair`."""

    def __init__(self, name: str, link: MemoryLink, end: LinkEnd) -> None:
        super().__init__(name)
        self._link, self._end = link, end
        self._peer: MemoryTransport | None = None
        self._opened = False
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def pair(cls, link: MemoryLink | None = None) -> tuple[MemoryTransport, MemoryTransport]:
        """Both ends of a link; of a fast and faultless one unless it is given."""
        link = link or MemoryLink()
        a, b = cls("memory:a", link, link.a), cls("memory:b", link, link.b)
        a._peer, b._peer = b, a
        return a, b

    def resume_reading(self) -> None:
        """Report data again."""
        super().resume_reading()
        self._watch()

    async def _open(self) -> None:
        self._opened = True
        if self._peer is not None and self._peer._opened:
            self._peer._up()
            self._up()
            self._watch()  # for what the peer has said already

    async def _close(self) -> None:
        self._opened = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._peer is not None:
            self._peer._deliver()
            self._link.discard()
            self._peer._down(f"{self.name} was closed")

    def _start_writing(self) -> None:
        self._end.write(bytes(self._waiting), now=asyncio.get_running_loop().time())
        self._sent_all()
        if self._peer is not None:
            self._peer._watch()
        self._watch()  # for what comes back of it

    def _watch(self) -> None:
        due = self._end.next_delivery()
        if self._timer is None and due is not None and self.connected and not self._paused:
            self._timer = asyncio.get_running_loop().call_at(due, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        # The event loop may be early by its clock's resolution; what it was set for is due in any case.
        now = max(asyncio.get_running_loop().time(), self._end.next_delivery() or 0.0)
        data = b"" if self._paused or not self.connected else self._end.receive(now=now, limit=READ_SIZE)
        if data:
            self._received(data)
        self._watch()

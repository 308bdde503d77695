"""What a port has that is another port with something done to its bytes."""

from __future__ import annotations

from collections import deque

from gizserial.io.base import WRITE_LIMIT, Back, LineEvent, Lost, Port, Transport


class WrappedPort(Port):
    """Passes on what happens on another line, in order, and keeps it while reading is paused.

    A subclass decides in :meth:`_happened` and :meth:`_start_writing` what becomes of the bytes, and gives
    them away with :meth:`_queue` and :meth:`_send`.

    :param inner: The line that carries the bytes. It belongs to this object from now on.
    """

    def __init__(self, inner: Transport, *, write_limit: int = WRITE_LIMIT) -> None:
        super().__init__(inner.name, write_limit=write_limit)
        self._inner = inner
        self._held: deque[LineEvent] = deque()  # what happened while reading was paused

    @property
    def name(self) -> str:
        """The name of the line that is wrapped."""
        return self._inner.name

    @property
    def other_end(self) -> str | None:
        """The other end of the line that is wrapped."""
        return self._inner.other_end

    async def drain(self) -> None:
        """Wait until everything has left, with what was done to it."""
        await super().drain()
        await self._inner.drain()

    def resume_reading(self) -> None:
        """Report again, first what happened meanwhile."""
        super().resume_reading()
        while self._held and not self._paused:
            self._pass_on(self._held.popleft())
        self._read_on()

    async def _open(self) -> None:
        await self._inner.open(self._happened)

    async def _close(self) -> None:
        self._held.clear()
        await self._inner.close()

    def _happened(self, event: LineEvent) -> None:
        """Something happened on the line that is wrapped."""
        raise NotImplementedError

    def _read_on(self) -> None:
        """Let the line that is wrapped report again, if there is room."""
        raise NotImplementedError

    def _send(self, data: bytes) -> None:
        """Bytes leave."""
        self._inner.write(data)
        if not self._unsent():
            self._sent_all()

    def _queue(self, event: LineEvent) -> None:
        """Report an event behind those that are held."""
        if self._paused:
            self._held.append(event)
        else:
            self._pass_on(event)

    def _pass_on(self, event: LineEvent) -> None:
        if isinstance(event, Back):
            self._up()
        elif isinstance(event, Lost):
            self._down(event.reason)
        else:
            self._report(event)

"""The SNoti server: JSON lines over TLS for the servers of a product's owner (snoti.md)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final

from sim.cloud.app_side import AppSide
from sim.cloud.errors import AddressError, CloudError
from sim.cloud.snoti_events import SnotiEvents
from sim.cloud.snoti_queue import SnotiQueues
from sim.cloud.snoti_session import SnotiSession
from sim.cloud.sockets import without_delay
from sim.cloud.tls_accept import Handshakes

READ_SIZE: Final = 65_536
ROOM: Final = 256 * 1024
"""Bytes that may wait for a reader; with more it is pushed nothing until it has read."""


class SnotiServer:
    """Serves any number of addresses with one set of queues.

    :param clock: Monotonic seconds.
    """

    def __init__(self, side: AppSide, *, clock: Callable[[], float]) -> None:
        self._side, self._clock = side, clock
        self.queues: Final = SnotiQueues(side.store.database)
        self._events = SnotiEvents(side, self.queues)
        self._servers: list[tuple[asyncio.Server, Handshakes]] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> tuple[str, int]:
        """Take connections there; gives the real address.

        :raises AddressError: the address cannot be listened on.
        """
        if context is None:
            raise AddressError("SNoti needs TLS")
        loop = asyncio.get_running_loop()
        handshakes = Handshakes(
            context, lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._accept)
        )
        try:
            server = await loop.create_server(handshakes.accept, host or None, port)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise AddressError(
                f"cannot listen on {host}:{port}: {reason}; name another one with --snoti"
            ) from error
        self._servers.append((server, handshakes))
        name = server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def close(self) -> None:
        """End every connection."""
        for server, _ in self._servers:
            server.close()
        for _, handshakes in self._servers:
            await handshakes.stop()
        self._servers.clear()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        without_delay(writer)
        # drain() must wait for exactly what has_room() calls full: it is asked again as soon as it returns.
        writer.transport.set_write_buffer_limits(high=ROOM)
        full = asyncio.Event()

        def has_room() -> bool:
            if writer.transport.get_write_buffer_size() < ROOM:
                return True
            full.set()
            return False

        session = SnotiSession(
            self._side,
            self.queues,
            write=lambda line: None if writer.is_closing() else writer.write(line),
            close=lambda: None,
            has_room=has_room,
            now=self._clock(),
        )
        draining = asyncio.create_task(self._drain(writer, full, session))
        try:
            await self._read(reader, writer, session)
        except CloudError as error:
            self._side.hub.complain(f"an SNoti connection ended: {error}")
        except OSError:
            pass  # it is gone, which is all that it says
        finally:
            draining.cancel()
            with contextlib.suppress(CloudError):
                session.connection_lost()
            writer.close()
            await asyncio.gather(draining, _closed(writer), return_exceptions=True)

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: SnotiSession
    ) -> None:
        while not session.closed:
            try:
                async with asyncio.timeout(max(0.0, session.next_timeout() - self._clock())) as patience:
                    # Who does not read what it asked for is not read either, and has as little time.
                    await writer.drain()
                    data = await reader.read(READ_SIZE)
            except TimeoutError:
                if not patience.expired():
                    raise  # of the connection: the other machine is gone
                session.handle_timeout(self._clock())
                continue
            if not data:
                return
            session.receive_data(data, now=self._clock())

    @staticmethod
    async def _drain(writer: asyncio.StreamWriter, full: asyncio.Event, session: SnotiSession) -> None:
        """Push on when a reader that was slow has read."""
        while True:
            await full.wait()
            full.clear()
            await writer.drain()
            await asyncio.sleep(0)  # the others' turn, however fast this one reads
            session.pump()


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Wait for the end of TLS, but not for long: the other side may not answer."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
    writer.transport.abort()

"""Taking TLS connections: the handshake first, in bounded time, then the protocol of the server.

``create_server(ssl=…)`` keeps connections that never finish their handshake where nobody can end them; a
server that stops would wait for them. Here every handshake is a task that :meth:`Handshakes.stop` ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

HANDSHAKE_TIME: Final = 10.0
"""Seconds that a client has for the TLS handshake."""
SHUTDOWN_TIME: Final = 2.0
"""Seconds that a client has to answer the end of the TLS connection."""


class Handshakes:
    """Makes the protocol of each connection when its handshake is done.

    Give :meth:`accept` to ``loop.create_server`` (without ``ssl``) as the protocol factory. A handshake that
    fails or takes too long ends its connection and is nobody else's business.

    :param make: Makes the protocol behind TLS; its ``connection_made`` gets the TLS transport.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make: Callable[[], asyncio.Protocol],
        *,
        handshake_time: float = HANDSHAKE_TIME,
    ) -> None:
        self._context, self._make, self._time = context, make, handshake_time
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.Protocol:
        """A protocol for a connection that has just been accepted."""
        return _Accepted(self._begin)

    async def stop(self) -> None:
        """End every connection that is still in its handshake."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, accepted: _Accepted, transport: asyncio.Transport) -> None:
        task = asyncio.get_running_loop().create_task(self._shake(accepted, transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake(self, accepted: _Accepted, transport: asyncio.Transport) -> None:
        secured: asyncio.Transport | None = None
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                accepted,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._time,
                ssl_shutdown_timeout=SHUTDOWN_TIME,
            )
        except OSError:  # TLS errors too: no TLS at all, a refused certificate, a client that left
            return
        finally:
            if secured is None:
                transport.abort()
        if secured is not None and not accepted.lost:
            accepted.hand_over(secured, self._make())


class _Accepted(asyncio.Protocol):
    """Stands in until the handshake is done; the first request may come with the end of it."""

    def __init__(self, begin: Callable[[_Accepted, asyncio.Transport], None]) -> None:
        self._begin = begin
        self._early: list[bytes] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast("asyncio.Transport", transport)
        plain.pause_reading()  # what comes now is for start_tls
        self._begin(self, plain)

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True

    def hand_over(self, secured: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Let the protocol of the server go on."""
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        for data in self._early:
            protocol.data_received(data)

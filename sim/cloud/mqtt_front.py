"""What stands between clients and the broker: it makes the broker please field modules.

Every client is looked at before the broker sees it: MQTT 3.1 becomes 3.1.1, a wrong passcode never disturbs
the live device, a second connection ends the first one before it begins, foreign topics go nowhere. Towards
a device every packet leaves through :class:`~sim.cloud.pacing.DeviceQueue`, one per segment.

Rulings of ours: sessions are always clean, nothing is retained, wills are ignored and every subscription is
granted QoS 0, since all messages between devices and apps are (§7.3, R14).
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from typing import TYPE_CHECKING, Final

from sim.cloud.auth import Gate
from sim.cloud.broker import Upstream, backlog
from sim.cloud.errors import AddressError
from sim.cloud.mqtt_client import ClientConnection
from sim.cloud.pacing import Pace
from sim.cloud.sockets import listen

if TYPE_CHECKING:
    from amqtt.broker import Broker

    from sim.cloud.hub import Hub

CONNECT_TIME: Final = 10.0
"""Seconds that a client has for its CONNECT."""
BACKLOG: Final = 256
"""Messages, and bytes for each of them, that may wait inside the broker before a sender is slowed down."""
BACKLOG_BYTES: Final = 64 * 1024


class MqttFront:
    """Takes connections on any number of addresses.

    :param pace: How devices are spoken to.
    :param connect_time: Seconds for a CONNECT; shorter in tests.
    """

    def __init__(
        self,
        broker: Broker,
        gate: Gate,
        hub: Hub,
        *,
        pace: Pace | None = None,
        connect_time: float = CONNECT_TIME,
    ) -> None:
        self.broker, self.gate, self.hub = broker, gate, hub
        self.pace = pace or Pace()
        self.connect_time = connect_time
        self._servers: list[asyncio.Server] = []
        self._clients: dict[str, ClientConnection] = {}
        self._all: set[ClientConnection] = set()
        self._numbers = itertools.count(1)
        self._closing = False

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Take connections there; gives the real address.

        :param context: For MQTT over TLS.
        :raises AddressError: the address cannot be listened on.
        """
        try:
            server, address = await listen(self._accept, host, port, context)
        except OSError as error:
            raise AddressError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; name another one with"
                f" --mqtt{'s' if context is not None else ''}"
            ) from error
        self._servers.append(server)
        return address

    async def close(self) -> None:
        """Take no more connections and end those that are."""
        self._closing = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        connections = list(self._all)
        for connection in connections:
            connection.stop("the cloud stops")
        for connection in connections:
            await connection.ended()

    # --- for connections

    def number(self) -> int:
        """A number that no other connection has."""
        return next(self._numbers)

    def busy(self, name: str, upstream: Upstream) -> bool:
        """Whether the broker has more than enough to do with what this client sent."""
        return upstream.waiting > BACKLOG_BYTES or backlog(self.broker, name) > BACKLOG

    async def admit(self, connection: ClientConnection, key: str) -> None:
        """Make room for a client: who has its name is ended first, and waited for (R16)."""
        while (old := self._clients.get(key)) is not None:
            old.replace()
            await old.ended()
        self._clients[key] = connection

    def leave(self, connection: ClientConnection) -> None:
        """A client is gone."""
        self._all.discard(connection)
        if self._clients.get(connection.key) is connection:
            del self._clients[connection.key]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:
            writer.close()
            return
        connection = ClientConnection(self, reader, writer)
        self._all.add(connection)
        await connection.run()

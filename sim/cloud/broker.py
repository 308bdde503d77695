"""amqtt in this process, reached through connections that a front has looked at.

amqtt is given MQTT 3.1.1 only, from clients that are known, one packet per write. Its own logging is
silenced: what matters is told by the front, with the device's name.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker

LISTENER: Final = "default"
_CONFIG: Final = {
    "listeners": {LISTENER: {"type": "external"}},
    # The front has authenticated everybody and filters topics.
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


def make_broker() -> Broker:
    """A broker without sockets of its own; to be started and shut down by the caller."""
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    broker = Broker(_CONFIG)
    broker._subscriptions = _Subscriptions()
    return broker


class _Subscriptions(dict[str, Any]):
    """amqtt writes all subscriptions into a message for its log, which nobody reads, at every SUBSCRIBE.

    With a thousand devices that would be most of what it does.
    """

    def __repr__(self) -> str:
        return f"{len(self)} filters"


def backlog(broker: Broker, client: str) -> int:
    """Messages that wait in the broker: those of this client, and all that are yet to be distributed.

    amqtt takes what comes and keeps it in queues without bounds, and has no other way to ask for the second.
    """
    entry = broker.sessions.get(client)
    mine = entry[0].delivered_message_queue.qsize() if entry is not None else 0
    return int(mine + broker._broadcast_queue.qsize())


async def let_go(broker: Broker, client: str) -> None:
    """Tell the broker again that a client is gone.

    amqtt forgets an end of stream that it sees before it has begun to serve the client.
    """
    entry = broker.sessions.get(client)
    if entry is not None:
        await entry[1].handle_connection_closed()


class Upstream(ReaderAdapter):
    """What a client says to the broker."""

    def __init__(self) -> None:
        self._stream = asyncio.StreamReader()
        self.waiting = 0
        """Bytes that the broker has not read yet."""

    def feed(self, packet: bytes) -> None:
        """Hand one packet over."""
        self.waiting += len(packet)
        self._stream.feed_data(packet)

    def feed_eof(self) -> None:
        """The client is gone."""
        self._stream.feed_eof()

    async def read(self, n: int = -1) -> bytes:
        """Exactly ``n`` bytes, fewer at the end."""
        try:
            data = await self._stream.readexactly(n) if n >= 0 else await self._stream.read(n)
        except asyncio.IncompleteReadError as error:
            data = error.partial
        self.waiting -= len(data)
        return data


class Downstream(WriterAdapter):
    """What the broker says to a client: whole packets, one per call."""

    def __init__(
        self, peer: tuple[str, int], on_packet: Callable[[bytes], None], on_close: Callable[[], None]
    ) -> None:
        self._peer, self._on_packet, self._on_close = peer, on_packet, on_close

    def write(self, data: bytes) -> None:
        """Take one packet."""
        self._on_packet(bytes(data))

    async def drain(self) -> None:
        """Packets wait in queues of the front, which are bounded there."""

    def get_peer_info(self) -> tuple[str, int] | None:
        """Where the client is."""
        return self._peer

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """Nothing here is encrypted."""
        return None

    async def close(self) -> None:
        """The broker is done with the client."""
        self._on_close()

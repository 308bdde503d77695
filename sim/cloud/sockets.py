"""TCP details of the servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(
    accept: Accept, host: str, port: int, context: ssl.SSLContext | None = None
) -> tuple[asyncio.Server, tuple[str, int]]:
    """Take connections; gives the server and its real address.

    :raises OSError: the address is in use or not ours.
    """
    server = await asyncio.start_server(accept, host or None, port, ssl=context)
    name = server.sockets[0].getsockname()
    return server, (str(name[0]), int(name[1]))


def without_delay(writer: asyncio.StreamWriter) -> None:
    """Send every write at once, as a segment of its own."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

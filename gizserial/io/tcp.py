"""``tcp-listen:host:port``: a line for whoever connects, one peer at a time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import Any, cast

from gizserial.errors import TransportError
from gizserial.io.base import WRITE_LIMIT, Notice, Port

LOOPBACK = "127.0.0.1"
"""Where we listen when no host is given: reachable from this machine only."""


class TcpListenPort(Port):
    """Listens, and is up while a peer is connected; the next one is taken when it has left.

    ``other_end`` is the ``socket://`` URL a peer on this machine opens.

    :param host: Name or address; empty is the loopback.
    :param port: 0 is any free one; ``name`` and ``other_end`` have it once the port is open.
    """

    def __init__(self, host: str, port: int, *, write_limit: int = WRITE_LIMIT) -> None:
        super().__init__(_name(host or LOOPBACK, port), write_limit=write_limit)
        self._host, self._port = host or LOOPBACK, port
        self._server: asyncio.Server | None = None
        self._peer: _Peer | None = None

    def pause_reading(self) -> None:
        """Report no more data; a peer that leaves meanwhile is noticed afterwards."""
        super().pause_reading()
        if self._peer is not None:
            self._peer.transport.pause_reading()

    def resume_reading(self) -> None:
        """Report data again."""
        super().resume_reading()
        if self._peer is not None:
            self._peer.transport.resume_reading()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            # The first address only: with port 0 a name with two would get two ports.
            family, *_, address = (
                await loop.getaddrinfo(
                    self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            )[0]
            self._server = await loop.create_server(
                lambda: _Peer(self), str(address[0]), self._port, family=family, backlog=1
            )
        except (OSError, UnicodeError) as error:
            raise TransportError(f"{self.name}: {_explain(error, self._host, self._port)}") from error
        self._port = self._server.sockets[0].getsockname()[1]
        self._name = _name(self._host, self._port)
        reachable = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self._host, self._host)
        self._other_end = f"socket://{_bracketed(reachable)}:{self._port}"

    async def _close(self) -> None:
        server, self._server = self._server, None
        peer, self._peer = self._peer, None
        if server is not None:
            server.close()
        if peer is not None:
            # What was written is still sent; a peer that does not read gets no more time than that.
            peer.transport.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(peer.gone.wait(), 1.0)
            peer.transport.abort()
        if server is not None:
            await server.wait_closed()

    def _start_writing(self) -> None:
        if self._peer is not None:
            self._peer.transport.write(bytes(self._waiting))
            self._waiting.clear()
            if not self._unsent():
                self._sent_all()

    def _unsent(self) -> int:
        return self._peer.transport.get_write_buffer_size() if self._peer is not None else 0

    def taken(self, peer: _Peer) -> bool:
        """Somebody connected. False: turned away, because somebody else is there."""
        if self._peer is not None or self._server is None:
            self._report(Notice(f"{self.name}: {peer.address} was turned away, a peer is connected already"))
            return False
        self._peer = peer
        if self._paused:
            peer.transport.pause_reading()
        self._up()
        return True

    def came(self, data: bytes) -> None:
        """The peer sent something."""
        self._received(data)

    def emptied(self) -> None:
        """The peer took everything."""
        self._sent_all()

    def left(self, peer: _Peer, error: Exception | None) -> None:
        """The peer disconnected."""
        if peer is self._peer:
            self._peer = None
            how = f" ({error.strerror or error})" if isinstance(error, OSError) else ""
            self._down(f"{self.name}: {peer.address} disconnected{how}; waiting for the next")


class _Peer(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, port: TcpListenPort) -> None:
        self._port = port
        self._accepted = False
        self.address = "a peer"
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        address: Any = transport.get_extra_info("peername")
        if address:
            self.address = f"{_bracketed(address[0])}:{address[1]}"
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer whose machine lost power must not keep the line for ever.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.transport.set_write_buffer_limits(high=0)  # resume_writing: everything has left
        self._accepted = self._port.taken(self)
        if not self._accepted:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._accepted:
            self._port.came(data)

    def resume_writing(self) -> None:
        if self._accepted:
            self._port.emptied()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._port.left(self, exc)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _name(host: str, port: int) -> str:
    return f"tcp-listen:{_bracketed(host)}:{port}"


def _explain(error: OSError | UnicodeError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"there is no host called {host}; use 127.0.0.1, or 0.0.0.0 for all addresses of this machine"
    if error.errno == errno.EADDRINUSE or getattr(error, "winerror", None) == 10048:
        return f"port {port} is in use by another program; choose another, or 0 for any free one"
    # asyncio of Python 3.12 and newer says it without a number.
    nowhere = error.errno is None and "could not bind on any address" in str(error)
    if nowhere or error.errno == errno.EADDRNOTAVAIL or getattr(error, "winerror", None) == 10049:
        return f"{host} is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all of them"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"permission denied for port {port}; choose one above 1023"
    return f"cannot listen there ({os.strerror(error.errno) if error.errno else error})"

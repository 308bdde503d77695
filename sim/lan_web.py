"""The web form of a simulated module: a port that is there in SoftAP mode only (lan.md §1, §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from gizserial.lan import web
from gizserial.lan.messages import RouterData

REQUEST_TIME: Final = 10.0
"""Seconds that a browser has for its request and for taking the page."""


class WebPort:
    """Listens while it is wanted.

    :param on_router_data: Told what the form gave, after the page has left.
    :param say: Told in a sentence where the form is, or why it is not there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        on_router_data: Callable[[RouterData], None],
        say: Callable[[str], None],
    ) -> None:
        self._host, self._port = host, port
        self._on_router_data, self._say = on_router_data, say
        self._serving: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self.sessions: Final[set[_Browser]] = set()
        self.address: tuple[str, int] | None = None
        """Where it listens just now."""

    def want(self, wanted: bool) -> None:
        """Be there, or be gone."""
        if wanted and self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        elif not wanted and self._serving is not None:
            self._serving.cancel()
            self._serving = None
            if self._leaving is not None:
                self._leaving.cancel()

    async def close(self) -> None:
        """End it, with every connection."""
        serving = self._serving
        self.want(False)
        for session in list(self.sessions):
            session.abort()
        if serving is not None:
            await asyncio.gather(serving, return_exceptions=True)

    def given(self, data: RouterData) -> None:
        """The form was sent; the module goes on when the browser has its page."""
        if self._leaving is not None:
            self._leaving.cancel()
        loop = asyncio.get_running_loop()
        self._leaving = loop.call_later(web.LEAVE_TIME, self._on_router_data, data)

    async def _serve(self) -> None:
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: _Browser(self), self._host, self._port
            )
        except OSError as error:
            self._say(
                f"no web form: {self._host}:{self._port}: {error.strerror or error}; "
                "name another port as the last of --lan HOST:TCP:UDP:WEB"
            )
            return
        self.address = server.sockets[0].getsockname()[:2]
        self._say("web form at http://{}:{}/".format(*self.address))
        try:
            await asyncio.get_running_loop().create_future()  # until it is cancelled
        finally:
            self.address = None
            server.close()


class _Browser(asyncio.Protocol):
    """One connection: one request, one page."""

    def __init__(self, port: WebPort) -> None:
        self._port = port
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port.sessions.add(self)
        self._limit = asyncio.get_running_loop().call_later(REQUEST_TIME, self.abort)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._head += data
        found = web.answer(self._head)
        if found is not None:
            self._transport.write(found.data)
            self._transport.close()
            if found.router is not None:
                self._port.given(found.router)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._port.sessions.discard(self)
        if self._limit is not None:
            self._limit.cancel()

    def abort(self) -> None:
        """Drop it."""
        if self._transport is not None:
            self._transport.abort()

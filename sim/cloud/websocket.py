"""The WebSocket server: sockets of any number of listeners, all in one hub (websocket-api.md §1).

``GET /ws/app/v1`` opens a socket, ``GET /app`` is a page to try it. Whoever reads slowly keeps nobody else
waiting: what is meant for him waits in his own queue, and while that is long his own requests wait too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, Event
from websockets.server import ServerProtocol

from sim.cloud.errors import AddressError
from sim.cloud.tls_accept import Handshakes
from sim.cloud.websocket_hub import WebSocketHub
from sim.cloud.websocket_messages import MAX_MESSAGE
from sim.cloud.websocket_session import POLICY

PATH: Final = "/ws/app/v1"
PAGE_PATH: Final = "/app"
OPEN_TIME: Final = 10.0
"""Seconds that a client has for the opening handshake."""
CLOSE_TIME: Final = 5.0
"""Seconds that a client has to take what still waits for it, and again to answer the close."""
STOP_TIME: Final = 1.0
"""The same when the server stops."""
BACKLOG: Final = 100
"""Messages that may wait for a reader before its own requests wait too."""
MAX_FRAGMENTS: Final = 1024
"""Frames that one message may come in."""

_PAGE: Final = Path(__file__).with_name("websocket_page.html")
_BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 12\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nBad request\n"
)
_logger: Final = logging.getLogger(__name__)
# Messages hold tokens, and the library would log each of them when somebody debugs; and it logs a traceback
# for every client that does not manage to open a socket.
_logger.setLevel(logging.ERROR)
_logger.addFilter(lambda record: record.msg != "opening handshake failed")


class WebSocketServer:
    """Serves the sessions of a hub.

    :param clock: Monotonic seconds, those of the hub.
    :param open_time: Seconds for the opening handshake; shorter in tests.
    """

    def __init__(
        self, hub: WebSocketHub, *, clock: Callable[[], float], open_time: float = OPEN_TIME
    ) -> None:
        self._hub, self._clock, self._open_time = hub, clock, open_time
        self._listeners: list[_Listener] = []
        self._links: set[_Link] = set()

    async def listen(self, host: str, port: int, ssl: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Take connections there; gives the real address. May be called for several addresses.

        :param ssl: For ``wss``.
        :raises AddressError: the address cannot be listened on.
        """
        listener = _Listener(self._serve, ssl, self._open_time)
        address = await listener.start(host, port)
        self._listeners.append(listener)
        return address

    def __len__(self) -> int:
        """How many sockets are open."""
        return len(self._links)

    async def close(self) -> None:
        """Take no more connections, and close those that are with 1001. Safe to call twice."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.stop_listening()
        for link in list(self._links):
            link.stop()
        for listener in listeners:
            await listener.finish()

    async def _serve(self, connection: ServerConnection) -> None:
        link = _Link(connection, self._hub, self._clock)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Listener:
    """One address."""

    def __init__(
        self,
        serve: Callable[[ServerConnection], object],
        context: ssl.SSLContext | None,
        open_time: float,
    ) -> None:
        self._server = Server(
            serve,  # type: ignore[arg-type] # a coroutine function
            process_request=_route,
            process_response=_instead_of_426,
            server_header=None,
            open_timeout=open_time,
            logger=_logger,
        )
        self._option = "--ws" if context is None else "--wss"
        self._handshakes = None if context is None else Handshakes(context, self._connection)
        self._asyncio_server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        accept = self._connection if self._handshakes is None else self._handshakes.accept
        try:
            # asyncio sets TCP_NODELAY on every connection.
            server = await asyncio.get_running_loop().create_server(accept, host or None, port)
        except (OSError, OverflowError, UnicodeError) as error:
            raise AddressError(_sentence(host, port, self._option, error)) from error
        self._asyncio_server = server
        self._server.wrap(server)
        name = server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def stop_listening(self) -> None:
        if self._asyncio_server is not None:
            self._asyncio_server.close()
        if self._handshakes is not None:
            await self._handshakes.stop()

    async def finish(self) -> None:
        """Wait for those who leave, and drop whoever takes too long."""
        await asyncio.sleep(0)  # a connection that was just accepted is known after this
        for connection in list(self._server.handlers):
            if connection.protocol.state is CONNECTING:
                connection.transport.abort()
        if self._server.handlers:
            await asyncio.wait(list(self._server.handlers.values()), timeout=STOP_TIME)
        for connection in list(self._server.handlers):
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    def _connection(self) -> ServerConnection:
        return _Connection(
            _HandshakeProtocol(max_size=MAX_MESSAGE, logger=_logger),
            self._server,
            ping_interval=None,  # the API has a heartbeat of its own (§10)
            close_timeout=CLOSE_TIME,
        )


class _HandshakeProtocol(ServerProtocol):
    """Answers what is no HTTP request too."""

    def send_eof(self) -> None:
        if self.state is CONNECTING and not self.writes:
            self.writes.append(_BAD_REQUEST)
        super().send_eof()


class _Connection(ServerConnection):
    """Keeps what a client can make the library store within bounds."""

    _fragments = 0

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._fragments = 0 if event.fin else self._fragments + 1
            if self._fragments > MAX_FRAGMENTS:
                self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
                self.send_data()
                return
        super().process_event(event)

    def pause_writing(self) -> None:
        """Whoever reads no pongs has no more pings read."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.recv_messages.paused:
            self.transport.resume_reading()


class _Link:
    """One socket and its session."""

    def __init__(self, connection: ServerConnection, hub: WebSocketHub, clock: Callable[[], float]) -> None:
        self._connection, self._hub, self._clock = connection, hub, clock
        self._session = hub.open()
        self._session.wake = self._wake
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._stopping = False
        self._sent = False
        """Nothing will be sent any more."""

    async def run(self) -> None:
        """Live until the socket is closed."""
        self._sender = asyncio.create_task(self._send())
        self._plan()
        try:
            await self._receive()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._hub.forget(self._session)
            self._session.close(CloseCode.GOING_AWAY)
            if self._closer is not None:
                await asyncio.wait({self._closer})

    def stop(self) -> None:
        """End the socket, because the server stops."""
        self._stopping = True
        self._session.close(CloseCode.GOING_AWAY, "the cloud stops")

    async def _receive(self) -> None:
        session = self._session
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await self._connection.recv()
                session.receive(message, self._clock())
                self._plan()
                # Others get their turn after each message, however many came at once.
                await asyncio.sleep(0)
                while len(session.outgoing) > BACKLOG and not self._sent and session.close_code is None:
                    self._room.clear()
                    await self._room.wait()

    async def _send(self) -> None:
        session = self._session
        try:
            while session.outgoing or session.close_code is None:
                if session.outgoing:
                    text = session.outgoing.popleft()
                    if len(session.outgoing) <= BACKLOG:
                        self._room.set()
                    await self._connection.send(text)
                else:
                    self._something.clear()
                    await self._something.wait()
        except ConnectionClosed:
            pass
        finally:
            self._sent = True
            self._room.set()

    def _wake(self) -> None:
        self._something.set()
        if self._session.close_code is not None and self._closer is None:
            self._room.set()
            self._closer = asyncio.get_running_loop().create_task(self._close(self._session.close_code))

    async def _close(self, code: int) -> None:
        """Send what waits, then close; a client that takes nothing is dropped."""
        patience = STOP_TIME / 2 if self._stopping else CLOSE_TIME
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=0 if code == POLICY else patience)
            self._sender.cancel()
            await asyncio.wait({self._sender})
        try:
            async with asyncio.timeout(patience):
                await self._connection.close(code, self._session.close_reason)
        except TimeoutError:
            self._connection.transport.abort()

    def _plan(self) -> None:
        """Have the session looked at in time. Its deadlines mostly move on, so a timer may be early."""
        due = self._session.next_timeout()
        if due is None:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(due - self._clock(), 0.0)
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        self._session.handle_timeout(self._clock())
        self._plan()


def _route(connection: ServerConnection, request: Request) -> Response | None:
    path = request.path.partition("?")[0]
    if path == PATH:
        return None
    if path == PAGE_PATH:
        page = connection.respond(200, _PAGE.read_text("utf-8"))
        page.headers.pop("Content-Type", None)
        page.headers["Content-Type"] = "text/html; charset=utf-8"
        return page
    return connection.respond(404, f"Not found. The WebSocket API is at {PATH}, a test page at {PAGE_PATH}\n")


def _instead_of_426(connection: ServerConnection, request: Request, response: Response) -> Response | None:
    """A plain GET is a bad request (§1)."""
    del request
    if response.status_code != 426:
        return None
    return connection.respond(400, "This is a WebSocket: an upgrade is needed\n")


def _sentence(host: str, port: int, option: str, error: Exception) -> str:
    place = f"{host or 'this machine'}:{port}"
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE)}:
        why = "it is in use by another program"
    elif number in {errno.EACCES, errno.EPERM}:
        why = "this user may not (ports below 1024 often need more rights)"
    else:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"cannot listen on {place}: {why}; choose another address with {option} HOST:PORT"

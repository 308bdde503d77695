"""The cloud's HTTP server: uvicorn's protocol in our event loop, fit for modules (device-cloud.md §12.1).

Modules read an answer with one ``recv``. uvicorn writes head and body apart, so :class:`_JoinedTransport`
holds what is written until the loop turns, and sends it at once. An answer that is not finished within one
turn is held by :class:`HoldStart`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import h11
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gizserial.errors import GizserialError
from gizserial.m2m.http import ErrorAnswer
from gizserial.m2m.http_cloud import ErrorCode
from sim.cloud.errors import AddressError
from sim.cloud.http_device import NOT_FOUND, SERVER_ERROR, DeviceApi, device_router, error_response
from sim.cloud.http_firmware import CUT
from sim.cloud.tls_accept import HANDSHAKE_TIME, Handshakes

REQUEST_TIME: Final = 10.0
"""Seconds that a client has for a whole request."""
LINGER_TIME: Final = 2.0
"""Seconds that a client has to read an answer and close, after we have finished."""
DRAIN_TIME: Final = 300.0
"""Seconds that a client may take for reading an answer, as long as it does read."""
STOP_TIME: Final = 1.0
"""Seconds that requests under way have when the server stops."""
MAX_HEAD: Final = 16 * 1024
"""Largest request head, in bytes."""
MAX_JOINED: Final = 64 * 1024
"""Bytes of one answer that are held; a longer one leaves in pieces."""


def create_app(api: DeviceApi) -> FastAPI:
    """The application with the calls of modules; others may add routes of their own."""
    # The documentation pages of FastAPI load their scripts from another host: off.
    app = FastAPI(
        title="Embedded cloud",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.include_router(device_router(api))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _server_error)
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    del request
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, text = {404: (NOT_FOUND, "not found"), 405: (NOT_FOUND, "method not allowed")}.get(
        status, (ErrorCode.FORM_INVALID, "form invalid")
    )
    return error_response(ErrorAnswer(code, text, status))


async def _server_error(request: Request, error: Exception) -> Response:
    del request
    # The text of an error that nobody expected is for the log, which uvicorn writes, and not for a peer.
    reason = f": {error}" if isinstance(error, GizserialError) else ""
    return error_response(ErrorAnswer(SERVER_ERROR, f"server error{reason}"[:200], 500))


class HoldStart:
    """Holds the start of an answer until its end, so that both leave in one turn of the loop.

    Middleware that waits in between would split them. An answer above 64 KiB is let go as it comes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []
        size = 0

        async def later(message: Message) -> None:
            nonlocal size
            if message["type"] == CUT:
                for waiting in held:
                    await send(waiting)
                held.clear()
                scope["state"]["end"]()
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            held.append(message)
            size += len(message.get("body", b""))
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            if ends or size > MAX_JOINED:
                messages = held.copy()
                held.clear()
                for waiting in messages if size > MAX_JOINED else _merged(messages):
                    await send(waiting)

        await self._app(scope, receive, later)
        for message in held:
            await send(message)


def _merged(messages: list[Message]) -> list[Message]:
    """Many bodies as one: a chunked answer must have one chunk (§12.1.5)."""
    bodies = [message for message in messages if message["type"] == "http.response.body"]
    if len(bodies) < 2 or len(bodies) != len(messages) - 1 or messages[0]["type"] != "http.response.start":
        return messages
    body = b"".join(message.get("body", b"") for message in bodies)
    return [messages[0], {"type": "http.response.body", "body": body, "more_body": False}]


class _JoinedTransport(asyncio.Transport):
    """Sends at once what was written in one turn of the loop; closing waits for the client to have read.

    A close with bytes of the client unread would reset the connection and take the answer with it. So closing
    only ends our direction; the connection ends with the client's, or after :data:`LINGER_TIME`.

    :param sending: Whether the client is in the middle of a request.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, sending: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._transport, self._loop, self._sending = transport, loop, sending
        self._waiting = bytearray()
        self._flush: asyncio.Handle | None = None
        self._end: asyncio.TimerHandle | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._end is not None:
            return
        self._waiting += data
        if len(self._waiting) > MAX_JOINED:
            self._send()
        elif self._flush is None:
            self._flush = self._loop.call_soon(self._send)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def _send(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        data = bytes(self._waiting)
        self._waiting.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._end is not None:
            return
        self._send()
        self._end = self._loop.call_later(LINGER_TIME, self._linger, self._loop.time() + DRAIN_TIME)
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
        elif not self._transport.is_closing() and self._sending():
            # TLS cannot end one direction: the client has to be heard out, or it loses the answer.
            self._transport.resume_reading()
        else:
            self._transport.close()

    def _linger(self, until: float) -> None:
        """A slow client that still has something to read has more time."""
        if self._transport.get_write_buffer_size() and self._loop.time() < until:
            self._end = self._loop.call_later(LINGER_TIME, self._linger, until)
        else:
            self._transport.abort()

    def abort(self) -> None:
        self._waiting.clear()
        self._send()
        self._transport.abort()

    def ended(self) -> None:
        """The connection is gone."""
        if self._flush is not None:
            self._flush.cancel()
        if self._end is not None:
            self._end.cancel()

    def is_closing(self) -> bool:
        return self._end is not None or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        if not self.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + len(self._waiting)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def can_write_eof(self) -> bool:
        return False


class _Connection(h11.Connection):
    """Writes heads as modules know them: ``Content-Type``, not ``content-type``, and ``Connection`` last.

    Some search for names in this case. A name with a capital in it stays as it is (``Firmware-MD5``).
    """

    def send(self, event: h11.Event) -> Any:
        data = super().send(event)
        if data is None or not isinstance(event, h11.Response):
            return data
        status, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
        named = [_titled(line) for line in lines]
        named.sort(key=lambda line: line.startswith(b"Connection:"))
        return b"\r\n".join([status, *named]) + b"\r\n\r\n"


def _titled(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return (name.title() if name.islower() else name) + colon + value


class ModuleProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 over h11, with answers in one piece and a time limit for requests."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "end": self.end}, _loop)
        self.conn = _Connection(h11.SERVER, MAX_HEAD)
        self._late: asyncio.TimerHandle | None = None
        self._joined: _JoinedTransport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Put the joining transport between uvicorn and the socket."""
        self._joined = _JoinedTransport(
            transport, self.loop, lambda: self.conn.their_state in {h11.SEND_BODY, h11.ERROR}
        )
        super().connection_made(self._joined)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every timer of the connection."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        if self._joined is not None:
            self._joined.ended()

    def data_received(self, data: bytes) -> None:
        """Parse a request, and watch whether it comes to its end."""
        if self.transport.is_closing():
            return  # read so that the connection can end in peace
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or too long a head, is answered as JSON too."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        status = 431 if "too" in msg else 400
        response = error_response(
            ErrorAnswer(ErrorCode.FORM_INVALID, "form invalid: no HTTP request", status)
        )
        with contextlib.suppress(h11.LocalProtocolError):  # nothing can be said any more
            # A page may have sent too long a head: it reads the answer only if its origin may.
            headers = [*response.raw_headers, (b"access-control-allow-origin", b"*")]
            head = h11.Response(status_code=400, headers=headers, reason="Bad Request")
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def end(self) -> None:
        """End the connection after what was written."""
        self.transport.close()

    def drop(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _watch(self) -> None:
        """Run the time limit while a request is awaited that has begun, or the first one."""
        waiting = not self.transport.is_closing() and (
            self.conn.their_state is h11.SEND_BODY
            or (
                self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
            )
        )
        if not waiting and self._late is not None:
            self._late.cancel()
            self._late = None
        elif waiting and self._late is None:
            self._late = self.loop.call_later(self._request_time, self._too_late)

    @property
    def _request_time(self) -> float:
        return float(self.app_state.get("request_time", REQUEST_TIME))

    def _too_late(self) -> None:
        self._late = None
        self.transport.close()


class HttpServer:
    """Serves an ASGI application inside the running event loop.

    It installs no signal handlers, logs no requests and wakes nobody while nothing happens.

    :param option: The option that chose the address, for the sentence that says to choose another.
    :param request_time: Seconds that a client has for a whole request.
    :param tls: Speak HTTPS with this; None is plain HTTP.
    :param handshake_time: Seconds that a client has for the TLS handshake.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        option: str = "--http",
        request_time: float = REQUEST_TIME,
        tls: ssl.SSLContext | None = None,
        handshake_time: float = HANDSHAKE_TIME,
    ) -> None:
        self._host, self._port, self._option = host, port, option
        self._app_state = {"request_time": request_time}
        self._config = uvicorn.Config(
            cast("Any", HoldStart(app)),
            http=ModuleProtocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=MAX_HEAD,
        )
        # Its warnings are about bad requests, which are not the user's business; errors are.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._handshakes = (
            None if tls is None else Handshakes(tls, self._protocol, handshake_time=handshake_time)
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port where it really listens.

        :raises RuntimeError: before :meth:`start`.
        """
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the HTTP server is not started")
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def start(self) -> None:
        """Listen.

        :raises AddressError: when the address is in use, not ours, or not allowed.
        """
        loop = asyncio.get_running_loop()
        self._config.load()
        try:
            self._server = await loop.create_server(
                self._handshakes.accept if self._handshakes is not None else self._protocol,
                self._host,
                self._port,
            )
        # A port above 65535 overflows; a name with an empty label cannot be encoded.
        except (OSError, OverflowError, UnicodeError) as error:
            raise AddressError(self._sentence(error)) from error

    async def stop(self) -> None:
        """Close everything. Requests under way have a second; idle connections none."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        if self._handshakes is not None:
            await self._handshakes.stop()
        for connection in self._connections():
            if connection.cycle is None or connection.cycle.response_complete:
                connection.drop()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=STOP_TIME)
        tasks = set(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)  # lets the last answers leave
        for connection in self._connections():
            connection.drop()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_TIME)
        await server.wait_closed()

    def _protocol(self) -> ModuleProtocol:
        return ModuleProtocol(self._config, self._state, self._app_state, asyncio.get_running_loop())

    def _connections(self) -> list[ModuleProtocol]:
        return [one for one in self._state.connections if isinstance(one, ModuleProtocol)]

    def _sentence(self, error: Exception) -> str:
        place = f"{self._host}:{self._port}"
        code = error.errno if isinstance(error, OSError) else None
        if code in {errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE)}:
            return (
                f"port {self._port} of {self._host} is in use by another program; choose another one with"
                f" {self._option} {self._host}:PORT (port 0 takes any free one)"
            )
        if code in {errno.EACCES, errno.EPERM}:
            return (
                f"port {self._port} of {self._host} may not be used by this user (ports below 1024 often need"
                f" more rights); choose another one with {self._option} {self._host}:PORT"
            )
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return f"the HTTP server cannot listen on {place}: {reason}; choose an address with {self._option}"

"""Drives a :class:`~gizserial.m2m.session.CloudSession` over real connections.

The session decides everything; this opens sockets, moves bytes, keeps the time and stores the identity
before anything that depends on it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import h11

from gizserial.m2m.effects import CloseMqtt, Effect, IdentityChanged, OpenMqtt, SendMqtt
from gizserial.m2m.firmware import MAX_FIRMWARE
from gizserial.m2m.http import HttpRequest, Purpose
from gizserial.m2m.identity import Identity
from gizserial.m2m.session import CloudSession
from sim.cloud_faults import CloudFaults, Service

MAX_ANSWER: Final = 64 * 1024
"""Largest HTTP answer that is taken, in bytes."""
ANSWER_TIME: Final = 600.0
"""Seconds after which a request is given up here; the session repeats it long before."""
CONNECT_TRIES: Final = 3
CONNECT_PAUSE: Final = 0.1
"""Connect is tried 3 times, 100 ms apart (device-cloud.md §4)."""
CONNECT_TIME: Final = 10.0
"""Seconds for one attempt to connect, names included."""
WRITE_LIMIT: Final = 256 * 1024
"""Bytes that may wait for an MQTT server that does not read, before it counts as lost."""


class Clock(Protocol):
    """Monotonic seconds."""

    def now(self) -> float:
        """The time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    """By lower-case name."""


class CloudLink:
    """One module's connections to its cloud.

    :param store: Keeps an identity durably; called before what depends on it is sent.
    :param on_effect: Told every effect that is not the link's own business, in order.
    :param faults: What is wrong with the connections.
    """

    def __init__(
        self,
        session: CloudSession,
        clock: Clock,
        *,
        store: Callable[[Identity], None],
        on_effect: Callable[[Effect], None],
        faults: CloudFaults | None = None,
    ) -> None:
        self.session: Final = session
        self.faults: Final = faults or CloudFaults()
        self._clock = clock
        self._store = store
        self._on_effect = on_effect
        self._wake = asyncio.Event()
        self._http: asyncio.Task[None] | None = None
        self._mqtt: _MqttConnection | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Work until cancelled. The session must have been started."""
        self.faults.start(self.cut)
        try:
            while True:
                self._wake.clear()
                self.pump()
                await self._wait()
                if self._failure is not None:
                    raise self._failure
                self.session.handle_timeout(self._clock.now())
        finally:
            self.faults.stop()
            await self._close()

    def cut(self, service: Service) -> None:
        """Break the connections of a service; new ones can be made."""
        reason = "the connection was cut"
        if service == "mqtt" and self._mqtt is not None:
            self._drop_mqtt()
            self.mqtt_lost(reason)
        if service == "http" and self._http is not None and not self._http.done():
            self._http.cancel()
            self.session.http_failed(self._clock.now(), reason)
            self.wake()

    def wake(self) -> None:
        """The session was told something: do what it wants now."""
        self._wake.set()

    def failed(self, error: Exception) -> None:
        """What a task of ours did went wrong here, not on the network: :meth:`run` raises it."""
        self._failure = self._failure or error
        self.wake()

    async def _wait(self) -> None:
        due = self.session.next_timeout()
        timeout = None if due is None else max(0.0, due - self._clock.now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    def pump(self) -> None:
        """Do everything that the session asks for, in order."""
        while effects := self.session.effects():
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, IdentityChanged):
            self._store(effect.identity)
            self._on_effect(effect)
        elif isinstance(effect, HttpRequest):
            self._request(effect)
        elif isinstance(effect, OpenMqtt):
            self._drop_mqtt()
            self._mqtt = _MqttConnection(effect.host, effect.port, self)
        elif isinstance(effect, SendMqtt):
            if self._mqtt is not None:
                self._mqtt.send(effect.data)
        elif isinstance(effect, CloseMqtt):
            self._drop_mqtt()
        else:
            self._on_effect(effect)

    # --- HTTP

    def _request(self, request: HttpRequest) -> None:
        if not request.awaited:
            task = asyncio.create_task(self._say_goodbye(request))
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)
            return
        if self._http is not None:
            self._http.cancel()
        self._http = asyncio.create_task(self._fetch(request))

    async def _fetch(self, request: HttpRequest) -> None:
        try:
            await self.faults.reach("http")
            answer = await ask(request)
            await self.faults.wait("http")
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            where = f"http://{request.server.authority}"
            self.session.http_failed(self._clock.now(), f"{where}: {_reason(error)}", request)
        else:
            now = self._clock.now()
            self.session.http_answer(answer.status, answer.body, now, request, answer.headers)
        self.wake()

    async def _say_goodbye(self, request: HttpRequest) -> None:
        with contextlib.suppress(OSError, TimeoutError, h11.RemoteProtocolError):
            await self.faults.reach("http")
            await ask(request)

    # --- MQTT, called by the connection

    def mqtt_connected(self) -> None:
        """The connection is there."""
        self.session.mqtt_connected(self._clock.now())
        self.pump()
        self.wake()

    def mqtt_data(self, data: bytes) -> None:
        """Bytes came; what they ask for is done before anything else happens."""
        self.session.mqtt_data(data, self._clock.now())
        self.pump()
        self.wake()

    def mqtt_lost(self, reason: str) -> None:
        """The connection is gone."""
        self._mqtt = None
        self.session.mqtt_lost(self._clock.now(), reason)
        self.wake()

    def _drop_mqtt(self) -> None:
        if self._mqtt is not None:
            self._mqtt.drop()
            self._mqtt = None

    async def _close(self) -> None:
        self._drop_mqtt()
        tasks = [task for task in (self._http, *self._farewells) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _MqttConnection:
    """One TCP connection to the MQTT server."""

    def __init__(self, host: str, port: int, link: CloudLink) -> None:
        self._host, self._port, self._link = host, port, link
        self._writer: asyncio.StreamWriter | None = None
        self._free = 0.0
        self._task = asyncio.create_task(self._run())

    def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        due = max(self._free, loop.time() + self._link.faults.delay("mqtt"))
        if due > loop.time():
            self._free = due  # what is sent later leaves later
            loop.call_at(due, self._write, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._writer is None or self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > WRITE_LIMIT:
            self._fail("the MQTT server does not read")
            return
        self._writer.write(data)

    def drop(self) -> None:
        """Close; nothing of it is reported any more."""
        self._task.cancel()
        if self._writer is not None:
            self._writer.close()

    def _fail(self, reason: str) -> None:
        self.drop()
        self._link.mqtt_lost(reason)

    async def _run(self) -> None:
        try:
            await self._link.faults.reach("mqtt")
            reader, writer = await _connect(self._host, self._port)
        except (OSError, TimeoutError) as error:
            self._link.mqtt_lost(_reason(error))
            return
        self._writer = writer
        reason = "the MQTT server closed the connection"
        try:
            self._link.mqtt_connected()
            while data := await _read(reader):
                await self._link.faults.wait("mqtt")
                self._link.mqtt_data(data)
        except _ConnectionLostError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a full disk, say: whoever runs the link gets it
            self._link.failed(error)
        finally:
            writer.close()
        self._fail(reason)


class _ConnectionLostError(Exception):
    """The peer or the network, as opposed to an error of this machine that has the same type."""


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(4096)
    except OSError as error:
        raise _ConnectionLostError(_reason(error)) from error


async def ask(request: HttpRequest) -> Answer:
    """Send one request on a connection of its own and read the answer.

    :raises OSError: no connection.
    :raises TimeoutError: no answer.
    :raises h11.RemoteProtocolError: what came is not an HTTP answer, or is too large.
    """
    async with asyncio.timeout(ANSWER_TIME):
        reader, writer = await _connect_patiently(request.server.host, request.server.port)
        try:
            writer.write(request.raw)
            await writer.drain()
            limit = MAX_FIRMWARE if request.purpose is Purpose.DOWNLOAD else MAX_ANSWER
            return await _read_answer(request.method, reader, limit)
        finally:
            writer.close()


async def _read_answer(method: str, reader: asyncio.StreamReader, limit: int) -> Answer:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
    # The request went out byte for byte as the module makes it; h11 only has to know that there was one.
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    status, headers, body = 0, {}, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Response):
            status = event.status_code
            # Names and values of a peer: bytes that are no text become something harmless.
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            length = headers.get("content-length", "0")
            if int(length) > limit:
                raise h11.RemoteProtocolError(f"the answer has {length} bytes, {limit} are taken")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise h11.RemoteProtocolError(f"the answer is longer than {limit} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, bytes(body), headers)
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the connection was closed before the answer")


async def _connect_patiently(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(CONNECT_TRIES - 1):
        try:
            return await _connect(host, port)
        except OSError:
            await asyncio.sleep(CONNECT_PAUSE)
    return await _connect(host, port)


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(CONNECT_TIME):
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except (ValueError, OverflowError) as error:  # what the name and number are encoded with
            raise OSError(f"{host[:80]!r}, port {port}, is no address") from error
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return reader, writer


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        if isinstance(error, ConnectionRefusedError):
            return "connection refused; is the cloud running there?"
        # asyncio's time-outs have neither number nor text.
        return error.strerror or str(error) or "no answer in time"
    return str(error)

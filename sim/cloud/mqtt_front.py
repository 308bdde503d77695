"""What stands between clients and the broker: it makes the broker please field modules.

Every client is looked at before the broker sees it: MQTT 3.1 becomes 3.1.1, a wrong passcode never disturbs
the live device, a second connection ends the first one before it begins, foreign topics go nowhere. Towards
a device every packet leaves through :class:`~sim.cloud.pacing.DeviceQueue`, one per segment.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Final

from gizserial.m2m import mqtt31, topics
from gizserial.m2m.mqtt31 import (
    BadPacket,
    ConnAck,
    Connect,
    ConnectCode,
    Disconnect,
    Packet,
    PacketReader,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Unsubscribe,
)
from sim.cloud.auth import Gate, Login, Refusal
from sim.cloud.broker import LISTENER, Downstream, Upstream
from sim.cloud.errors import AddressError
from sim.cloud.events import Dropped, LoginRefused, Notice
from sim.cloud.pacing import DeviceQueue, Pace
from sim.cloud.sockets import listen, without_delay

if TYPE_CHECKING:
    from amqtt.broker import Broker

    from sim.cloud.hub import Hub

CONNECT_TIME: Final = 10.0
"""Seconds that a client has for its CONNECT."""
GRACE: Final = 1.5
"""A client may be silent for so many times its keep-alive (R1)."""
WRITE_LIMIT: Final = 256 * 1024
"""Bytes that wait for a client which does not read, before its connection is closed."""
READ_SIZE: Final = 16 * 1024


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

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Take connections there; gives the real address.

        :raises AddressError: the address cannot be listened on.
        """
        try:
            server, address = await listen(self._accept, host, port)
        except OSError as error:
            raise AddressError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; name another one with --mqtt"
            ) from error
        self._servers.append(server)
        return address

    async def close(self) -> None:
        """Take no more connections and end those that are."""
        for server in self._servers:
            server.close()
        for connection in list(self._all):
            await connection.close("the cloud stops")
        self._servers.clear()

    async def admit(self, connection: ClientConnection, key: str) -> None:
        """Make room for a client: who has its name is closed first, and waited for (R16)."""
        while (old := self._clients.get(key)) is not None:
            await old.close("another connection took over")
        self._clients[key] = connection

    def leave(self, connection: ClientConnection, key: str | None) -> None:
        """A client is gone."""
        self._all.discard(connection)
        if key is not None and self._clients.get(key) is connection:
            del self._clients[key]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ClientConnection(self, reader, writer)
        self._all.add(connection)
        await connection.run()


class ClientConnection:
    """One client, from its first byte to its last."""

    def __init__(self, front: MqttFront, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._front, self._reader, self._writer = front, reader, writer
        without_delay(writer)
        self.login: Login | None = None
        self.queue: DeviceQueue | None = None
        """Devices only."""
        self._packets = PacketReader(mqtt31.FROM_CLIENT)
        self._from_broker = PacketReader(mqtt31.FROM_SERVER)
        self._upstream = Upstream()
        self._broker_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused: dict[int, list[bool]] = {}
        """Packet id of a SUBSCRIBE → which of its filters the broker was asked for."""
        self._asked: dict[int, tuple[str, ...]] = {}
        self._forged: set[int] = set()
        """Packet ids of QoS 2 messages that were dropped."""
        self._done = asyncio.Event()
        self._reason = "the client closed the connection"
        self._main: asyncio.Task[None] | None = None
        self._keep_alive: float | None = None

    @property
    def peer(self) -> tuple[str, int]:
        """Where the client is."""
        name = self._writer.get_extra_info("peername")
        return (str(name[0]), int(name[1])) if name else ("?", 0)

    async def run(self) -> None:
        """Serve the client until it is gone."""
        self._main = asyncio.current_task()
        key: str | None = None
        try:
            connect = await self._first()
            if connect is not None:
                login = self._front.gate.check(connect)
                if isinstance(login, Refusal):
                    self._refuse(connect.client_id, login)
                else:
                    key = login.client_id if login.party == "device" else f"app:{login.did}:{login.client_id}"
                    await self._front.admit(self, key)
                    await self._serve(connect, login, key)
        except (OSError, asyncio.CancelledError) as error:
            if isinstance(error, OSError):
                self._reason = error.strerror or str(error)
        finally:
            await self._end(key)

    async def close(self, reason: str) -> None:
        """End the connection and wait until the broker is done with it."""
        self._reason = reason
        if self._main is not None and self._main is not asyncio.current_task():
            self._main.cancel()
        await self._done.wait()

    # --- before the login

    async def _first(self) -> Connect | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._front.connect_time):
                while data := await self._reader.read(READ_SIZE):
                    packets = self._packets.feed(data)
                    if packets:
                        return self._connect_of(packets)
                return None
        self._reason = "no CONNECT came"
        return None

    def _connect_of(self, packets: list[Packet | BadPacket]) -> Connect | None:
        first = packets[0]
        if isinstance(first, Connect):
            # A client may send more before the CONNACK.
            self._early = packets[1:]
            return first
        if isinstance(first, BadPacket) and first.reason == "protocol":
            self._write(ConnAck(ConnectCode.BAD_PROTOCOL).encode())
        self._reason = "it did not begin with a CONNECT"
        return None

    def _refuse(self, client_id: str, refusal: Refusal) -> None:
        self._reason = refusal.reason
        self._write(ConnAck(refusal.code).encode())
        self._front.hub.tell(
            LoginRefused(
                at=time.time(), client_id=client_id[:64], code=int(refusal.code), reason=refusal.reason
            )
        )

    # --- after it

    async def _serve(self, connect: Connect, login: Login, key: str) -> None:
        self.login = login
        if login.party == "device":
            self.queue = DeviceQueue(self._front.pace)
        self._keep_alive = connect.keep_alive * GRACE if connect.keep_alive else None
        # Keep-alive and wills stay here; who it is has been checked.
        upward = Connect(client_id=key, keep_alive=0, clean=True, protocol="MQTT", level=4)
        self._upstream.feed(upward.encode())
        downstream = Downstream(self.peer, self._broker_says, self._broker_closes)
        self._broker_task = asyncio.create_task(
            self._front.broker.external_connected(self._upstream, downstream, LISTENER)
        )
        self._front.hub.connected(self)
        if not self._handle(self._early):
            return
        while True:
            try:
                async with asyncio.timeout(self._keep_alive):
                    data = await self._reader.read(READ_SIZE)
            except TimeoutError:
                self._reason = "it was silent for longer than its keep-alive allows"
                return
            if not data or not self._handle(self._packets.feed(data)):
                return

    def _handle(self, packets: list[Packet | BadPacket]) -> bool:
        """Do what the client says; False ends the connection."""
        for packet in packets:
            if isinstance(packet, BadPacket):
                self._reason = f"it sent garbage: {packet.detail}"
                return False
            if isinstance(packet, Connect):
                self._reason = "it sent a second CONNECT"
                return False
            if isinstance(packet, Disconnect):
                self._reason = "the client said goodbye"
                return False
            self._packet(packet)
        return True

    def _packet(self, packet: Packet) -> None:
        if isinstance(packet, PingReq):
            if self.queue is not None:
                self.queue.pinged(self._now())
            self._answer(PingResp())
        elif isinstance(packet, Subscribe):
            self._subscribe(packet)
        elif isinstance(packet, Publish):
            self._publish(packet)
        elif isinstance(packet, PubRel) and packet.packet_id in self._forged:
            self._forged.discard(packet.packet_id)
            self._answer(PubComp(packet.packet_id))
        elif isinstance(packet, Unsubscribe):
            self._upstream.feed(packet.wire)
            self._front.hub.unsubscribed(self, packet.filters)
        else:
            self._upstream.feed(packet.wire)

    def _subscribe(self, packet: Subscribe) -> None:
        who = self._identity()
        allowed = [topics.may_subscribe(who, text) for text, _qos in packet.filters]
        if not any(allowed):
            self._answer(SubAck(packet.packet_id, bytes([mqtt31.FAILURE] * len(allowed))))
            return
        # A module is sent QoS 0 only, whatever it asks for (§7.3).
        device = self.queue is not None
        wanted = tuple(
            (text, 0 if device else qos)
            for (text, qos), good in zip(packet.filters, allowed, strict=True)
            if good
        )
        self._refused[packet.packet_id] = allowed
        self._asked[packet.packet_id] = tuple(text for text, _qos in wanted)
        self._upstream.feed(Subscribe(packet.packet_id, wanted).encode())

    def _publish(self, packet: Publish) -> None:
        if not topics.may_publish(self._identity(), packet.topic):
            did = self.login.did if self.login is not None else ""
            self._front.hub.tell(
                Dropped(at=time.time(), did=did, reason="a message to a topic that is not its own")
            )
            if packet.packet_id is not None and packet.qos == 1:
                self._answer(PubAck(packet.packet_id))
            elif packet.packet_id is not None:
                self._forged.add(packet.packet_id)
                self._answer(PubRec(packet.packet_id))
            return
        self._front.hub.published(self, packet)
        self._upstream.feed(packet.wire)

    def _identity(self) -> topics.Identity:
        if self.login is None:
            raise TypeError("nobody has logged in")
        return self.login.identity

    # --- what the broker says

    def _broker_says(self, data: bytes) -> None:
        for packet in self._from_broker.feed(data):
            if isinstance(packet, BadPacket):
                self._abort(f"the broker sent garbage: {packet.detail}")
            elif isinstance(packet, ConnAck):
                self._answer(dataclasses.replace(packet, session_present=0, wire=b""))
            elif isinstance(packet, SubAck):
                self._granted(packet)
            elif isinstance(packet, Publish) and self.queue is not None:
                self.send(
                    dataclasses.replace(packet, qos=0, packet_id=None, retain=False, dup=False, wire=b"")
                )
            else:
                self._answer(packet)

    def _granted(self, packet: SubAck) -> None:
        allowed = self._refused.pop(packet.packet_id, [True] * len(packet.codes))
        asked = self._asked.pop(packet.packet_id, ())
        codes = iter(packet.codes)
        merged = bytes(next(codes, mqtt31.FAILURE) if good else mqtt31.FAILURE for good in allowed)
        self._answer(SubAck(packet.packet_id, merged))
        granted = [text for text, code in zip(asked, packet.codes, strict=False) if code != mqtt31.FAILURE]
        self._front.hub.subscribed(self, granted)

    def _broker_closes(self) -> None:
        if self._main is not None:
            self._main.cancel()

    # --- what leaves

    def send(self, packet: Publish, *, key: str | None = None) -> None:
        """Queue a message for a device.

        :param key: Replaces a waiting message with the same key.
        """
        if self.queue is None or self.login is None:
            return
        refused = self.queue.put(packet, key=key)
        if refused is not None:
            self._front.hub.tell(Dropped(at=time.time(), did=self.login.did, reason=refused))
        self.pump()

    def _answer(self, packet: Packet) -> None:
        if self.queue is None:
            self._write(packet.wire or packet.encode())
            return
        self.queue.answer(packet)
        if self.queue.overflowing:
            self._abort("it does not read the answers")
            return
        self.pump()

    def pump(self) -> None:
        """Send what may leave now, and come back when the next may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.queue is None or self._done.is_set():
            return
        now = self._now()
        while (item := self.queue.take(now)) is not None:
            self._write(item.packet.wire or item.packet.encode())
            self._front.hub.sent(self, item)
        due = self.queue.next_timeout()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self.pump)

    def _write(self, data: bytes) -> None:
        if self._writer.transport.get_write_buffer_size() > WRITE_LIMIT:
            self._abort("it does not read")
            return
        self._writer.write(data)

    def _abort(self, reason: str) -> None:
        self._reason = reason
        if self._main is not None:
            self._main.cancel()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # --- the end

    async def _end(self, key: str | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._upstream.feed_eof()
        if self._broker_task is not None:
            await self._end_of_broker(self._broker_task)
        self._front.leave(self, key)
        if self.login is not None:
            self._front.hub.disconnected(self, self._reason)
        self._writer.close()
        self._done.set()

    async def _end_of_broker(self, task: asyncio.Task[None]) -> None:
        """The broker ends by itself when its client does; if it does not, it is ended."""
        done, _ = await asyncio.wait([task], timeout=2.0)
        if not done:
            task.cancel()
        await asyncio.wait([task])
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._front.hub.tell(Notice(at=time.time(), text=f"the broker failed: {failure}"))

"""One MQTT client, from its first byte to its last: what it says to the broker, and what it is sent."""

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
from sim.cloud.auth import Login, Refusal
from sim.cloud.broker import LISTENER, Downstream, Upstream, backlog, let_go
from sim.cloud.events import Dropped, LoginRefused, Notice, Origin
from sim.cloud.heartbeat import Heartbeat, Heartbeats
from sim.cloud.pacing import DeviceQueue
from sim.cloud.sockets import without_delay

if TYPE_CHECKING:
    from sim.cloud.mqtt_front import MqttFront

GRACE: Final = 1.5
"""A client may be silent for so many times its keep-alive (R1)."""
FIRST_LIMIT: Final = 4096
"""Bytes that a client may send before its CONNECT is complete."""
SUBSCRIBE_TIME: Final = 10.0
"""Seconds that a device which replaced its own connection has to subscribe, before it counts as off line."""
WRITE_LIMIT: Final = 256 * 1024
"""Bytes that wait for a client which does not read, before its connection is closed."""
MAX_FILTERS: Final = 64
"""Subscriptions of one client; one more is refused. Every message is compared with each of them."""
READ_SIZE: Final = 16 * 1024
BROKER_TIMES: Final = (0.02, 0.1, 0.4, 1.5)
"""Seconds that the broker has to let go of a client that is gone, and is told again after each."""
DELIVERY_TIME: Final = 2.0
"""Seconds that the broker has for what a client said last."""
IDLE_TURNS: Final = 50
"""Turns of the event loop without anything in the broker's queues, after which it is done. It needs a few to
carry a message from one queue to the next."""
_CLIENT: Final = Origin("client")
BREATH: Final = 0.005
"""Seconds until a client is read again that sent faster than the broker works."""


class ClientConnection:
    """One connection. Every end is the same: :meth:`stop` closes the socket, and :meth:`run` sees that."""

    def __init__(self, front: MqttFront, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._front, self._reader, self._writer = front, reader, writer
        without_delay(writer)
        self.login: Login | None = None
        self.key = ""
        """Its name among all clients; two connections with one name cannot be."""
        self._name = ""
        """Its client id in the broker."""
        self.queue: DeviceQueue | None = None
        """Devices only."""
        self._packets = PacketReader(mqtt31.FROM_CLIENT)
        self._from_broker = PacketReader(mqtt31.FROM_SERVER)
        self._upstream = Upstream()
        self._broker_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked: dict[int, list[tuple[str, bool]]] = {}
        """Packet id of a SUBSCRIBE → its filters, and whether the broker was asked for them."""
        self._filters: set[str] = set()
        self._forged: set[int] = set()
        """Packet ids of QoS 2 messages that were dropped."""
        self._reason: str | None = None
        self._replaced = False
        self._ended = asyncio.Event()
        self.keep_alive = 0
        """What its CONNECT announced, in seconds; 0: it may be silent for ever."""
        self._heartbeats = Heartbeats(self._now())

    @property
    def peer(self) -> tuple[str, int]:
        """Where the client is."""
        name = self._writer.get_extra_info("peername")
        return (str(name[0]), int(name[1])) if name else ("?", 0)

    @property
    def here(self) -> str:
        """The address at which the client reached this server."""
        name = self._writer.get_extra_info("sockname")
        return str(name[0]) if name else "127.0.0.1"

    @property
    def heartbeat(self) -> Heartbeat:
        """How it kept itself alive until now."""
        return self._heartbeats.summary(self._now())

    async def run(self) -> None:
        """Serve the client until it is gone, and the broker is done with it."""
        try:
            packets = await self._first()
            if packets is not None:
                await self._admit(packets)
        except OSError as error:
            self.stop(error.strerror or str(error))
        finally:
            await self._end()

    def stop(self, reason: str) -> None:
        """End the connection; the first reason counts."""
        if self._reason is None:
            self._reason = reason
        transport = self._writer.transport
        if transport.get_write_buffer_size():
            transport.abort()  # it does not read, so nothing more will reach it
        else:
            transport.close()

    def replace(self) -> None:
        """End the connection, because another one of the same client follows."""
        self._replaced = True
        self.stop("another connection took over")

    async def ended(self) -> None:
        """Wait until nothing is left of it, in the broker neither."""
        await self._ended.wait()

    # --- before the login

    async def _first(self) -> list[Packet | BadPacket] | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._front.connect_time):
                while data := await self._reader.read(FIRST_LIMIT):
                    packets = self._packets.feed(data)
                    if packets:
                        return packets
                    if self._packets.buffered > FIRST_LIMIT:
                        self.stop("its CONNECT is too long")
                        return None
                return None
        self.stop("no CONNECT came")
        return None

    async def _admit(self, packets: list[Packet | BadPacket]) -> None:
        """Check the CONNECT and serve whom it names."""
        connect, early = packets[0], packets[1:]
        if not isinstance(connect, Connect):
            if isinstance(connect, BadPacket) and connect.reason == "protocol":
                self._write(ConnAck(ConnectCode.BAD_PROTOCOL).encode())
            self.stop("it did not begin with a CONNECT")
            return
        login = self._front.gate.check(connect)
        if isinstance(login, Refusal):
            self._refuse(connect.client_id, login)
            return
        self.key = login.client_id if login.party == "device" else f"app:{login.did}:{login.client_id}"
        await self._front.admit(self, self.key)
        if self._reason is None:
            await self._serve(connect, login, early)

    def _refuse(self, client_id: str, refusal: Refusal) -> None:
        self._write(ConnAck(refusal.code).encode())
        self.stop(refusal.reason)
        self._front.hub.tell(
            LoginRefused(
                at=time.time(), client_id=client_id[:64], code=int(refusal.code), reason=refusal.reason
            )
        )

    # --- after it

    async def _serve(self, connect: Connect, login: Login, early: list[Packet | BadPacket]) -> None:
        self.login = login
        if login.party == "device":
            self.queue = DeviceQueue(self._front.pace)
        self.keep_alive, self._heartbeats = connect.keep_alive, Heartbeats(self._now())
        # Keep-alive and wills stay here; who it is has been checked. A name of its own for every connection:
        # amqtt cleans up after ended clients by name, also when somebody has come back under it meanwhile.
        self._name = f"{self.key}#{self._front.number()}"
        self._upstream.feed(Connect(self._name, keep_alive=0, clean=True, protocol="MQTT", level=4).encode())
        downstream = Downstream(self.peer, self._broker_says, self._broker_closes)
        self._broker_task = asyncio.create_task(
            self._front.broker.external_connected(self._upstream, downstream, LISTENER)
        )
        self._front.hub.connected(self)
        asyncio.get_running_loop().call_later(SUBSCRIBE_TIME, self._front.hub.overdue, self)
        self._handle(early)
        while self._reason is None:
            try:
                async with asyncio.timeout(self.keep_alive * GRACE or None):
                    data = await self._reader.read(READ_SIZE)
            except TimeoutError:
                self.stop("it was silent for longer than its keep-alive allows")
                return
            if not data:
                return
            self._handle(self._packets.feed(data))
            while self._reason is None and self._front.busy(self._name, self._upstream):  # noqa: ASYNC110 (amqtt tells nobody when it is done)
                await asyncio.sleep(BREATH)  # not read meanwhile: TCP slows the client down

    def _handle(self, packets: list[Packet | BadPacket]) -> None:
        """Do what the client says, until something ends the connection."""
        for packet in packets:
            if self._reason is not None:
                return
            if isinstance(packet, BadPacket):
                self.stop(f"it sent garbage: {packet.detail}")
            elif isinstance(packet, Connect):
                self.stop("it sent a second CONNECT")
            elif isinstance(packet, Disconnect):
                self.stop("the client said goodbye")
            else:
                self._packet(packet)

    def _packet(self, packet: Packet) -> None:
        if isinstance(packet, PingReq):
            self._heartbeats.beat(self._now())
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
            self._upstream.feed(packet.encode())  # MQTT 3.1 may set its DUP bit
            self._filters.difference_update(packet.filters)
            self._front.hub.unsubscribed(self, packet.filters)
        else:
            self._upstream.feed(packet.wire)

    def _subscribe(self, packet: Subscribe) -> None:
        who = self._identity()
        asked = [
            (text, topics.may_subscribe(who, text) and self._has_room(text)) for text, _qos in packet.filters
        ]
        wanted = tuple((text, 0) for text, allowed in asked if allowed)  # QoS 0, whatever it asks for (R14)
        if not wanted:
            self._answer(SubAck(packet.packet_id, bytes([mqtt31.FAILURE] * len(asked))))
            return
        self._asked[packet.packet_id] = asked
        self._upstream.feed(Subscribe(packet.packet_id, wanted).encode())

    def _has_room(self, text: str) -> bool:
        if text not in self._filters and len(self._filters) >= MAX_FILTERS:
            return False
        self._filters.add(text)
        return True

    def _publish(self, packet: Publish) -> None:
        if not topics.may_publish(self._identity(), packet.topic):
            self._drop(packet)
            return
        self._front.hub.published(self, packet)
        # Nothing is retained (§7.3): the broker would keep one message for every topic that can be named.
        clean = dataclasses.replace(packet, retain=False, wire=b"").encode() if packet.retain else packet.wire
        self._upstream.feed(clean)

    def _drop(self, packet: Publish) -> None:
        """A message to a topic of somebody else goes nowhere, and its sender is none the wiser."""
        did = self.login.did if self.login is not None else ""
        self._front.hub.tell(
            Dropped(at=time.time(), did=did, reason="a message to a topic that is not its own")
        )
        if packet.packet_id is not None and packet.qos == 1:
            self._answer(PubAck(packet.packet_id))
        elif packet.packet_id is not None:
            self._forged.add(packet.packet_id)
            self._answer(PubRec(packet.packet_id))

    def _identity(self) -> topics.Identity:
        if self.login is None:
            raise TypeError("nobody has logged in")
        return self.login.identity

    # --- what the broker says

    def _broker_says(self, data: bytes) -> None:
        for packet in self._from_broker.feed(data):
            if isinstance(packet, BadPacket):
                self.stop(f"the broker sent garbage: {packet.detail}")
            elif isinstance(packet, ConnAck):
                self._answer(dataclasses.replace(packet, session_present=0, wire=b""))
            elif isinstance(packet, SubAck):
                self._granted(packet)
            elif isinstance(packet, Publish) and self.queue is not None:
                self.send(packet)
            else:
                self._answer(packet)

    def _granted(self, packet: SubAck) -> None:
        asked = self._asked.pop(packet.packet_id, [])
        granted = iter(packet.codes)
        codes = [next(granted, mqtt31.FAILURE) if allowed else mqtt31.FAILURE for _text, allowed in asked]
        self._answer(SubAck(packet.packet_id, bytes(codes)))
        self._front.hub.subscribed(
            self, [text for (text, _), code in zip(asked, codes, strict=True) if code != mqtt31.FAILURE]
        )

    def _broker_closes(self) -> None:
        self.stop("the broker closed the connection")

    # --- what leaves

    def send(self, packet: Publish, *, key: str | None = None, origin: Origin = _CLIENT) -> str | None:
        """Queue a message for a device; returns why it was refused, or None.

        :param key: Replaces a waiting message with the same key.
        """
        if self.queue is None or self.login is None or self._reason is not None:
            return "its connection is about to end"
        refused = self.queue.put(packet, key=key, origin=origin)
        if refused is not None:
            self._front.hub.tell(Dropped(at=time.time(), did=self.login.did, reason=refused))
        self.pump()
        return refused

    def _answer(self, packet: Packet) -> None:
        if self.queue is None:
            self._write(packet.wire or packet.encode())
            return
        self.queue.answer(packet)
        if self.queue.overflowing:
            self.stop("it asks faster than it can be answered")
            return
        self.pump()

    def pump(self) -> None:
        """Send what may leave now, and come back when the next may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.queue is None or self._reason is not None or self._ended.is_set():
            return
        now = self._now()
        while (item := self.queue.take(now)) is not None:
            self._write(item.packet.wire or item.packet.encode())
            self._front.hub.sent(self, item)
        due = self.queue.next_timeout()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self.pump)

    def _write(self, data: bytes) -> None:
        if self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > WRITE_LIMIT:
            self.stop("it does not read")
            return
        self._writer.write(data)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # --- the end

    async def _end(self) -> None:
        self.stop("the client closed the connection")
        try:
            if self._timer is not None:
                self._timer.cancel()
            if self._broker_task is not None:
                await self._delivered(self._broker_task)
            self._upstream.feed_eof()
            if self._broker_task is not None:
                await self._end_of_broker(self._broker_task)
        finally:
            self._front.leave(self)
            self._ended.set()
            if self.login is not None:
                self._front.hub.disconnected(self, self._reason or "", replaced=self._replaced)

    async def _delivered(self, task: asyncio.Task[None]) -> None:
        """Let the broker distribute what a client said before it said goodbye.

        amqtt drops it otherwise: publishing and closing at once is what command line clients do.
        """
        idle = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DELIVERY_TIME):
                while idle < IDLE_TURNS and not task.done():
                    waiting = self._upstream.waiting or backlog(self._front.broker, self._name)
                    # Between two queues a message is in none. Turns of the loop are counted, not time: on a
                    # busy machine any time may pass within one turn.
                    idle = 0 if waiting else idle + 1
                    await asyncio.sleep(BREATH if waiting else 0)

    async def _end_of_broker(self, task: asyncio.Task[None]) -> None:
        """The broker ends by itself when its client does; if it does not, it is ended."""
        for seconds in BROKER_TIMES:
            await asyncio.wait([task], timeout=seconds)
            if task.done():
                break
            await let_go(self._front.broker, self._name)
        else:
            task.cancel()
            await asyncio.wait([task])
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._front.hub.tell(Notice(at=time.time(), text=f"the broker failed: {failure}"))

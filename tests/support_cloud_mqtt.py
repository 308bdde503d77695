"""Clients of the cloud's MQTT side over raw sockets: a plain one, and one that reads as field modules do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import ClassVar, TypeVar

from gizserial.m2m import frames, topics
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.mqtt31 import (
    FROM_SERVER,
    BadPacket,
    ConnAck,
    Connect,
    Packet,
    PacketReader,
    PingReq,
    Publish,
    SubAck,
    Subscribe,
)
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud.device import Device
from sim.cloud.pacing import Pace

PK = "0123456789abcdef" * 2
PASSCODE = "ABCDEFGHIJ"
PATIENCE = 20.0
"""Seconds after which a test that waits for a packet has failed."""
NO_PAUSE = Pace(gap=0.0, hold=0.0)

P = TypeVar("P", bound=Packet)


@contextlib.asynccontextmanager
async def running_cloud(*, pace: Pace | None = None, adopt: bool = False) -> AsyncIterator[EmbeddedCloud]:
    """A cloud in memory on free ports of this machine."""
    config = CloudConfig(http="127.0.0.1:0", mqtt=("127.0.0.1:0",), pace=pace or Pace(), adopt=adopt)
    async with EmbeddedCloud(config) as cloud:
        yield cloud
    for client in list(RawClient.left_open):
        await client.close()


def mqtt_port(cloud: EmbeddedCloud) -> int:
    return int(cloud.addresses["mqtt"].rpartition(":")[2])


def register(cloud: EmbeddedCloud, number: int = 1, passcode: str = PASSCODE) -> Device:
    """A device as if it had registered over HTTP."""
    return cloud.store.register(PK, f"00163E{number:06X}", passcode, is_reset=False, now=time.time())


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for what other tasks or machines do; a test that waits longer has failed."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


class RawClient:
    """One connection: packets out, packets in, nothing by itself."""

    left_open: ClassVar[set[RawClient]] = set()

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.left_open.add(self)
        self._reader, self._writer = reader, writer
        self._packets = PacketReader(FROM_SERVER)
        self._got: list[Packet] = []
        self._next_id = 0

    @classmethod
    async def open(cls, cloud: EmbeddedCloud) -> RawClient:
        return cls(*await asyncio.open_connection("127.0.0.1", mqtt_port(cloud)))

    def send(self, packet: Packet) -> None:
        self._writer.write(packet.encode())

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def next(self, patience: float = PATIENCE) -> Packet | None:
        """The next packet; None when the connection is closed."""
        async with asyncio.timeout(patience):
            while not self._got:
                try:
                    data = await self._reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                for packet in self._packets.feed(data):
                    assert not isinstance(packet, BadPacket), packet
                    self._got.append(packet)
        return self._got.pop(0)

    async def expect(self, kind: type[P]) -> P:
        packet = await self.next()
        assert isinstance(packet, kind), packet
        return packet

    async def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long and the connection stays."""
        try:
            await self.next(seconds)
        except TimeoutError:
            return True
        return False

    async def closed(self) -> bool:
        """Whether the server closes, reading on until it does."""
        while await self.next() is not None:
            pass
        return True

    async def login(self, connect: Connect) -> int:
        self.send(connect)
        return (await self.expect(ConnAck)).code

    async def subscribe(self, *filters: str, qos: int = 0) -> bytes:
        self._next_id += 1
        self.send(Subscribe(self._next_id, tuple((text, qos) for text in filters)))
        answer = await self.expect(SubAck)
        assert answer.packet_id == self._next_id
        return answer.codes

    async def ping(self) -> None:
        """Wait until the server has done everything that was sent before."""
        self.send(PingReq())
        while not (packet := await self.next()) or packet.type.name != "PINGRESP":
            assert packet is not None, "the connection is closed"

    async def close(self) -> None:
        self.left_open.discard(self)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def device_connect(device: Device, *, passcode: str = PASSCODE, keep_alive: int = 120) -> Connect:
    return Connect(device.did, device.did, passcode.encode(), keep_alive=keep_alive)


def app_connect(device: Device, client: str, *, passcode: str = PASSCODE) -> Connect:
    return Connect(client, device.did, passcode.encode(), protocol="MQTT", level=4)


async def online_device(cloud: EmbeddedCloud, device: Device) -> RawClient:
    """A device with its three subscriptions."""
    client = await RawClient.open(cloud)
    assert await client.login(device_connect(device)) == 0
    for topic in topics.module_subscriptions(device.did, PK):
        assert await client.subscribe(topic) == b"\x00"
    return client


async def app_for(cloud: EmbeddedCloud, device: Device, client_id: str = "usrApp") -> RawClient:
    """An app that hears everything of its device."""
    client = await RawClient.open(cloud)
    assert await client.login(app_connect(device, client_id)) == 0
    assert await client.subscribe(f"dev2app/{device.did}/#") == b"\x00"
    return client


class FieldModule:
    """Reads once and executes the first packet of what it got, as the vendor's firmware does (observed.md).

    :param busy: Seconds that its MCU takes for an ack; it does not read meanwhile.
    :param deaf: Seconds after the last SUBACK for which it ignores every PUBLISH.
    :param tick: Seconds after the last SUBACK at which it pings for the first time and hears from then on;
        None: never.
    """

    def __init__(
        self, device: Device, *, busy: float = 0.03, deaf: float = 1.2, tick: float | None = None
    ) -> None:
        self.device, self._busy, self._deaf, self._tick = device, busy, deaf, tick
        self.executed: list[bytes] = []
        self.lost: list[Packet] = []
        """Packets that were thrown away: glued to another one, or while it was deaf."""
        self.counts: list[int] = []
        """App counts it was told (0210)."""
        self.subscribed = asyncio.Event()
        self._sock = socket.socket()
        self._sock.setblocking(False)

    async def run(self, cloud: EmbeddedCloud) -> None:
        """Live until cancelled or disconnected."""
        loop = asyncio.get_running_loop()
        with self._sock:
            await loop.sock_connect(self._sock, ("127.0.0.1", mqtt_port(cloud)))
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert await self._ask(device_connect(self.device)) == ConnAck()
            for number, topic in enumerate(topics.module_subscriptions(self.device.did, PK), start=1):
                assert await self._ask(Subscribe(number, ((topic, 0),))) == SubAck(number, b"\x00")
            since = loop.time()
            self.subscribed.set()
            hears = since + self._deaf
            pinger = (
                asyncio.create_task(self._ping_at(since + self._tick)) if self._tick is not None else None
            )
            try:
                while (packet := await self._receive()) is not None:
                    if self._tick is not None:
                        hears = min(hears, since + self._tick)
                    if isinstance(packet, Publish):
                        await self._take(packet, deaf=loop.time() < hears)
            finally:
                if pinger is not None:
                    pinger.cancel()

    async def publish(self, topic: str, frame: BusinessFrame) -> None:
        """Say something without being asked."""
        await self._send(Publish(topic, frame.encode()))

    async def _ping_at(self, when: float) -> None:
        await asyncio.sleep(when - asyncio.get_running_loop().time())
        await self._send(PingReq())

    async def _take(self, packet: Publish, *, deaf: bool) -> None:
        topic = topics.parse_topic(packet.topic)
        if deaf or topic is None:
            self.lost.append(packet)
        elif topic.kind is topics.TopicKind.SER2CLI_RES:
            message = frames.decode_control(packet.payload)
            assert isinstance(message, frames.AppCount)
            self.counts.append(message.count)
        elif topic.client is not None:
            frame = BusinessFrame.decode(packet.payload)
            assert isinstance(frame, BusinessFrame)
            await asyncio.sleep(self._busy)
            self.executed.append(frame.payload)
            if frame.sn is not None:
                ack = BusinessFrame(frames.ACK, b"", frame.sn)
                await self._send(Publish(topics.dev2app(self.device.did, topic.client), ack.encode()))
            report = BusinessFrame(frames.REPORT, b"\x04" + frame.payload[1:])
            await self._send(Publish(topics.dev2app(self.device.did), report.encode()))

    async def _ask(self, packet: Packet) -> Packet | None:
        await self._send(packet)
        return await self._receive()

    async def _send(self, packet: Packet) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, packet.encode())

    async def _receive(self) -> Packet | None:
        """One ``recv``: its first packet; what else it holds is lost."""
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._sock, 1024)
            if not data:
                return None
            packets = PacketReader(FROM_SERVER).feed(data)
            good = [packet for packet in packets if not isinstance(packet, BadPacket)]
            self.lost += good[1:]
            if good:
                return good[0]

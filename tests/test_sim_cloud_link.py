"""The module's connections, against servers on real sockets that answer badly or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import h11
import pytest
from support_io import eventually
from support_m2m import DID, MAC, PK, entropy

from gizserial.io.driver import MonotonicClock
from gizserial.m2m import http_cloud
from gizserial.m2m.effects import CloseMqtt, CloudLost, Effect, OpenMqtt, SendMqtt, Trace
from gizserial.m2m.http import HttpRequest, Purpose, Server
from gizserial.m2m.identity import Identity
from gizserial.m2m.mqtt31 import FROM_CLIENT, ConnAck, Connect, PacketReader, SubAck, Subscribe
from gizserial.m2m.session import CloudSession
from sim import cloud_link
from sim.cloud_link import MAX_ANSWER, Answer, CloudLink, ask

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(peer: Peer) -> AsyncIterator[Server]:
    """Something that listens, for as long as the block lasts."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await peer(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield Server("127.0.0.1", listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(*pieces: bytes, then_wait: bool = False) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if then_wait:
            await asyncio.Event().wait()

    return peer


def request(where: Server) -> HttpRequest:
    raw = b"GET /dev/devices/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    return HttpRequest(Purpose.PROVISION, where, "GET", "/dev/devices/x", raw)


async def asked(peer: Peer) -> Answer:
    async with server(peer) as where, asyncio.timeout(20):
        return await ask(request(where))


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    "pieces",
    [
        (GOOD,),
        tuple(bytes([byte]) for byte in GOOD),
        (b"HTTP/1.1 100 Continue\r\n\r\n", GOOD),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nhe\r\n3\r\nl", b"lo\r\n0\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\nhel", b"lo"),
        (GOOD + b"and more",),
    ],
)
async def test_an_answer_in_any_pieces(pieces: tuple[bytes, ...]) -> None:
    assert await asked(says(*pieces)) == Answer(200, b"hello")


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTT",),
        (GOOD[:-1],),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n",),
        (bytes(range(256)) * 4,),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * (2 * MAX_ANSWER),),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",),
    ],
)
async def test_what_is_no_answer_is_a_protocol_error(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
        await asked(says(*pieces))


async def test_an_answer_that_never_ends_is_cut_off() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(4096))
            await writer.drain()

    with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
        await asked(peer)


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "a\0b", "ä" * 70])
async def test_a_host_that_is_no_name_is_a_failed_connection(host: str) -> None:
    with pytest.raises(OSError, match="no address"):
        await cloud_link._connect(host, 80)
    with pytest.raises(OSError, match="no address"):
        await cloud_link._connect("127.0.0.1", 1 << 40)


# --- the link


class Running:
    """A link with its session, and all that it told."""

    def __init__(self, where: Server, store: Callable[[Identity], None] | None = None) -> None:
        self.clock = MonotonicClock()
        self.told: list[Effect] = []
        self.stored: list[Identity] = []
        self.session = CloudSession(Identity(mac=MAC), where, entropy=entropy)
        self.link = CloudLink(
            self.session, self.clock, store=store or self.stored.append, on_effect=self.told.append
        )

    async def play(self, until: Callable[[], object]) -> None:
        """Boot, and run until something is so."""
        now = self.clock.now()
        self.session.start(now)
        self.session.product(PK, now)
        self.session.router_up(now)
        running = asyncio.create_task(self.link.run())
        try:
            await eventually(lambda: until() or running.done())
            if running.done():
                await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def traces(self) -> str:
        return "\n".join(effect.text for effect in self.told if isinstance(effect, Trace))


def api(mqtt: Server) -> Peer:
    """Registers everybody and names this MQTT server."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            status, body = b"201 Created", http_cloud.register_answer(DID, None)
        elif b"sdk" in head or b"ota" in head.lower():
            status, body = b"404 Not Found", "{}"
        else:
            status = b"200 OK"
            body = http_cloud.provision_answer(mqtt.host, mqtt.port, 1_760_000_000)
        raw = body.encode()
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(raw)) + raw)
        await writer.drain()

    return peer


async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    packets = PacketReader(FROM_CLIENT)
    while data := await reader.read(4096):
        for packet in packets.feed(data):
            if isinstance(packet, Connect):
                writer.write(ConnAck(0).encode())
            elif isinstance(packet, Subscribe):
                writer.write(SubAck(packet.packet_id, b"\0").encode())


async def test_the_identity_is_stored_before_it_is_told_and_the_session_comes_up() -> None:
    async with server(broker) as mqtt, server(api(mqtt)) as where:
        running = Running(where)
        await running.play(lambda: running.session.connected)
    assert running.stored[-1].did == DID
    assert not any(isinstance(effect, OpenMqtt | SendMqtt | CloseMqtt) for effect in running.told)


async def test_nobody_listens() -> None:
    async with server(broker) as gone:
        pass
    running = Running(gone)
    await running.play(lambda: "register failed" in running.traces())


async def test_mqtt_server_that_closes_at_once_is_tried_again() -> None:
    tries = 0

    async def peer(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1

    async with server(peer) as mqtt, server(api(mqtt)) as where:
        running = Running(where)
        await running.play(lambda: tries >= 2)
    assert not running.session.connected


async def test_mqtt_garbage_is_a_lost_connection() -> None:
    closed = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        await reader.read(1)
        writer.write(bytes(range(256)) * 8)
        await writer.drain()
        with contextlib.suppress(OSError):
            await reader.read()
        closed += 1

    async with server(peer) as mqtt, server(api(mqtt)) as where:
        running = Running(where)
        await running.play(lambda: closed >= 2)
    assert not running.session.connected


async def test_an_mqtt_address_that_is_no_name_does_not_end_the_link() -> None:
    async with server(api(Server("a..b", 1883))) as where:
        running = Running(where)
        await running.play(lambda: "no address" in running.traces())


async def test_a_server_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_link, "WRITE_LIMIT", 4096)

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packets = PacketReader(FROM_CLIENT)
        subscribed = 0
        while subscribed < 3:
            for packet in packets.feed(await reader.read(4096)):
                if isinstance(packet, Connect):
                    writer.write(ConnAck(0).encode())
                elif isinstance(packet, Subscribe):
                    subscribed += 1
                    writer.write(SubAck(packet.packet_id, b"\0").encode())
        await asyncio.Event().wait()

    async with server(peer) as mqtt, server(api(mqtt)) as where:
        running = Running(where)

        def flooded() -> bool:
            for _ in range(200):
                running.session.publish_report(b"\x04" + bytes(60_000), running.clock.now())
                running.link.pump()
            return any(isinstance(effect, CloudLost) for effect in running.told)

        await running.play(flooded)
    assert "does not read" in next(effect.reason for effect in running.told if isinstance(effect, CloudLost))


async def test_an_identity_that_cannot_be_stored_ends_the_link_and_nothing_is_sent() -> None:
    calls = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await api(Server("127.0.0.1", 1))(reader, writer)

    def store(identity: Identity) -> None:
        if identity.did:
            raise OSError(28, "No space left on device")

    async with server(peer) as where:
        running = Running(where, store)
        with pytest.raises(OSError, match="No space left"):
            await running.play(lambda: False)
    assert calls == 1, "registered, and nothing that depends on the did"


async def test_an_error_in_what_mqtt_brought_ends_the_link_instead_of_counting_as_a_lost_connection() -> None:
    async with server(broker) as mqtt, server(api(mqtt)) as where:
        running = Running(where)

        def told(effect: Effect) -> None:
            if type(effect).__name__ == "CloudConnected":
                raise BrokenPipeError(32, "Broken pipe")

        running.link._on_effect = told
        with pytest.raises(BrokenPipeError):
            await running.play(lambda: False)


async def test_closing_the_link_closes_its_connections() -> None:
    closed = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await broker(reader, writer)
        closed.set()

    async with server(peer) as mqtt, server(api(mqtt)) as where:
        running = Running(where)
        await running.play(lambda: running.session.connected)
        async with asyncio.timeout(20):
            await closed.wait()
    assert cast("object", running.link._mqtt) is None

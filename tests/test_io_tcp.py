"""``tcp-listen:``: real sockets on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from support_io import EVERY_BYTE, Recorder, eventually

from gizserial.errors import TransportError
from gizserial.io.base import Back, Data, Lost, Notice, Overflow
from gizserial.io.ports import open_port
from gizserial.io.tcp import TcpListenPort


@pytest.fixture
async def port() -> AsyncIterator[tuple[TcpListenPort, Recorder]]:
    transport, recorder = TcpListenPort("", 0, write_limit=100_000), Recorder()
    await transport.open(recorder)
    yield transport, recorder
    await transport.close()


def number(port: TcpListenPort) -> int:
    return int(port.name.rpartition(":")[2])


async def connect(port: TcpListenPort) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", number(port))


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_one_peer_after_the_other(port: tuple[TcpListenPort, Recorder]) -> None:
    transport, recorder = port
    transport.write(b"nobody hears this")
    for times in (1, 2):
        reader, writer = await connect(transport)
        await recorder.up(times)
        transport.write(EVERY_BYTE)
        assert await reader.readexactly(256) == EVERY_BYTE
        writer.write(EVERY_BYTE)
        await recorder.bytes_came(256 * times)
        await transport.drain()
        await leave(writer)
        await recorder.down(times)
    assert recorder.data == EVERY_BYTE * 2
    kinds = [type(event) for event in recorder.events if not isinstance(event, Data)]
    assert kinds == [Back, Lost, Back, Lost]
    assert "disconnected; waiting for the next" in recorder.of(Lost)[0].reason


async def test_a_second_peer_is_turned_away(port: tuple[TcpListenPort, Recorder]) -> None:
    transport, recorder = port
    reader, writer = await connect(transport)
    await recorder.up()
    second, second_writer = await connect(transport)
    await recorder.until(lambda: recorder.count(Notice))
    assert "was turned away, a peer is connected already" in recorder.of(Notice)[0].text
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await second.readexactly(1)
    second_writer.close()
    transport.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    await leave(writer)


async def test_a_peer_that_does_not_read_is_reported_once(port: tuple[TcpListenPort, Recorder]) -> None:
    transport, recorder = port
    reader, writer = await connect(transport)
    await recorder.up()
    writes = 0
    while writes < 5000 and recorder.count(Overflow) == 0:
        transport.write(bytes(10_000))
        writes += 1
        await asyncio.sleep(0)
    for _ in range(10):
        transport.write(bytes(10_000))
    assert recorder.of(Overflow) == [Overflow(10_000)]
    await reader.readexactly((writes - 1) * 10_000)
    await transport.drain()
    transport.write(b"again")
    assert (await reader.read(5)) == b"again"
    await leave(writer)


async def test_closing_does_not_wait_for_a_dead_peer() -> None:
    transport, recorder = TcpListenPort("127.0.0.1", 0), Recorder()
    await transport.open(recorder)
    with socket.create_connection(("127.0.0.1", number(transport))):
        await recorder.up()
        while recorder.count(Overflow) == 0:
            transport.write(bytes(60_000))
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await transport.close()
    assert recorder.count(Lost) == 0, "closing is silent"


async def test_what_was_written_last_arrives() -> None:
    transport, recorder = TcpListenPort("127.0.0.1", 0), Recorder()
    await transport.open(recorder)
    reader, writer = await connect(transport)
    await recorder.up()
    transport.write(b"goodbye")
    await transport.close()
    assert await reader.read() == b"goodbye"
    await leave(writer)


async def test_a_paused_reader(port: tuple[TcpListenPort, Recorder]) -> None:
    transport, recorder = port
    transport.pause_reading()
    _reader, writer = await connect(transport)
    await recorder.up()
    writer.write(b"later")
    await writer.drain()
    await asyncio.sleep(0.02)
    assert recorder.data == b""
    transport.resume_reading()
    assert await recorder.bytes_came(5) == b"later"
    await leave(writer)


async def test_the_default_is_the_loopback_and_the_real_port_is_told() -> None:
    transport = open_port("tcp-listen::0")
    assert transport.name == "tcp-listen:127.0.0.1:0"
    await transport.open(Recorder())
    assert transport.name.startswith("tcp-listen:127.0.0.1:")
    assert transport.other_end == transport.name.replace("tcp-listen:", "socket://")
    assert not transport.name.endswith(":0")
    await transport.close()


async def test_other_end_is_a_port_again() -> None:
    listening, connecting = open_port("tcp-listen:localhost:0"), Recorder()
    here = Recorder()
    await listening.open(here)
    assert listening.other_end is not None
    client = open_port(listening.other_end)
    await client.open(connecting)
    await here.up()
    listening.write(EVERY_BYTE)
    assert await connecting.bytes_came(256) == EVERY_BYTE
    client.write(EVERY_BYTE)
    assert await here.bytes_came(256) == EVERY_BYTE
    await client.close()
    await here.down()
    await listening.close()


async def test_ipv6() -> None:
    transport, recorder = open_port("tcp-listen:[::1]:0"), Recorder()
    try:
        await transport.open(recorder)
    except TransportError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    assert transport.other_end is not None
    assert transport.other_end.startswith("socket://[::1]:")
    reader, writer = await asyncio.open_connection("::1", int(transport.name.rpartition(":")[2]))
    await recorder.up()
    transport.write(b"six")
    assert await reader.readexactly(3) == b"six"
    await leave(writer)
    await transport.close()


async def test_a_port_in_use(port: tuple[TcpListenPort, Recorder]) -> None:
    busy = number(port[0])
    transport = TcpListenPort("127.0.0.1", busy)
    with pytest.raises(TransportError, match=f"port {busy} is in use by another program; choose another"):
        await transport.open(Recorder())
    await transport.close()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("a" * 70 + ".invalid", "there is no host called aaa"),
        ("198.51.100.7", "198.51.100.7 is no address of this machine"),
    ],
)
async def test_hosts_that_cannot_be_listened_on(host: str, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        await TcpListenPort(host, 0).open(Recorder())


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(TransportError, match=r"there is no host called board\.lan; use 127\.0\.0\.1"):
        await TcpListenPort("board.lan", 0).open(Recorder())


async def test_the_port_is_free_after_closing() -> None:
    first = TcpListenPort("127.0.0.1", 0)
    await first.open(Recorder())
    again = TcpListenPort("127.0.0.1", number(first))
    reader, writer = await connect(first)
    await first.close()
    await again.open(Recorder())
    await again.close()
    assert await reader.read() == b""
    await leave(writer)
    await eventually(lambda: not again.connected)


@pytest.mark.parametrize(
    "text",
    ["tcp-listen:", "tcp-listen:1.2.3.4", "tcp-listen:h:99999", "tcp-listen:::1:5", "tcp-listen://h:5"],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(
        TransportError, match=r"needs a host and a port from 0 to 65535, as in tcp-listen:127"
    ):
        open_port(text)

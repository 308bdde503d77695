"""Ports of pyserial: a pseudo-terminal stands for the device, sockets and ``loop://`` for the URLs."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serial
from serial.rfc2217 import PortManager
from serial.tools import list_ports
from support_io import AWKWARD, EVERY_BYTE, Recorder, eventually

from gizserial.errors import TransportError
from gizserial.io import ports
from gizserial.io import serial as serial_port
from gizserial.io.base import Back, Data, Lost, Overflow
from gizserial.io.pace import PacedPort
from gizserial.io.ports import open_port
from gizserial.io.pumps import in_thread
from gizserial.io.serial import SerialPort, explain, open_device

posix_only = pytest.mark.skipif(
    os.name != "posix", reason="the device is a pseudo-terminal, which Windows does not have"
)
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux reports a hang-up of a pseudo-terminal as that of an adapter"
)
both_ways = pytest.mark.parametrize("threads", [False, True], ids=["descriptor", "threads"])


class Board:
    """The device: the master of a pseudo-terminal, which the system makes with echo and line by line."""

    def __init__(self, link: Path | None = None) -> None:
        self.fd, slave = os.openpty()
        self.name = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self.fd, False)
        self.link = link
        if link is not None:
            link.symlink_to(self.name)

    def write(self, data: bytes) -> None:
        assert os.write(self.fd, data) == len(data)

    def read_now(self) -> bytes:
        try:
            return os.read(self.fd, 65536)
        except BlockingIOError:
            return b""

    async def read(self, size: int) -> bytes:
        data = bytearray()

        def enough() -> bool:
            data.extend(self.read_now())
            return len(data) >= size

        await eventually(enough)
        return bytes(data)

    def unplug(self) -> None:
        if self.link is not None:
            self.link.unlink()
        os.close(self.fd)
        self.fd = -1


@pytest.fixture
def board() -> Iterator[Board]:
    device = Board()
    yield device
    if device.fd >= 0:
        os.close(device.fd)


@pytest.fixture
def no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", list)


@posix_only
@both_ways
async def test_every_byte_passes_both_ways_and_nothing_is_echoed(board: Board, threads: bool) -> None:
    port, recorder = SerialPort(board.name, threads=threads), Recorder()
    await port.open(recorder)
    assert port.connected
    assert port.other_end is None
    board.write(EVERY_BYTE + AWKWARD)
    assert await recorder.bytes_came(270) == EVERY_BYTE + AWKWARD
    port.write(AWKWARD + EVERY_BYTE)
    await port.drain()
    assert await board.read(270) == AWKWARD + EVERY_BYTE
    for value in EVERY_BYTE:
        port.write(bytes([value]))
    assert await board.read(256) == EVERY_BYTE
    await asyncio.sleep(0.01)
    assert (board.read_now(), len(recorder.data)) == (b"", 270)
    await port.close()
    await port.close()


@linux_only
@both_ways
async def test_unplugged_and_plugged_in_again(tmp_path: Path, threads: bool) -> None:
    link = tmp_path / "ttyUSB0"
    board = Board(link)
    port, recorder = SerialPort(str(link), reopen_interval=0.02, threads=threads), Recorder()
    await port.open(recorder)
    for times in (1, 2):
        board.unplug()
        await recorder.down(times)
        assert recorder.of(Lost)[-1].reason.startswith(f"{link} went away")
        port.write(b"into the void")
        await asyncio.sleep(0.1)  # several attempts to open it
        board = Board(link)
        await recorder.up(times + 1)
        board.write(b"back")
        await recorder.bytes_came(4 * times)
        port.write(b"welcome")
        assert await board.read(7) == b"welcome"
    kinds = [type(event) for event in recorder.events if not isinstance(event, Data)]
    assert kinds == [Back, Lost, Back, Lost, Back], "each is reported once"
    await port.close()
    board.unplug()


@linux_only
@both_ways
async def test_closing_while_it_is_away(tmp_path: Path, threads: bool) -> None:
    board = Board(tmp_path / "port")
    port, recorder = SerialPort(str(tmp_path / "port"), threads=threads), Recorder()
    await port.open(recorder)
    board.unplug()
    await recorder.down()
    async with asyncio.timeout(20):
        await port.close()
    await eventually(lambda: pumping() == [])


def pumping() -> list[str]:
    """Threads of pumps that have not ended."""
    return [t.name for t in threading.enumerate() if t.name.startswith("gizserial pump")]


@posix_only
@both_ways
async def test_a_device_that_does_not_read_is_reported_once(board: Board, threads: bool) -> None:
    port, recorder = SerialPort(board.name, write_limit=10_000, threads=threads), Recorder()
    await port.open(recorder)
    for number in range(100):
        port.write(bytes([number]) * 1000)
    assert recorder.of(Overflow) == [Overflow(1000)]
    got = bytearray()

    def all_read() -> bool:
        got.extend(board.read_now())
        return not port._waiting

    await eventually(all_read)
    await port.drain()
    await eventually(lambda: all_read() and len(got) % 1000 == 0)
    assert len(got) >= 10_000
    assert all(got[at : at + 1000] == got[at : at + 1] * 1000 for at in range(0, len(got), 1000))
    port.write(b"again")
    assert await board.read(5) == b"again"
    await port.close()


@posix_only
@both_ways
async def test_closing_does_not_wait_for_a_device_that_does_not_read(board: Board, threads: bool) -> None:
    port = SerialPort(board.name, threads=threads)
    await port.open(Recorder())
    port.write(bytes(60_000))
    async with asyncio.timeout(20):
        await port.close()
    await eventually(lambda: pumping() == [])


@posix_only
@both_ways
async def test_a_paused_reader_leaves_bytes_with_the_system(board: Board, threads: bool) -> None:
    port, recorder = SerialPort(board.name, threads=threads), Recorder()
    port.pause_reading()
    await port.open(recorder)
    board.write(b"x" * 3000)
    await asyncio.sleep(0.02)
    assert recorder.data == b""
    port.resume_reading()
    assert await recorder.bytes_came(3000) == b"x" * 3000
    port.pause_reading()
    await asyncio.sleep(0.2)  # longer than a read of the thread lasts
    board.write(b"y" * 3000)
    await asyncio.sleep(0.02)
    port.resume_reading()
    assert await recorder.bytes_came(6000) == b"x" * 3000 + b"y" * 3000
    await port.close()


async def test_loop_url() -> None:
    port, recorder = open_port("loop://"), Recorder()
    await port.open(recorder)
    port.write(EVERY_BYTE)
    assert await recorder.bytes_came(256) == EVERY_BYTE
    await port.drain()
    await port.close()
    assert [type(event) for event in recorder.events if not isinstance(event, Data)] == [Back]


@pytest.fixture
async def server() -> AsyncIterator[asyncio.Server]:
    """Echoes until it gets a ``q``."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(1000)) and data != b"q":
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server


def number(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def test_socket_url_and_its_return(server: asyncio.Server) -> None:
    port, recorder = SerialPort(f"socket://127.0.0.1:{number(server)}", reopen_interval=0.02), Recorder()
    await port.open(recorder)
    port.write(EVERY_BYTE * 20)
    assert await recorder.bytes_came(5120) == EVERY_BYTE * 20
    port.write(b"q")
    await recorder.down()
    await recorder.up(2)
    port.write(b"hello again")
    assert await recorder.bytes_came(5131) == EVERY_BYTE * 20 + b"hello again"
    await port.close()


def rfc2217_server(listener: socket.socket) -> None:
    """pyserial's own server, before a ``loop://``: echoes."""
    connection, _ = listener.accept()
    device: Any = serial.serial_for_url("loop://", timeout=0)  # the stubs want a client's port
    answers: Any = SimpleNamespace(write=connection.sendall)
    manager = PortManager(device, answers)
    with connection, device:
        while data := connection.recv(1000):
            device.write(b"".join(manager.filter(data)))
            connection.sendall(b"".join(manager.escape(device.read(1000))))


@pytest.mark.filterwarnings("ignore:set(Daemon|Name).. is deprecated:DeprecationWarning")  # in pyserial
async def test_rfc2217_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=rfc2217_server, args=(listener,), daemon=True)
        thread.start()
        port, recorder = (
            open_port(f"rfc2217://127.0.0.1:{listener.getsockname()[1]}", baud=115200),
            Recorder(),
        )
        await port.open(recorder)
        port.write(EVERY_BYTE)
        assert await recorder.bytes_came(256) == EVERY_BYTE
        await port.close()
        await eventually(lambda: not thread.is_alive())


async def refused(text: str, *, pace: bool = False) -> str:
    """The sentence that the user reads."""
    port = open_port(text, pace=pace)
    with pytest.raises(TransportError) as caught:
        await port.open(Recorder())
    assert not port.connected
    await port.close()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "Errno" not in sentence
    return sentence


@pytest.mark.usefixtures("no_ports")
async def test_a_missing_port(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "/dev/ttyNONE7" if os.name == "posix" else "COM77"
    assert await refused(missing) == (
        f"{missing}: there is no such port; no serial port is connected (pty: makes a virtual one)"
    )
    found = [
        SimpleNamespace(device="/dev/ttyUSB1", description="CP2102 USB to UART"),
        SimpleNamespace(device="/dev/ttyACM0", description="n/a"),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    assert await refused(missing, pace=True) == (
        f"{missing}: there is no such port; there are: /dev/ttyACM0, /dev/ttyUSB1 (CP2102 USB to UART)"
    )


@posix_only
async def test_a_port_in_use(board: Board) -> None:
    first = SerialPort(board.name)
    await first.open(Recorder())
    assert "the port is in use by another program; close that first" in await refused(board.name)
    await first.close()
    second = SerialPort(board.name)
    await second.open(Recorder())
    await second.close()


@posix_only
async def test_what_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for name in (tmp_path, tmp_path / "file", tmp_path / "file" / "x", Path("/dev/null")):
        assert await refused(str(name)) == f"{name}: this is not a serial port"
    assert (tmp_path / "file").read_text() == "precious"


async def test_urls_that_are_none() -> None:
    assert "there is no kind of port called foo://" in await refused("foo://bar")
    for url in (
        "socket://host",
        "socket://",
        "socket://:5",
        "rfc2217://h:x",
        "socket://h:99999",
        "socket://h:0",
    ):
        assert "this needs a host and a port from 1 to 65535, as in " in await refused(url)
    assert "pyserial does not understand this URL" in await refused("loop://?nonsense=1")


async def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    for scheme in ("socket", "rfc2217"):
        sentence = await refused(f"{scheme}://127.0.0.1:{free}")
        assert f"nobody answers at 127.0.0.1:{free} (" in sentence
        assert "refused" in sentence


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("/dev/x", serial.SerialException(errno.EACCES, "denied"), "permission denied; check who owns it"),
        (
            "/dev/ttyS9",
            serial.SerialException("Could not configure port: (5, 'Input/output error')"),
            "there is no hardware behind this name; no serial port is connected (pty: makes a virtual one)",
        ),
        (
            "COM9",
            serial.SerialException("could not open port 'COM9': FileNotFoundError(2, 'not found', None, 2)"),
            "there is no such port; no serial port is connected (pty: makes a virtual one)",
        ),
        (
            "COM3",
            serial.SerialException("could not open port 'COM3': PermissionError(13, 'denied', None, 5)"),
            "the port is in use by another program; close that first",
        ),
        (
            "/dev/x",
            ValueError("Failed to set custom baud rate"),
            "it cannot run at 123 baud; choose another --baud",
        ),
        ("/dev/x", OSError(errno.ENOMEM, "Out of memory"), "it cannot be opened (Out of memory)"),
        (
            "rfc2217://h:1",
            serial.SerialException("Remote does not seem to support RFC2217 or BINARY mode []"),
            "h:1 answers, but not as an RFC 2217 server; a plain one is socket://h:1",
        ),
    ],
)
@pytest.mark.usefixtures("no_ports")
def test_reasons(name: str, error: Exception, sentence: str) -> None:
    """Errors as pyserial words them on systems and devices that are not at hand."""
    assert explain(name, error, baud=123) == sentence


@posix_only
def test_no_permission_names_the_group(tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB0"
    device.touch()
    device.chmod(0o660)
    group = device.group()
    sentence = explain(str(device), PermissionError(errno.EACCES, "denied"), baud=9600)
    if group == "root":
        assert sentence == "permission denied; check who owns it"
    else:
        assert f"it belongs to the group {group}: run 'sudo usermod -aG {group} $USER'" in sentence


async def test_a_cancelled_open_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    go, closed = threading.Event(), threading.Event()

    class Device:
        def close(self) -> None:
            closed.set()

    def slow(_name: str, **_: object) -> Device:
        go.wait(10)
        return Device()

    monkeypatch.setattr(serial_port, "open_device", slow)
    opening = asyncio.create_task(SerialPort("/dev/slow").open(Recorder()))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go.set()
    await eventually(closed.is_set)


async def test_in_thread_carries_results_and_errors() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(LookupError, match="lost"):
        await in_thread(lambda: dict[str, int]()["lost"])


def test_forms_of_ports() -> None:
    assert isinstance(open_port("COM3"), SerialPort)
    assert isinstance(open_port(r"\\.\COM12"), SerialPort)
    assert isinstance(open_port("/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0"), SerialPort)
    assert isinstance(open_port("loop://", pace=True), PacedPort)
    assert open_port("/dev/ttyUSB0", pace=True).name == "/dev/ttyUSB0"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the port is empty; it is one of /dev/ttyUSB0"),
        (" ", "the port is empty"),
        ("a\0b", "no zero byte"),
        ("socket:host:4000", r"did you mean socket://host:4000\?"),
        ("loop:", r"did you mean loop://\?"),
        ("udp:1.2.3.4:5", "there is no such form of port; a port is one of"),
        ("pty://x", "there is no such form of port"),
    ],
)
def test_forms_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        open_port(text)


@pytest.mark.parametrize("baud", [0, -1, ports.MAX_BAUD + 1])
def test_baud_rates_that_are_none(baud: int) -> None:
    with pytest.raises(TransportError, match="is no baud rate; usual are 9600 and 115200"):
        open_port("loop://", baud=baud)


@posix_only
def test_settings_of_a_real_port(board: Board) -> None:
    device = open_device(board.name, baud=19200)
    assert (device.baudrate, device.bytesize, device.parity, device.stopbits) == (19200, 8, "N", 1)
    assert not device.xonxoff
    assert not device.rtscts
    begin = time.monotonic()
    assert device.read(1) == b""
    assert time.monotonic() - begin < 5, "reading ends by itself"
    device.close()

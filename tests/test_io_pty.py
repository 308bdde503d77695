"""``pty:``: real pseudo-terminals. They exist on POSIX systems; coming and leaving is seen on Linux only."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support_io import AWKWARD, EVERY_BYTE, Recorder, eventually

from gizserial.errors import TransportError
from gizserial.io import ports
from gizserial.io.base import Back, Data, Lost, Overflow
from gizserial.io.ports import open_port

if os.name != "posix":
    pytest.skip("pseudo-terminals exist on POSIX systems only", allow_module_level=True)

import termios

from gizserial.io.pty import PtyPort

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux shows when a peer opens and closes a pseudo-terminal"
)


class Peer:
    """A program at the other end that knows nothing about terminals: opens, reads, writes."""

    def __init__(self, name: str) -> None:
        self.fd = os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def write(self, data: bytes) -> None:
        assert os.write(self.fd, data) == len(data)

    async def read(self, size: int) -> bytes:
        data = bytearray()

        def enough() -> bool:
            data.extend(self.read_now())
            return len(data) >= size

        await eventually(enough)
        return bytes(data)

    def read_now(self) -> bytes:
        try:
            return os.read(self.fd, 65536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
async def port() -> AsyncIterator[tuple[PtyPort, Recorder]]:
    transport, recorder = PtyPort(), Recorder()
    await transport.open(recorder)
    yield transport, recorder
    await transport.close()


def target(link: Path) -> str:
    return str(link.readlink())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_files() -> int:
    """How many descriptors this process has; 0 where that cannot be seen."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def is_up(port: PtyPort) -> bool:
    return port.connected  # mypy takes the property for a constant


def name_of(port: PtyPort) -> str:
    assert port.other_end is not None
    return port.other_end


async def test_every_byte_passes_both_ways_and_nothing_is_echoed(port: tuple[PtyPort, Recorder]) -> None:
    transport, recorder = port
    peer = Peer(name_of(transport))
    early = AWKWARD + EVERY_BYTE
    peer.write(early)  # before we have noticed the peer, and the peer sets no mode
    assert await recorder.bytes_came(len(early)) == early
    transport.write(EVERY_BYTE + AWKWARD)
    assert await peer.read(270) == EVERY_BYTE + AWKWARD
    for value in EVERY_BYTE:
        peer.write(bytes([value]))
    assert await recorder.bytes_came(len(early) + 256) == early + EVERY_BYTE
    peer.write(b"last")
    assert (await recorder.bytes_came(len(early) + 260))[-4:] == b"last", "an echo would be in between"
    assert peer.read_now() == b""
    peer.close()


@linux_only
async def test_a_peer_comes_and_leaves(port: tuple[PtyPort, Recorder]) -> None:
    transport, recorder = port
    assert not is_up(transport)
    transport.write(b"nobody hears this")
    for times in (1, 2, 3):
        peer = Peer(name_of(transport))
        await recorder.up(times)
        assert is_up(transport)
        transport.write(b"hello")
        assert await peer.read(5) == b"hello"
        peer.close()
        await recorder.down(times)
        assert not is_up(transport)
    assert [type(event) for event in recorder.events] == [Back, Lost] * 3
    assert recorder.of(Lost)[0].reason == (
        f"{transport.other_end}, the other end of pty:, was closed by whoever had it open"
    )


@linux_only
async def test_a_short_visit_is_not_missed(port: tuple[PtyPort, Recorder]) -> None:
    transport, recorder = port
    peer = Peer(name_of(transport))
    peer.write(b"hello and goodbye")
    peer.close()
    await recorder.down()
    assert recorder.data == b"hello and goodbye"
    assert [type(event) for event in recorder.events] == [Back, Data, Lost]


@linux_only
async def test_waiting_for_a_peer_costs_nothing(port: tuple[PtyPort, Recorder]) -> None:
    transport, recorder = port
    Peer(name_of(transport)).close()
    peer = Peer(name_of(transport))
    peer.write(b"x")
    await recorder.bytes_came(1)
    peer.close()
    await recorder.down()
    begin = time.process_time()
    await asyncio.sleep(0.25)
    assert time.process_time() - begin < 0.1


@linux_only
async def test_the_next_peer_finds_a_clean_line(port: tuple[PtyPort, Recorder]) -> None:
    transport, recorder = port
    first = Peer(name_of(transport))
    await recorder.up()
    transport.write(b"unread")
    attributes = termios.tcgetattr(first.fd)
    attributes[3] |= termios.ECHO | termios.ICANON | termios.ISIG
    attributes[0] |= termios.ICRNL | termios.IXON
    termios.tcsetattr(first.fd, termios.TCSANOW, attributes)
    first.close()
    await recorder.down()
    second = Peer(name_of(transport))
    await recorder.up(2)
    transport.write(AWKWARD)
    assert await second.read(len(AWKWARD)) == AWKWARD, "neither unread bytes nor the mode of the first"
    second.write(AWKWARD)
    assert (await recorder.bytes_came(len(AWKWARD))).endswith(AWKWARD)
    assert second.read_now() == b""
    second.close()


async def test_a_peer_that_does_not_read_is_reported_once_and_blocks_nothing() -> None:
    transport, recorder = PtyPort(write_limit=10_000), Recorder()
    await transport.open(recorder)
    peer = Peer(name_of(transport))
    await recorder.up()
    for number in range(100):
        transport.write(bytes([number]) * 1000)
    assert recorder.of(Overflow) == [Overflow(1000)]
    got = bytearray()

    def all_read() -> bool:
        got.extend(peer.read_now())
        return not transport._waiting

    await eventually(all_read)
    await transport.drain()
    await eventually(lambda: all_read() and len(got) % 1000 == 0)
    assert all(got[at : at + 1000] == got[at : at + 1] * 1000 for at in range(0, len(got), 1000)), (
        "whole writes"
    )
    transport.write(b"again")
    assert await peer.read(5) == b"again"
    peer.close()
    await transport.close()


async def test_a_paused_reader_leaves_bytes_with_the_system(port: tuple[PtyPort, Recorder]) -> None:
    transport, recorder = port
    peer = Peer(name_of(transport))
    await recorder.up()
    transport.pause_reading()
    peer.write(b"later")
    await asyncio.sleep(0.02)
    assert recorder.data == b""
    transport.resume_reading()
    assert await recorder.bytes_came(5) == b"later"
    peer.close()


async def test_held_open_as_on_macos() -> None:
    transport, recorder = PtyPort(hold=True), Recorder()
    await transport.open(recorder)
    assert transport.connected
    for times in (1, 2):
        peer = Peer(name_of(transport))
        peer.write(AWKWARD)
        await recorder.bytes_came(times * len(AWKWARD))
        assert peer.read_now() == b""
        peer.close()
    assert recorder.data == AWKWARD * 2
    assert recorder.count(Lost) == 0
    await transport.close()


async def test_opening_and_closing_again() -> None:
    transport, recorder = PtyPort(), Recorder()
    await transport.close()
    for _ in range(2):
        await transport.open(recorder)
        with pytest.raises(TransportError, match="open already"):
            await transport.open(recorder)
        Peer(name_of(transport)).close()
        await transport.close()
        await transport.close()
        transport.write(b"into the void")


async def test_a_link_is_made_and_removed(tmp_path: Path) -> None:
    link = tmp_path / "board"
    transport = open_port(f"pty:{link}")
    await transport.open(Recorder())
    assert target(link) == transport.other_end
    assert transport.name == f"pty:{link}"
    await transport.close()
    assert not link.is_symlink()
    assert names(tmp_path) == []


async def test_a_link_left_over_is_replaced_and_one_taken_over_is_left(tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to("/dev/pts/99999")
    first, second = PtyPort(str(link)), PtyPort(str(link))
    await first.open(Recorder())
    assert target(link) == first.other_end
    await second.open(Recorder())
    assert target(link) == second.other_end
    await first.close()
    assert target(link) == second.other_end
    await second.close()
    assert not link.is_symlink()


async def test_what_is_not_ours_is_not_overwritten(tmp_path: Path) -> None:
    file, folder, foreign = tmp_path / "file", tmp_path / "folder", tmp_path / "foreign"
    file.write_text("precious")
    folder.mkdir()
    foreign.symlink_to("file")
    before = open_files()
    for path, reason in [
        (file, "it is a file"),
        (folder, "it is a directory"),
        (foreign, "it is a link to file"),
        (tmp_path / "missing" / "x", "its directory does not exist; make it first"),
        (file / "x", "its directory does not exist"),
    ]:
        transport = PtyPort(str(path))
        with pytest.raises(TransportError, match=reason):
            await transport.open(Recorder())
        await transport.close()
    assert file.read_text() == "precious"
    assert names(tmp_path) == ["file", "folder", "foreign"]
    assert open_files() == before


PROGRAM = """
import sys, serial
port = serial.Serial(sys.argv[1], 9600, timeout=10, exclusive=True)
port.write(b"ready")
while True:
    data = port.read(1)
    if data == b"q":
        break
    port.write(bytes(reversed(data + port.read(2))))
"""


def start(port: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(port)])


@linux_only
async def test_two_processes(tmp_path: Path) -> None:
    """A program with pyserial, in a process of its own, that is killed in the end."""
    transport, recorder = PtyPort(str(tmp_path / "port")), Recorder()
    await transport.open(recorder)
    for times in (1, 2):
        process = start(tmp_path / "port")
        try:
            await recorder.up(times)
            await recorder.bytes_came(11 * times - 6)
            transport.write(b"\x03\x04\xff" + b"\r\n\x11")
            await recorder.bytes_came(11 * times)
        finally:
            process.kill()
            process.wait()
        await recorder.down(times)
    assert recorder.data == (b"ready" + b"\xff\x04\x03" + b"\x11\n\r") * 2
    await transport.close()


def test_windows_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_HAS_PTY", False)
    with pytest.raises(TransportError, match=r"com0com.*tcp-listen:127\.0\.0\.1:4000"):
        open_port("pty:")

"""``gizserial capture`` and ``replay`` as a user starts them: real ports, signals, exit statuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support_recordings import PET, ROOT, record

from gizserial.capture.record import Record
from gizserial.cli import cli
from gizserial.commands import Role
from gizserial.framing import Frame
from gizserial.io.files import open_capture
from gizserial.io.recorder import CaptureRecorder

POSIX = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither virtual serial ports nor such signals"
)
PATIENCE = 30.0
HEARTBEAT, ACK = Frame(0x07, 1).encode(), Frame(0x08, 1).encode()


@contextlib.asynccontextmanager
async def start(package: str, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"from {package}.cli import main; main()", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with contextlib.suppress(OSError):
            await process.communicate()


async def ready(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = (await process.stdout.readline()).decode()
    return json.loads(line.removeprefix("ready "))


async def ended(process: asyncio.subprocess.Process, number: signal.Signals | None = None) -> list[Any]:
    """The JSON objects that it prints until its end."""
    if number is not None:
        process.send_signal(number)
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert b"Traceback" not in err
    return [json.loads(line) for line in out.splitlines()]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(0.02)


def records(path: Path) -> list[Record]:
    with open_capture(str(path)) as capture:
        return list(capture.records())


@contextlib.contextmanager
def opened(port: str) -> Any:
    import tty

    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


@POSIX
async def test_a_board_is_recorded_cloned_and_replayed(tmp_path: Path) -> None:
    """From the middle of a line: what was recorded is what the clone does again."""
    path = tmp_path / "run.jsonl"
    words = ("capture", "--between", "pty:", "pty:", "-o", str(path), "--json")
    board = ("-p", str(PET), "--quirk", "soft_ver=77", "--quiet")
    async with start("gizserial", *words) as capture:
        ports = (await ready(capture))["ports"]
        async with start("sim", "mcu", "--port", ports[1], *board) as mcu:
            await ready(mcu)
            async with start("sim", "module", "--port", ports[0], "--cloud", "none", "--quiet") as module:
                await ready(module)
                await until(lambda: path.read_text().count('"hex"') >= 2)
                (summary,) = await ended(capture, signal.SIGINT)
    assert capture.returncode == 130
    assert summary["bad"] == summary["noise"] == 0
    assert {each.direction for each in records(path)} == {"module>mcu", "mcu>module"}
    async with start("sim", "mcu", "--port", "pty:", "-p", str(PET), "--from-capture", str(path)) as clone:
        port = (await ready(clone))["port"]
        play = ("replay", str(path), port, "-p", str(PET), "--speed", "max", "--json")
        async with start("gizserial", *play) as replay:
            lines = await ended(replay)
    assert [line for line in lines if line["kind"] == "diverged"] == []
    assert lines[-1]["matched"] >= 1
    assert replay.returncode == 0


@POSIX
async def test_one_port_follows_the_commands_and_ends_in_time(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    async with start("gizserial", "capture", "pty:", "-o", str(path), "--for", "600ms", "--json") as process:
        port = (await ready(process))["ports"][0]
        with opened(port) as descriptor:
            os.write(descriptor, HEARTBEAT + ACK + b"\x00")
            (summary,) = await ended(process)
    assert process.returncode == 0
    assert summary["bytes"] == {"module>mcu": 9, "mcu>module": 10}
    assert summary["frames"] == 2
    assert summary["noise"] == 1
    assert [(each.direction, each.data) for each in records(path)] == [
        ("module>mcu", HEARTBEAT),
        ("mcu>module", ACK),
        ("mcu>module", b"\x00"),
    ]


@POSIX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
async def test_what_came_is_kept_however_it_ends(tmp_path: Path, number: signal.Signals, status: int) -> None:
    path = tmp_path / "run.pcapng"
    words = ("capture", "pty:", "-o", str(path), "--sender", "module", "--json")
    async with start("gizserial", *words) as process:
        port = (await ready(process))["ports"][0]
        with opened(port) as descriptor:
            os.write(descriptor, HEARTBEAT)
            await until(lambda: len(records(path)) == 1)
            await ended(process, number)
    assert process.returncode == status
    assert [(each.direction, each.data) for each in records(path)] == [("module>mcu", HEARTBEAT)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a", "b", "c", "-o", "x.jsonl"], "more than two ports"),
        (["a", "a", "-o", "x.jsonl"], "both ports are a"),
        (["a", "-o", "x.jsonl", "--between"], "--between needs two ports"),
        (["a", "-o", "x.jsonl", "--swap"], "--swap belongs to two ports"),
        (["a", "b", "-o", "x.jsonl", "--sender", "mcu"], "--sender belongs to one port"),
        (["a", "b", "-o", "x.bin"], ".bin holds one direction"),
        (["a", "-o", "x.jsonl", "--for", "soon"], "is no length of time"),
    ],
)
def test_wrong_usage(words: list[str], says: str) -> None:
    result = CliRunner().invoke(cli, ["capture", *words])
    assert result.exit_code == 2
    assert says in result.output


async def test_a_port_that_cannot_be_opened_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("old")
    async with start("gizserial", "capture", str(tmp_path / "ttyX"), "-o", str(path)) as process:
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
    assert process.returncode == 2
    assert err.count(b"\n") == 1
    assert path.read_text() == "old"


# --- replay


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    with CaptureRecorder(path) as recorder:
        for each in record(until=0.5):
            recorder.add(each)
    return path


@POSIX
async def test_a_peer_that_differs_gives_status_1_and_a_sentence(run: Path) -> None:
    words = ("--port", "pty:", "-p", str(PET), "--quiet", "--quirk", "soft_ver=12345678")
    async with start("sim", "mcu", *words) as mcu:
        port = (await ready(mcu))["port"]
        async with start("gizserial", "replay", str(run), port, "-p", str(PET)) as replay:
            async with asyncio.timeout(PATIENCE):
                out, _ = await replay.communicate()
    assert replay.returncode == 1
    assert "soft_ver: expected 00000001, came 12345678" in out.decode()
    assert "the peer did something else once" in out.decode()


@POSIX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_replay_that_is_stopped_does_not_praise_the_peer(
    run: Path, number: signal.Signals, status: int
) -> None:
    async with start("gizserial", "replay", str(run), "pty:", "--json") as replay:
        await ready(replay)
        (summary,) = await ended(replay, number)
    assert replay.returncode == status
    assert summary == {
        "kind": "summary",
        "as": "module",
        "sent": 0,
        "matched": 0,
        "diverged": 0,
        "complete": False,
    }


def test_a_side_that_says_nothing_cannot_be_played(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with CaptureRecorder(path) as recorder:
        recorder.on_bytes(Role.MODULE.direction, HEARTBEAT, 0.0)
    result = CliRunner().invoke(cli, ["replay", str(path), "loop://", "--as", "mcu"])
    assert "the mcu says nothing in it" in str(result.exception)
    path.write_text("")
    result = CliRunner().invoke(cli, ["replay", str(path), "loop://"])
    assert "there is nothing in it that could be played" in str(result.exception)


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan"])
def test_a_speed_is_a_factor_or_max(run: Path, speed: str) -> None:
    result = CliRunner().invoke(cli, ["replay", str(run), "loop://", "--speed", speed])
    assert result.exit_code == 2
    assert "is no speed" in result.output

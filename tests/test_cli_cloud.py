"""``gizsim cloud`` as a process: its ready line, how it ends, what it refuses, what survives it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner
from support_cloud_mqtt import PASSCODE, PK, RawClient

from gizserial.errors import GizserialError
from gizserial.m2m import frames, topics
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.mqtt31 import ConnAck, Connect, Publish
from sim.cli import cli
from sim.cloud.store import Store

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for one process")
ANY_PORTS = ("--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0")
PATIENCE = 20.0


class Running:
    """A cloud in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ready: dict[str, str] = {}

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().rstrip("\r\n")

    async def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; status and what else was printed."""
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()

    async def register(self) -> str:
        """Register a device over HTTP; gives its did."""
        form = {"passcode": PASSCODE, "mac": "00163E002CAC", "product_key": PK}
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://{self.ready['http']}/dev/devices", data=form)
        assert answer.status_code == 201
        return answer.text.strip().removeprefix("did=")

    async def report(self, did: str, p0: bytes) -> None:
        """Log in as the device and report, and see that the cloud has it."""
        host, _, port = self.ready["mqtt"].rpartition(":")
        client = RawClient(*await asyncio.open_connection(host, int(port)))
        client.send(Connect(did, did, PASSCODE.encode()))
        assert await client.expect(ConnAck) == ConnAck(0)
        client.send(Publish(topics.dev2app(did), BusinessFrame(frames.REPORT, p0).encode()))
        await client.ping()
        await client.close()


@contextlib.asynccontextmanager
async def started(*args: str) -> AsyncIterator[Running]:
    """``gizsim cloud`` with these arguments, once it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from sim.cli import main; main()", "cloud", *ANY_PORTS, *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    running = Running(process)
    try:
        first = await running.line()
        text = first if "--json" in args else first.removeprefix("ready ")
        running.ready = json.loads(text)
        assert first != text or "--json" in args
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@POSIX
async def test_ready_line_live_events_and_ctrl_c() -> None:
    async with started() as cloud:
        assert set(cloud.ready) == {"http", "mqtt"}
        assert all(not address.endswith(":0") for address in cloud.ready.values())
        did = await cloud.register()
        assert did[:8] in await cloud.line()
        status, out, err = await cloud.end(signal.SIGINT)
    assert status == 130
    assert err.strip() == "", "click ends the line in which the terminal shows ^C"
    assert PASSCODE not in out


@POSIX
async def test_quiet_prints_nothing_but_the_ready_line_and_sigterm_ends_it() -> None:
    async with started("--quiet") as cloud:
        await cloud.report(await cloud.register(), b"\x04\x01")
        status, out, err = await cloud.end(signal.SIGTERM)
    assert (out, err) == ("", "")
    assert status == 143


async def test_json_gives_json_lines_only() -> None:
    async with started("--json") as cloud:
        assert cloud.ready["kind"] == "ready"
        did = await cloud.register()
        event = json.loads(await cloud.line())
    assert event["did"] == did


async def test_devices_survive_a_kill(tmp_path: Path) -> None:
    async with started("--data", str(tmp_path)) as cloud:
        did = await cloud.register()
        await cloud.report(did, b"\x04\x01\x02")
        cloud.process.kill()
        await cloud.process.wait()
    async with started("--data", str(tmp_path), "--quiet") as cloud:
        assert await cloud.register() == did
        await cloud.report(did, b"\x04\x03\x04")
    store = Store(tmp_path, told=pytest.fail)
    device = store.device(did)
    store.close()
    assert device is not None
    assert device.passcode == PASSCODE
    assert device.last_report is not None
    assert device.last_report.data == b"\x04\x03\x04"


# --- what it refuses: status 2 and one sentence, within this process


def refused(*args: str) -> str:
    """The sentence of an error that is shown with status 2."""
    result = CliRunner().invoke(cli, ["cloud", *args], standalone_mode=False)
    assert isinstance(result.exception, GizserialError | click.ClickException)
    return str(result.exception)


async def failed(*args: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from sim.cli import main; main()", "cloud", *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert out == b""
    assert b"Traceback" not in err
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.mark.parametrize("option", ["--http", "--mqtt"])
async def test_a_port_in_use_is_status_2_and_names_it(option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = "--mqtt" if option == "--http" else "--http"
        status, err = await failed(option, f"127.0.0.1:{port}", other, "127.0.0.1:0")
    assert status == 2
    assert err.count("\n") == 1
    assert str(port) in err
    assert option in err


async def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    status, err = await failed(*ANY_PORTS, "--data", str(file))
    assert status == 2
    assert str(file) in err


async def test_a_data_directory_that_is_in_use(tmp_path: Path) -> None:
    async with started("--data", str(tmp_path)):
        status, err = await failed(*ANY_PORTS, "--data", str(tmp_path))
    assert status == 2
    assert "in use" in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("products:\n  - definiton: pet.json\n", "line 2, column 5"),
        ("products: [", "line 1"),
        ("products: 5\n", "line 1, column 11"),
        ("users: []\n", "line 1, column 1"),
        ("products:\n  - product_key: abc\n", "line 2"),
        ("products:\n  - definition: missing.json\n", "missing.json"),
        ("products:\n  - product_key: [1]\n", "line 2, column 18"),
        ("\x00", "config.yaml"),
        ("products: &a [*a]\n", "line 1"),
    ],
)
def test_errors_of_the_configuration_name_line_and_column(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert expected in refused("--config", str(file))


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    assert "none.yaml" in refused("--config", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("address", ["", "8080", "host", "127.0.0.1:99999", "a b:1", "http://x:1"])
def test_an_address_that_is_none(address: str) -> None:
    assert "HOST:PORT" in refused("--http", address)
    assert "HOST:PORT" in refused("--mqtt", address)


def test_what_cannot_be_advertised() -> None:
    assert "told to devices" in refused("--advertise", "a&b")


def test_help_ends_with_a_line_to_copy() -> None:
    result = CliRunner().invoke(cli, ["cloud", "--help"])
    assert result.exit_code == 0
    assert result.output.rstrip().splitlines()[-1].strip().startswith("gizsim cloud")
    for option in ("--http", "--mqtt", "--data", "--config", "--advertise", "--adopt", "--quiet", "--json"):
        assert option in result.output
    for later in ("--https", "--wss", "--snoti", "--ca"):
        assert later not in result.output

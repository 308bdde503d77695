"""``gizsim cloud`` as a process: its ready line, how it ends, what it refuses, what survives it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
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
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud.config_file import example_config
from sim.cloud.store import Store

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for one process")
HTTP_AND_MQTT = ("--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0")
OTHERS = ("https", "ws", "wss", "mqtts", "snoti")
OFF = tuple(word for name in OTHERS for word in (f"--{name}", "off"))
ANY_PORTS = (*HTTP_AND_MQTT, *OFF)
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

    async def event(self) -> str:
        """The first line that is neither of the ready line nor of what was made up."""
        while "generated" in (line := await self.line()):
            pass
        return line

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
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
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
        assert did[:8] in await cloud.event()
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
        event = json.loads(await cloud.event())
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
        ("device: []\n", "line 1, column 1"),
        ("products:\n  - product_key: a b\n", "line 2"),
        ("products:\n  - product_secret: 00112233445566778899aabbccddeeff\n", "line 2, column 5"),
        ("products:\n  - product_key: abc\n    product_secret: abc\n", "line 2, column 5"),
        ("products:\n  - product_key: abc\n    encrypted: true\n", "line 2, column 5"),
        ("products:\n  - product_key: abc\n  - product_key: ABC\n", "line 3, column 5"),
        ("apps:\n  - appid: a\n  - appid: a\n", "line 3, column 5: this appid"),
        ("apps:\n  - appid: a\n    products: some\n", "line 3, column 15: products is a list"),
        ("users:\n  - password: secret\n", "line 2, column 5: a user needs one of"),
        ("users:\n  - {username: a, email: b}\n", "line 2, column 5: a user needs one of"),
        ("users:\n  - username: [a]\n", "line 2, column 15: username is a text"),
        ("users:\n  - username: a\n    bind: [{mac: '1'}]\n", "line 3, column 12: a device to bind"),
        ("users:\n  - username: a\n    bind: [{mac: '%s', product_key: a}]\n" % ("1" * 33), "line 3"),
        ("settings: {token_days: 0}\n", "line 1, column 24: token_days is a number of days"),
        ("settings: {history_days: nan}\n", "line 1, column 26: history_days is a number"),
        ("settings: {strict_raw: 1}\n", "line 1, column 24: strict_raw is true or false"),
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
    for option in (
        *("--http", "--https", "--ws", "--wss", "--mqtt", "--mqtts", "--snoti"),
        *("--data", "--config", "--example-config", "--ca", "--trust", "--cert", "--key", "--name"),
        *("--advertise", "--strict", "--adopt", "--quiet", "--json"),
    ):
        assert option in result.output


# --- services


@POSIX
async def test_every_service_has_its_address_in_the_ready_line_and_the_ca_is_there_before_it(
    tmp_path: Path,
) -> None:
    ca = tmp_path / "ca.pem"
    anywhere = (word for name in OTHERS for word in (f"--{name}", "127.0.0.1:0"))
    async with started(*anywhere, "--ca", str(ca), "--data", str(tmp_path / "data")) as cloud:
        context = ssl.create_default_context(cafile=str(ca))
        assert {"http", "https", "ws", "wss", "mqtt", "mqtts"} <= set(cloud.ready)
        async with httpx.AsyncClient(timeout=30, verify=context, trust_env=False) as client:
            answer = await client.get(f"https://{cloud.ready['https']}/status")
        assert answer.status_code == 200
        _, _, err = await cloud.end(signal.SIGTERM)
    assert str(ca) in err
    assert "--trust" in err


@POSIX
async def test_trust_prints_what_clients_are_told(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    async with started("--quiet", "--https", "127.0.0.1:0", "--ca", str(ca), "--trust") as cloud:
        _, out, err = await cloud.end(signal.SIGTERM)
    assert out == ""
    assert f"curl --cacert {ca} https://{cloud.ready['https']}/status" in err


@pytest.mark.parametrize("option", ["--ca", "--trust"])
def test_without_a_tls_service_there_is_no_ca(option: str, tmp_path: Path) -> None:
    words = (option, str(tmp_path / "ca.pem")) if option == "--ca" else (option,)
    assert "every TLS service is off" in refused(*OFF, *words)


async def test_a_given_address_that_is_in_use_is_an_error_but_a_default_one_gives_way() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, err = await failed(*HTTP_AND_MQTT, *OFF, "--wss", address)
        assert status == 2
        assert address in err
        config = CloudConfig(
            http="127.0.0.1:0", mqtt=("127.0.0.1:0",), ws=address, optional=frozenset({"ws"})
        )
        async with EmbeddedCloud(config) as cloud:
            assert cloud.addresses["ws"] != address
            assert cloud.notices == (f"{address} is in use: ws listens on {cloud.addresses['ws']}",)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    assert "give both" in refused("--cert", str(tmp_path / "server.pem"))


# --- what is made up


@POSIX
async def test_without_a_configuration_an_app_is_made_up_and_kept(tmp_path: Path) -> None:
    async with started("--data", str(tmp_path)) as cloud:
        what, kind, appid, secret = (await cloud.line()).split()
        assert (what, kind) == ("generated", "app")
        assert secret.startswith("appsecret=")
        headers = {"X-Gizwits-Application-Id": appid.removeprefix("appid=")}
        async with httpx.AsyncClient(timeout=30, trust_env=False, headers=headers) as client:
            answer = await client.post(f"http://{cloud.ready['http']}/app/users", json={"phone_id": "phone"})
        assert answer.status_code == 201
        await cloud.end(signal.SIGTERM)
    async with started("--data", str(tmp_path)) as cloud:
        async with httpx.AsyncClient(timeout=30, trust_env=False, headers=headers) as client:
            again = await client.post(f"http://{cloud.ready['http']}/app/users", json={"phone_id": "phone"})
        assert again.json()["uid"] == answer.json()["uid"]
        await cloud.register()
        assert "generated" not in await cloud.line()


async def test_what_the_configuration_leaves_out_is_told_in_json(tmp_path: Path) -> None:
    config = tmp_path / "cloud.yaml"
    config.write_text("apps:\n  - appid: mine\nusers:\n  - username: bench@example.com\n")
    async with started("--json", "--config", str(config)) as cloud:
        app, user = json.loads(await cloud.line()), json.loads(await cloud.line())
        assert (app["kind"], app["what"], app["appid"]) == ("generated", "app", "mine")
        assert len(app["appsecret"]) == 32
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            answer = await client.post(
                f"http://{cloud.ready['http']}/app/login",
                json={"username": user["username"], "password": user["password"]},
                headers={"X-Gizwits-Application-Id": "mine"},
            )
        assert answer.status_code == 200


@POSIX
async def test_quiet_tells_on_stderr_what_the_configuration_leaves_out(tmp_path: Path) -> None:
    config = tmp_path / "cloud.yaml"
    config.write_text("apps:\n  - appid: mine\n")
    async with started("--quiet", "--config", str(config)) as cloud:
        _, out, err = await cloud.end(signal.SIGTERM)
    assert out == ""
    assert err.startswith("generated app appid=mine appsecret=")


def test_the_example_is_printed_as_it_is() -> None:
    result = CliRunner().invoke(cli, ["cloud", "--example-config"])
    assert result.exit_code == 0
    assert result.output == example_config().read_text("utf-8")


@pytest.mark.parametrize(("options", "status"), [((), 200), (("--no-admin",), 404)])
async def test_the_admin_api_can_be_switched_off(options: tuple[str, ...], status: int) -> None:
    async with (
        started("--quiet", *options) as running,
        httpx.AsyncClient(timeout=30, base_url=f"http://{running.ready['http']}") as client,
    ):
        assert (await client.get("/admin/status")).status_code == status

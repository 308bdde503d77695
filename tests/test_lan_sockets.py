"""Apps of the LAN against a simulated module and MCU: real sockets, a pty between the two, our commands."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support_cloud_mqtt import until

from gizserial.io.lan import discover, onboard
from gizserial.io.ports import open_port
from gizserial.io.products import load_product
from gizserial.lan.commands import LanCommand
from gizserial.lan.framing import LanFramer, encode_frame
from gizserial.lan.messages import RouterData, passcode_body, read_passcode
from gizserial.m2m.frames import BusinessFrame
from gizserial.mcu_options import McuOptions
from gizserial.module_options import ModuleOptions
from sim.lan import LanAddress
from sim.mcu import McuSimulator, mcu_show
from sim.module import ModuleSimulator, module_show
from sim.network import Network

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pty")

PRODUCT_FILE = Path(__file__).parents[1] / "fixtures" / "products" / "pet-house.json"
PRODUCT = load_product(PRODUCT_FILE)
MAC = "5AFE00000001"
PATIENCE = 20.0


@dataclasses.dataclass
class Bench:
    module: ModuleSimulator
    mcu: McuSimulator

    @property
    def address(self) -> LanAddress:
        assert self.module.lan is not None
        return self.module.lan.address


@contextlib.asynccontextmanager
async def bench(*, known: bool = True, bind_time: int = 0) -> AsyncIterator[Bench]:
    line = open_port("pty:")
    show = module_show(PRODUCT, as_json=False, quiet=True)
    show.write = lambda _line: None
    module = ModuleSimulator(
        line,
        show,
        mac=MAC,
        product=PRODUCT,
        options=ModuleOptions(status_tick_s=0.05),
        network=Network(known=known, join_s=0.01, associate_s=0.01),
        lan=LanAddress("127.0.0.1", 0, 0, announce_port=9),
    )
    opened = asyncio.Event()
    tasks = [asyncio.create_task(module.run(opened))]
    async with asyncio.timeout(PATIENCE):
        await opened.wait()
    assert line.other_end is not None
    quiet = mcu_show(PRODUCT, as_json=False, quiet=True)
    quiet.write = lambda _line: None
    mcu = McuSimulator(open_port(line.other_end), quiet, PRODUCT, options=McuOptions(bind_time=bind_time))
    tasks.append(asyncio.create_task(mcu.run()))
    try:
        await until(lambda: module.running, PATIENCE)
        yield Bench(module, mcu)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Phone:
    """An app with a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._framer = LanFramer()
        self._came: list[BusinessFrame] = []

    def send(self, command: int, body: bytes = b"", sn: int | None = None) -> None:
        self.writer.write(encode_frame(command, body, sn))

    async def hear(self, command: int) -> BusinessFrame:
        async with asyncio.timeout(PATIENCE):
            while True:
                for frame in self._came:
                    if frame.command == command:
                        self._came.remove(frame)
                        return frame
                data = await self.reader.read(4096)
                assert data, "the module closed the connection"
                self._came += [item for item in self._framer.feed(data) if isinstance(item, BusinessFrame)]

    async def log_in(self) -> None:
        self.send(LanCommand.PASSCODE)
        passcode = read_passcode((await self.hear(LanCommand.PASSCODE_REPLY)).payload)
        assert passcode
        self.send(LanCommand.LOGIN, passcode_body(passcode))
        assert (await self.hear(LanCommand.LOGIN_REPLY)).payload == b"\0"


@contextlib.asynccontextmanager
async def phone(at: Bench) -> AsyncIterator[Phone]:
    reader, writer = await asyncio.open_connection("127.0.0.1", at.address.tcp)
    try:
        yield Phone(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_two_apps_control_read_and_hear_reports() -> None:
    async with bench() as at, phone(at) as one, phone(at) as two:
        await one.log_in()
        await two.log_in()
        await until(lambda: at.module.role.status.app)  # status bit 11
        p0 = at.module.p0.control({"LED_OnOff": 1, "LED_R": 20})
        one.send(LanCommand.CONTROL_ACKED, p0, 7)
        assert (await one.hear(LanCommand.ACK)).sn == 7
        for each in (one, two):
            report = at.module.p0.parse((await each.hear(LanCommand.REPORT)).payload)
            assert report.raw is not None
            assert report.raw["LED_R"] == 20
        two.send(LanCommand.CONTROL, b"\x02")
        assert (await two.hear(LanCommand.REPORT)).payload[0] == 3
        one.writer.close()
        two.writer.close()
        await until(lambda: not at.module.role.status.app)


async def test_a_ninth_app_is_closed_without_a_byte() -> None:
    async with bench() as at, contextlib.AsyncExitStack() as stack:
        for _ in range(8):
            each = await stack.enter_async_context(phone(at))
            await each.log_in()
        ninth = await stack.enter_async_context(phone(at))
        async with asyncio.timeout(PATIENCE):
            assert await ninth.reader.read() == b""


async def test_discovery_by_address_and_by_broadcast_on_loopback() -> None:
    async with bench() as at:
        asked = [
            [
                each
                async for each in discover(["127.0.0.1"], seconds=0.2, port=at.address.udp, broadcast=False)
            ],
            [each async for each in discover(seconds=0.2, port=at.address.udp)],
        ]
    for found in asked:
        (one,) = found  # asked several times, told once
        assert one.address == "127.0.0.1"
        assert one.announcement.mac == MAC
        assert one.announcement.product_key == PRODUCT.product_key


async def test_on_boarding_over_softap() -> None:
    async with bench(known=False) as at:
        data = RouterData("home", "12345678")
        assert await onboard(data, ["127.0.0.1"], seconds=0.2, port=at.address.udp) is None
        at.module.role.provision("softap", now=at.module.driver.now())
        at.module.driver.wake()
        assert await onboard(data, ["127.0.0.1"], seconds=5, port=at.address.udp) == "127.0.0.1"
        await until(lambda: at.module.role.status.router)
        assert at.module.lan is not None
        assert at.module.lan.announcer.next_timeout() is not None  # 0019 is under way


async def test_a_reset_draws_a_new_passcode_and_a_restart_closes_sessions() -> None:
    async with bench() as at, phone(at) as one:
        await one.log_in()
        at.module.role.reboot("for the test", now=at.module.driver.now())
        at.module.driver.wake()
        async with asyncio.timeout(PATIENCE):
            assert await one.reader.read() == b""


async def gizserial(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from gizserial.cli import main; main()",
        *words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_commands() -> None:
    async with bench() as at:
        there = ["127.0.0.1", "--port", str(at.address.tcp)]
        product = ["-p", str(PRODUCT_FILE)]
        (found, set_, wrong) = await asyncio.gather(
            gizserial(
                *("lan", "discover", "127.0.0.1", "--no-broadcast", "--json"),
                *("--timeout", "1", "--udp-port", str(at.address.udp)),
            ),
            gizserial("lan", "set", *there, *product, "LED_OnOff=true", "LED_R=20"),
            gizserial("lan", "raw", *there, "--passcode", "WRONGPASSC", "02"),
        )
        assert found[0] == 0
        assert json.loads(found[1])["mac"] == MAC
        assert set_[:2] == (0, "done: acknowledged with 0094\n")
        assert at.mcu.role.value("LED_R") == 20
        passcode = at.module._lan_facts().passcode
        assert passcode not in set_[1] + set_[2]
        assert (wrong[0], wrong[1], wrong[2]) == (1, "", "the module refuses the passcode\n")
        watch, raw, bad = await asyncio.gather(
            gizserial("lan", "watch", *there, *product, "--count", "1", "--json", "--passcode", passcode),
            gizserial("lan", "raw", *there, "02", "--json"),
            gizserial("lan", "set", *there, *product, "LED_R=999"),
        )
        assert watch[0] == 0
        shown = json.loads(watch[1])
        assert (shown["kind"], shown["attrs"]["LED_R"]) == ("read_reply", 20)
        assert (raw[0], json.loads(raw[1])["name"]) == (0, "ack")
        assert (bad[0], bad[1]) == (2, "")


async def test_a_closed_bind_window_is_told_in_a_sentence() -> None:
    async with bench(bind_time=1) as at:
        at.module.role._bind_until = None  # the second is over
        status, out, err = await gizserial("lan", "watch", "127.0.0.1", "--port", str(at.address.tcp))
        assert (status, out) == (1, "")
        assert "open its bind window" in err


IN_A_NAMESPACE = """
import asyncio, sys
sys.path[:0] = [{tests!r}, {root!r}]
import test_lan_sockets as t
import gizserial.io.lan as lan
from gizserial.io.lan import discover
from sim.lan import LanAddress
rows = lan.broadcast_targets()
lan.broadcast_targets = lambda: [row for row in rows if not row[0].startswith("127.")]
t.LanAddress = lambda *_, **__: LanAddress("0.0.0.0")
async def main():
    async with t.bench() as at:
        return [each async for each in discover(seconds=0.7, announce_port=None)]
found = asyncio.run(main())
print(sorted({{each.address for each in found}}), len(found), found[0].announcement.mac)
"""


def test_broadcast_in_a_network_namespace() -> None:
    """With the real ports, over an interface with a broadcast address."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if subprocess.run(["unshare", "-Urn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare -Urn is not allowed: no user or network namespaces")
    code = IN_A_NAMESPACE.format(tests=str(Path(__file__).parent), root=str(Path(__file__).parents[1]))
    script = (
        "ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v1 up "
        '&& ip addr add 10.9.8.7/24 brd + dev v0 && ip link set v0 up || exit 77; exec "$0" -c "$1"'
    )
    done = subprocess.run(
        ["unshare", "-Urn", "sh", "-c", script, sys.executable, code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("no pair of interfaces (veth) can be made in a network namespace")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["['10.9.8.7']", "1", MAC]

"""Real processes on a real virtual port and real sockets, an MQTT client that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gizserial.io.products import load_product
from gizserial.m2m.frames import ACK, CONTROL, CONTROL_ACKED, REPORT, BusinessFrame
from gizserial.p0 import P0Codec

ROOT = Path(__file__).resolve().parent.parent
PET = ROOT / "fixtures" / "products" / "pet-house.json"
PATIENCE = 30.0

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="there are no virtual serial ports on Windows"
)


class Process:
    """A running command, and everything it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []
        self._more = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._more:
                self.lines.append(line.decode().rstrip("\n"))
                self._more.notify_all()

    async def line(self, text: str, start: int = 0) -> str:
        """The first line from number ``start`` on that holds this."""

        def found() -> str | None:
            return next((line for line in self.lines[start:] if text in line), None)

        try:
            async with asyncio.timeout(PATIENCE), self._more:
                await self._more.wait_for(lambda: found() is not None)
        except TimeoutError:
            raise AssertionError(f"no line with {text!r} came, but:\n" + "\n".join(self.lines)) from None
        line = found()
        assert line is not None
        return line

    async def ready(self) -> dict[str, str]:
        line = await self.line("ready ")
        members: dict[str, str] = json.loads(line.removeprefix("ready "))
        return members

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self._process.returncode is None:
            self._process.send_signal(how)
        async with asyncio.timeout(PATIENCE):
            status = await self._process.wait()
            await self._reader
        return status


@contextlib.asynccontextmanager
async def gizsim(*words: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from sim.cli import main; main()",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        limit=2**20,
        env={"PYTHONUNBUFFERED": "1", "PATH": "/usr/bin:/bin"},
    )
    running = Process(process)
    try:
        yield running
    finally:
        await running.end()


def identity(state: Path) -> dict[str, Any]:
    [path] = state.glob("module-*.json")
    members: dict[str, Any] = json.loads(path.read_text())
    return members


@contextlib.asynccontextmanager
async def app(cloud: dict[str, str], who: dict[str, Any], client: str = "usrTest") -> AsyncIterator[App]:
    host, _, port = cloud["mqtt"].rpartition(":")
    async with aiomqtt.Client(
        host, int(port), identifier=client, username=who["did"], password=who["passcode"]
    ) as mqtt:
        running = App(mqtt, who["did"], client)
        await mqtt.subscribe(f"dev2app/{who['did']}/#")
        yield running


class App:
    """An app's end of the conversation."""

    def __init__(self, mqtt: aiomqtt.Client, did: str, client: str) -> None:
        self._mqtt, self._did, self._client = mqtt, did, client
        self.p0 = P0Codec(load_product(PET))

    async def send(self, frame: BusinessFrame) -> None:
        await self._mqtt.publish(f"app2dev/{self._did}/{self._client}", frame.encode())

    async def frames(self, *wanted: int) -> list[BusinessFrame]:
        """The next frames until one with each of these commands came."""
        got: list[BusinessFrame] = []
        async with asyncio.timeout(PATIENCE):
            async for message in self._mqtt.messages:
                frame = BusinessFrame.decode(bytes(message.payload))
                assert isinstance(frame, BusinessFrame)
                if frame.payload or frame.command != REPORT:
                    got.append(frame)
                if set(wanted) <= {frame.command for frame in got}:
                    return got
        raise AssertionError("unreachable: the messages do not end")


async def test_a_control_reaches_the_mcu_and_its_report_comes_back(tmp_path: Path) -> None:
    link, state = tmp_path / "port", tmp_path / "state"
    async with gizsim("cloud", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0") as cloud:
        addresses = await cloud.ready()
        words = ("--cloud", f"http://{addresses['http']}", "--state", str(state))
        async with gizsim("module", "--port", f"pty:{link}", "-p", str(PET), *words) as module:
            await module.ready()
            async with gizsim("mcu", "--port", str(link), "-p", str(PET)) as mcu:
                await module.line("cloud connected")
                async with app(addresses, identity(state)) as phone:
                    raw = {"LED_OnOff": 1, "LED_Color": 3, "LED_R": 200, "Motor_Speed": 7}
                    await phone.send(BusinessFrame(CONTROL_ACKED, phone.p0.control(raw), 7))
                    frames = await phone.frames(ACK, REPORT)
                    [ack] = [frame for frame in frames if frame.command == ACK]
                    assert (ack.sn, ack.payload) == (7, b"")
                    [report] = [frame for frame in frames if frame.command == REPORT]
                    got = phone.p0.parse(report.payload).raw or {}
                    assert {name: got[name] for name in raw} == raw
                    # A read is answered with the whole status, an app's count reaches the MCU's status word.
                    await phone.send(BusinessFrame(CONTROL, b"\x02"))
                    [answer] = await phone.frames(REPORT)
                    assert (phone.p0.parse(answer.payload).raw or {})["LED_R"] == 200
                    await mcu.line("app")
                    # Raw data, app to MCU.
                    await phone.send(BusinessFrame(CONTROL_ACKED, bytes.fromhex("05 00 ff 55"), 8))
                    await mcu.line("raw data: 00 ff 55")
        assert "Traceback" not in "\n".join(cloud.lines + module.lines + mcu.lines)


async def test_did_passcode_and_last_state_survive_sigkill(tmp_path: Path) -> None:
    link, state, data = tmp_path / "port", tmp_path / "state", tmp_path / "cloud"
    http, mqtt = "127.0.0.1:0", "127.0.0.1:0"
    module_words = ("module", "--port", f"pty:{link}", "-p", str(PET), "--state", str(state))
    async with gizsim("cloud", "--http", http, "--mqtt", mqtt, "--data", str(data)) as cloud:
        addresses = await cloud.ready()
        words = (*module_words, "--cloud", f"http://{addresses['http']}")
        async with gizsim(*words) as module:
            await module.ready()
            async with gizsim("mcu", "--port", str(link), "-p", str(PET), "--set", "LED_G=77"):
                await module.line("cloud connected")
                before = identity(state)
                async with app(addresses, before) as phone:
                    await phone.send(BusinessFrame(CONTROL_ACKED, phone.p0.control({"LED_R": 123}), 1))
                    await phone.frames(ACK, REPORT)
                # The module dies while everything runs, and comes back as the same device.
                await module.end(signal.SIGKILL)
                async with gizsim(*words) as again:
                    await again.line("cloud connected")
                    assert identity(state)["did"] == before["did"]
                    assert identity(state)["passcode"] == before["passcode"]
                    # The cloud dies, and comes back on the same addresses with everything it knew.
                    await cloud.end(signal.SIGKILL)
                    await again.line("cloud lost")
                    seen = len(again.lines)
                    async with gizsim(
                        "cloud", "--http", addresses["http"], "--mqtt", addresses["mqtt"], "--data", str(data)
                    ) as revived:
                        await revived.ready()
                        await again.line("cloud connected", seen)
                        assert identity(state)["did"] == before["did"]
                        assert identity(state)["passcode"] == before["passcode"]
                        async with app(addresses, before) as phone:
                            await phone.send(BusinessFrame(CONTROL_ACKED, phone.p0.control({"LED_B": 9}), 2))
                            frames = await phone.frames(ACK, REPORT)
                            last = phone.p0.parse(frames[-1].payload).raw or {}
                        await revived.end(signal.SIGKILL)
    from sim.cloud.store import Store

    store = Store(data, told=pytest.fail)
    try:
        device = store.device(before["did"])
        assert device is not None
        assert device.passcode == before["passcode"]
        assert device.last_report is not None
        assert (
            (P0Codec(load_product(PET)).parse(device.last_report.data).raw or {})["LED_B"]
            == last["LED_B"]
            == 9
        )
    finally:
        store.close()


def pasted(line: str, label: str) -> str:
    """What follows the label in a line of the demo."""
    return line.partition(label)[2].strip()


async def shell(command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_shell(
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin"},
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_the_lines_of_the_demo_work_when_they_are_pasted() -> None:
    async with gizsim("demo") as demo:
        log_in = pasted(await demo.line("log in as an app:"), "log in as an app:")
        switch = pasted(await demo.line("switch the LED on:"), "switch the LED on:")
        listen = pasted(await demo.line("get its pushes:"), "get its pushes:")
        listener = await shell(f"exec {listen}")
        assert listener.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                assert b'"success":true' in await listener.stdout.readline()
                said, _ = await (await shell(log_in)).communicate()
                assert set(json.loads(said)) == {"uid", "token", "expire_at"}
                said, _ = await (await shell(switch)).communicate()
                assert said == b"{}"
                while not (push := json.loads(await listener.stdout.readline()))["data"]["attrs"][
                    "LED_OnOff"
                ]:
                    pass
            assert push["cmd"] == "s2c_noti"
            assert push["data"]["attrs"]["LED_R"] == 200
        finally:
            listener.kill()
            await listener.communicate()


async def test_the_demo_performs_one_control_and_one_report() -> None:
    async with gizsim("demo", "--once", "--json") as demo:
        started = time.monotonic()
        await demo.line('"done"')
        assert time.monotonic() - started < 3 * PATIENCE
        assert await demo.end() == 0
    shown = [json.loads(line) for line in demo.lines]
    assert shown[0]["kind"] == "ready"
    online = next(o["t"] for o in shown if o["kind"] == "event" and "on line" in o["text"])
    assert online < 3.0
    names = {o["name"] for o in shown if o["kind"] == "frame"}
    assert {"device_info", "device_info_ack", "p0_to_mcu", "p0_to_mcu_ack", "p0_from_mcu"} <= names
    done = next(o for o in shown if o.get("text") == "done")
    assert done["control_ms"] > 0
    assert done["report_ms"] > 0

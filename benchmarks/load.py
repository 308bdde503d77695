"""The full path under load: apps → WebSocket and HTTP → cloud → MQTT → module → MCU → report → every socket.

::

    python benchmarks/load.py                # 200 devices and sockets, 20 controls/s, 5 min; then with cuts
    python benchmarks/load.py --seconds 20   # the same, shorter

The cloud, the devices and the apps run in a process each. Every control has a value of its own, so that each
notification can be told from every other. Each device is bound to two users, each of them with one socket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

APP = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
PRODUCT: dict[str, Any] = {
    "name": "counter",
    "packetVersion": "0x00000004",
    "protocolType": "standard",
    "product_key": "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0",
    "entities": [
        {
            "id": 0,
            "name": "entity0",
            "display_name": "counter",
            "attrs": [
                {
                    "id": 0,
                    "name": "count",
                    "display_name": "count",
                    "desc": "",
                    "data_type": "uint32",
                    "type": "status_writable",
                    "uint_spec": {"min": 0, "max": 4294967295, "ratio": 1, "addition": 0},
                    "position": {"byte_offset": 0, "bit_offset": 0, "len": 4, "unit": "byte"},
                }
            ],
        }
    ],
}
PATIENCE = 60.0


def product() -> Any:
    from gizserial.product import parse_product

    return parse_product(json.dumps(PRODUCT).encode(), "counter")


# --- the cloud's process


async def cloud() -> None:
    """Serves until its standard input ends; a line on it is a did whose MQTT connection is cut."""
    from sim.cloud.app import EmbeddedCloud
    from sim.cloud.config import CloudConfig
    from sim.cloud.products import CloudProduct

    known = product()
    config = CloudConfig(
        http="127.0.0.1:0",
        ws="127.0.0.1:0",
        mqtt=("127.0.0.1:0",),
        data=Path(os.environ["LOAD_DATA"]),
        products=(CloudProduct(product_key=known.product_key, product=known),),
    )
    async with EmbeddedCloud(config) as running:
        running.side.accounts.add_app(APP)
        print(json.dumps(running.addresses), flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            running.hub.disconnect(line.decode().strip(), "cut by the load")


# --- the devices' process


async def devices(count: int, address: str) -> None:
    """So many modules with an MCU each, joined by memory; prints who they are, and what they have."""
    from gizserial.io.memory_transport import MemoryTransport
    from gizserial.m2m.http import Server
    from sim.mcu import McuSimulator, mcu_show
    from sim.module import ModuleSimulator, module_show

    known = product()
    host, _, port = address.rpartition(":")
    tasks: list[asyncio.Task[None]] = []
    pairs: list[tuple[ModuleSimulator, McuSimulator]] = []
    for number in range(count):
        near, far = MemoryTransport.pair()
        shows = module_show(known, as_json=False, quiet=True), mcu_show(known, as_json=False, quiet=True)
        for show in shows:
            show.write = lambda _line: None
        mac = f"{number:012X}"
        module = ModuleSimulator(near, shows[0], mac=mac, product=known, server=Server(host, int(port)))
        mcu = McuSimulator(far, shows[1], known)
        pairs.append((module, mcu))
        tasks += [asyncio.create_task(module.run()), asyncio.create_task(mcu.run())]
        await asyncio.sleep(0.01)  # they are not switched on all at once
    while any(module.session is None or not module.session.identity.did for module, _ in pairs):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    print(json.dumps([module.session.identity.did for module, _ in pairs if module.session]), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        print(json.dumps([mcu.role.value("count") for _, mcu in pairs]), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- the apps


@dataclasses.dataclass
class Sent:
    """A control, and when each socket heard of it."""

    device: int
    at: float
    heard: list[float] = dataclasses.field(default_factory=list)
    sockets: Counter[int] = dataclasses.field(default_factory=Counter)
    refused: bool = False


class Child:
    """A process of this file in another part."""

    def __init__(self, *words: str, data: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "LOAD_DATA": data},
            text=True,
        )

    def read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def cpu(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )


class Load:
    """The apps: users, sockets, controls, and what came back."""

    def __init__(self, http: httpx.AsyncClient, ws: str, dids: list[str], cloud: Child) -> None:
        self.http, self.ws, self.dids, self.cloud = http, ws, dids, cloud
        self.index = {did: number for number, did in enumerate(dids)}
        self.tokens: list[str] = []
        self.sockets: list[ClientConnection] = []
        self.sent: dict[int, Sent] = {}
        self.unasked = 0
        self.online: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.back: list[float] = []
        self.cut_at: dict[int, float] = {}
        self.next_value = 1
        self.listening: list[asyncio.Task[None]] = []

    async def begin(self, passcodes: dict[str, str]) -> None:
        """Users, bindings and sockets: user n has the devices n and n + 1."""
        count = len(self.dids)
        for number in range(count):
            granted = (await self.http.post("/app/users", json={"phone_id": f"user-{number}"})).json()
            headers = {"X-Gizwits-User-token": granted["token"]}
            listed = [
                {"did": did, "passcode": passcodes[did]}
                for did in (self.dids[number], self.dids[(number + 1) % count])
            ]
            bound = await self.http.post("/app/bindings", json={"devices": listed}, headers=headers)
            assert not bound.json()["failed"], bound.text
            socket = await connect(f"ws://{self.ws}/ws/app/v1", compression=None, max_queue=None)
            login = {
                "appid": APP,
                "uid": granted["uid"],
                "token": granted["token"],
                "p0_type": "attrs_v4",
                "heartbeat_interval": 180,
            }
            await socket.send(json.dumps({"cmd": "login_req", "data": login}))
            assert json.loads(await socket.recv())["data"]["success"] is True
            self.tokens.append(granted["token"])
            self.sockets.append(socket)
            self.listening.append(asyncio.create_task(self._listen(number, socket)))

    async def _listen(self, number: int, socket: ClientConnection) -> None:
        async for text in socket:
            now = time.perf_counter()
            message = json.loads(text)
            data = message.get("data", {})
            if message["cmd"] == "s2c_noti":
                sent = self.sent.get(data["attrs"]["count"])
                if sent is None or self.index[data["did"]] != sent.device:
                    self.unasked += 1
                    continue
                sent.heard.append(now - sent.at)
                sent.sockets[number] += 1
            elif message["cmd"] == "s2c_online_status" and data["online"]:
                device = self.index[data["did"]]
                if device in self.cut_at:
                    self.back.append(now - self.cut_at.pop(device))

    async def control(self, device: int) -> None:
        """One control with a value of its own, by WebSocket or by HTTP."""
        value, did = self.next_value, self.dids[device]
        self.next_value += 1
        sent = self.sent[value] = Sent(device, time.perf_counter())
        attrs = {"count": value}
        if value % 2:
            message = {"cmd": "c2s_write", "data": {"did": did, "attrs": attrs}}
            await self.sockets[device].send(json.dumps(message))
            return
        answer = await self.http.post(
            f"/app/control/{did}",
            json={"attrs": attrs},
            headers={"X-Gizwits-User-token": self.tokens[device]},
        )
        sent.refused = answer.status_code != 200

    async def run(self, seconds: float, rate: float, cuts: float) -> None:
        """Control at this rate; cut this share of the connections each second."""
        chosen = random.Random(1)
        started = time.perf_counter()
        pending: set[asyncio.Task[None]] = set()
        number = cut = 0
        while (passed := time.perf_counter() - started) < seconds:
            while number < passed * rate:
                task = asyncio.create_task(self.control(chosen.randrange(len(self.dids))))
                pending.add(task)
                task.add_done_callback(pending.discard)
                number += 1
            while cut < passed * cuts * len(self.dids):
                device = chosen.randrange(len(self.dids))
                self.cut_at[device] = time.perf_counter()
                self.cloud.write(self.dids[device])
                cut += 1
            await asyncio.sleep(0.005)
        if pending:
            await asyncio.wait(pending)
        await self._settle()

    async def _settle(self) -> None:
        """Wait until everything that was sent has come back, or nothing more comes."""
        deadline = time.perf_counter() + PATIENCE
        before = -1
        while time.perf_counter() < deadline:
            heard = sum(len(sent.heard) for sent in self.sent.values())
            complete = heard >= 2 * len(self.sent) and not self.cut_at
            if complete or (heard == before and not self.cut_at):
                return
            before = heard
            await asyncio.sleep(3)

    async def read_all(self) -> None:
        """Ask every device for its state, as an app does after a reconnect."""
        for number, did in enumerate(self.dids):
            await self.sockets[number].send(json.dumps({"cmd": "c2s_read", "data": {"did": did}}))
        await asyncio.sleep(3)

    async def close(self) -> None:
        for socket in self.sockets:
            await socket.close()
        await asyncio.gather(*self.listening, return_exceptions=True)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def tell(load: Load, name: str, seconds: float, cloud: Child, cpu: float) -> None:
    sent = list(load.sent.values())
    heard = [latency for each in sent for latency in each.heard]
    exactly = sum(each.sockets.total() == 2 and len(each.sockets) == 2 for each in sent)
    doubled = sum(count > 1 for each in sent for count in each.sockets.values())
    lost = sum(2 - len(each.sockets) for each in sent if not each.refused)
    print(f"\n{name}: {len(sent)} controls in {seconds:.0f} s, {len(heard)} notifications")
    print(
        f"  exactly once at both sockets {exactly}, refused (device off line) {sum(s.refused for s in sent)},"
        f" notifications lost {lost}, doubled {doubled}, of nobody's control {load.unasked}"
    )
    print(
        f"  control → notification: p50 {quantile(heard, 0.5) * 1000:.1f} ms,"
        f" p99 {quantile(heard, 0.99) * 1000:.1f} ms, max {max(heard, default=0) * 1000:.1f} ms"
    )
    print(
        f"  cloud: {100 * (cloud.cpu() - cpu) / seconds:.0f} % of a core,"
        f" {cloud.memory() / 1e6:.0f} MB resident"
    )
    if load.back or load.cut_at:
        print(
            f"  cuts: {len(load.back)} devices came back after p50 {quantile(load.back, 0.5):.1f} s,"
            f" max {max(load.back, default=0):.1f} s; not back: {len(load.cut_at)}"
        )


async def main(options: argparse.Namespace, data: str) -> None:
    names = ("amqtt", "uvicorn", "fastapi", "websockets", "pydantic")
    system = f"{platform.system()} {platform.machine()}"
    print(f"Python {platform.python_version()} on {system}, {os.cpu_count()} cores")
    print(", ".join(f"{name} {version(name)}" for name in names))
    cloud = Child("--part", "cloud", data=data)
    addresses = cloud.read()
    fleet = Child(
        "--part", "devices", "--devices", str(options.devices), "--at", addresses["http"], data=data
    )
    try:
        dids = await asyncio.to_thread(fleet.read)
        headers = {"X-Gizwits-Application-Id": APP}
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(
            base_url=f"http://{addresses['http']}", headers=headers, limits=limits, timeout=30
        ) as http:
            passcodes = {}
            for number in range(options.devices):
                query = {"product_key": PRODUCT["product_key"], "mac": f"{number:012X}"}
                known = (await http.get("/app/devices", params=query)).json()
                passcodes[known["did"]] = known["passcode"]
            await asyncio.sleep(3)  # the greetings of the cloud have left for every device
            for name, cuts in (("without faults", 0.0), ("1 % of the connections cut each second", 0.01)):
                load = Load(http, addresses["ws"], dids, cloud)
                load.next_value = 1 if cuts == 0 else 1_000_000
                await load.begin(passcodes)
                cpu = cloud.cpu()
                await load.run(options.seconds, options.rate, cuts)
                tell(load, name, options.seconds, cloud, cpu)
                await load.read_all()
                fleet.write("values")
                there = await asyncio.to_thread(fleet.read)
                wrong = 0
                for did, value in zip(dids, there, strict=True):
                    latest = (await http.get(f"/app/devdata/{did}/latest")).json()["attr"].get("count", 0)
                    wrong += latest != value
                print(f"  values at the end: {len(dids) - wrong} of {len(dids)} right")
                await load.close()
    finally:
        fleet.close()
        cloud.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rate", type=float, default=20.0, help="controls per second")
    parser.add_argument(
        "--part", choices=("apps", "cloud", "devices"), default="apps", help=argparse.SUPPRESS
    )
    parser.add_argument("--at", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part == "cloud":
        asyncio.run(cloud())
    elif chosen.part == "devices":
        asyncio.run(devices(chosen.devices, chosen.at))
    else:
        import tempfile

        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(main(chosen, directory))

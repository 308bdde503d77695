"""The demo: an embedded cloud, a module and an MCU, joined by a virtual serial port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from gizserial.errors import GizserialError
from gizserial.io.ports import open_port
from gizserial.io.products import load_product
from gizserial.m2m import topics
from gizserial.m2m.frames import CONTROL_ACKED, BusinessFrame
from gizserial.p0 import P0Codec
from gizserial.product import Product
from sim.behaviours import parse_move
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import AppConfig, CloudConfig, UserConfig, WantedBinding
from sim.cloud.events import Event, Online, Report
from sim.cloud.products import CloudProduct
from sim.cloud.show import CloudShow
from sim.local_cloud import server_of
from sim.mcu import McuSimulator, mcu_show
from sim.module import ModuleSimulator
from sim.show import Show
from sim.state import choose_mac

PRODUCT: Final = "pet-house.json"
PATIENCE: Final = 10.0
"""Seconds that ``--once`` waits for anything."""
SETTLING: Final = 0.4
"""Seconds after which the messages of a login have left for the device."""
APPID: Final = "c70a66ff039d41b4a220e198b0fcc8b3"
USERNAME: Final = "demo@example.com"
PASSWORD: Final = "demo"  # noqa: S105 - it is printed
"""The app and the user of the demo; the device is his."""
MOVES: Final = ("Temperature=sine:18..26:60", "Humidity=walk:40..60")


class DemoError(GizserialError):
    """The demo did not do what it should."""


def demo_product() -> Path:
    """The pet house's definition: installed beside this file, or in the source tree."""
    here = Path(__file__).resolve().parent
    installed = here / "products" / PRODUCT
    return installed if installed.exists() else here.parent / "fixtures" / "products" / PRODUCT


class Demo:
    """The running parts, and what the cloud has seen of the device."""

    def __init__(
        self, cloud: EmbeddedCloud, module: ModuleSimulator, mcu: McuSimulator, product: Product
    ) -> None:
        self.cloud, self.module, self.mcu, self.product = cloud, module, mcu, product
        self.p0: Final = P0Codec(product)
        self._online = asyncio.Event()
        self._reports: asyncio.Queue[bytes] = asyncio.Queue()
        cloud.subscribe(self._watch)

    @property
    def did(self) -> str:
        """The device's id; empty until it has registered."""
        session = self.module.session
        return session.identity.did if session is not None else ""

    def _watch(self, event: Event) -> None:
        if isinstance(event, Online):
            self._online.set()
        elif isinstance(event, Report):
            self._reports.put_nowait(event.p0)

    async def online(self) -> None:
        """Wait until the device is on line.

        :raises DemoError: it takes too long.
        """
        await self._patiently(self._online.wait(), "the device did not come on line")

    async def settled(self) -> None:
        """Wait until the cloud's greeting has left: what follows it too closely has to wait."""
        await asyncio.sleep(SETTLING)

    async def control(self, name: str, value: object) -> float:
        """Control a point through the cloud and wait for the report; gives the seconds it took.

        :raises DemoError: no report with that value came.
        """
        raw = self.product.point(name).raw(value)
        self._forget()
        started = time.perf_counter()
        await self.cloud.hub.control(self.did, self.p0.control({name: raw}))
        await self._patiently(self._reported(name, raw), f"{name} was controlled but no report of it came")
        return time.perf_counter() - started

    async def report(self, name: str, value: object) -> float:
        """Change a value at the MCU and wait until the cloud has it; gives the seconds it took.

        :raises DemoError: no report with that value came.
        """
        raw = self.product.point(name).raw(value)
        self._forget()
        started = time.perf_counter()
        self.mcu.set_values({name: value})
        await self._patiently(self._reported(name, raw), f"the report of {name} did not reach the cloud")
        return time.perf_counter() - started

    def _forget(self) -> None:
        while not self._reports.empty():
            self._reports.get_nowait()

    async def _reported(self, name: str, raw: int | bytes) -> None:
        while (self.p0.parse(await self._reports.get()).raw or {}).get(name) != raw:
            pass

    @staticmethod
    async def _patiently(waiting: Coroutine[Any, Any, object], complaint: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await waiting
        except TimeoutError:
            raise DemoError(f"{complaint} within {PATIENCE:g} s") from None


@contextlib.asynccontextmanager
async def running(show: Show, *, moves: Sequence[str] = ()) -> AsyncIterator[Demo]:
    """Start everything and keep it running.

    :param moves: Points of the MCU that move by themselves.
    :raises GizserialError: a part cannot start, or ended.
    """
    product = load_product(demo_product())
    mac = choose_mac(None, None)
    async with EmbeddedCloud(_config(product, mac)) as cloud:
        # Windows has no virtual serial ports; a local socket takes their place.
        line = open_port("tcp-listen:127.0.0.1:0" if sys.platform == "win32" else "pty:")
        module = ModuleSimulator(line, show, mac=mac, product=product, server=server_of(cloud))
        text = CloudShow(lambda _line: None, product_of=lambda _did: product).text
        cloud.subscribe(lambda event: show.cloud(text(event)))
        async with _task(module.run(opened := asyncio.Event())) as playing:
            await _first(opened.wait(), playing)
            if line.other_end is None:
                raise DemoError("the virtual serial port has no other end")
            random = Random(1)  # noqa: S311 - values that move, no secrets
            mcu = McuSimulator(
                open_port(line.other_end),
                mcu_show(product, as_json=False, quiet=True),
                product,
                moves=[parse_move(word, product, random) for word in moves],
            )
            mcu.show.write = _nothing
            async with _task(mcu.run()):
                yield Demo(cloud, module, mcu, product)


def _config(product: Product, mac: str) -> CloudConfig:
    wanted = WantedBinding(product_key=product.product_key, mac=mac, dev_alias="pet house")
    return CloudConfig(
        auto_ports=True,
        ws="127.0.0.1:8081",
        products=(CloudProduct(product_key=product.product_key, product=product),),
        apps=(AppConfig(appid=APPID, appsecret="0" * 32),),
        users=(UserConfig(kind="username", name=USERNAME, password=PASSWORD, bind=(wanted,)),),
    )


def _nothing(_line: str) -> None:
    """The MCU sees the same line from the other side: one of the two views is shown."""


@contextlib.asynccontextmanager
async def _task(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run something beside the block; what it raises comes out of the block."""
    task: asyncio.Task[None] = asyncio.create_task(work)
    try:
        yield task
    finally:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _first(event: Coroutine[Any, Any, object], task: asyncio.Task[None]) -> None:
    """Wait for the event, or raise what ended the task before."""
    waiting = asyncio.create_task(event)
    await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiting.cancel()
        task.result()
        raise DemoError("a part of the demo ended early")


def how_to_look(demo: Demo) -> list[str]:
    """Lines that can be pasted into another terminal. Passcode and token were made up for this demo."""
    addresses = demo.cloud.addresses
    host, _, port = addresses["mqtt"].rpartition(":")
    session = demo.module.session
    passcode = session.identity.passcode if session is not None else ""
    login = f"-h {host} -p {port} -u {demo.did} -P {passcode}"
    control = demo.p0.control({"LED_OnOff": 1, "LED_R": 200})
    frame = BusinessFrame(CONTROL_ACKED, control, 1).encode().hex()
    topic = topics.app2dev(demo.did, "usrControl")
    accounts = demo.cloud.side.accounts
    user = accounts.check_password(USERNAME, PASSWORD)
    token = accounts.issue_token(user.uid, APPID).token
    base = f"http://{addresses['http']}/app"
    app_header = ("-H", f"X-Gizwits-Application-Id: {APPID}")
    asked = json.dumps({"username": USERNAME, "password": PASSWORD})
    wanted = json.dumps({"attrs": {"LED_OnOff": True, "LED_R": 200}})
    entry = json.dumps(
        {
            "cmd": "login_req",
            "data": {"appid": APPID, "uid": user.uid, "token": token, "p0_type": "attrs_v4"},
        }
    )
    return [
        f"did {demo.did}, HTTP {addresses['http']}, WebSocket {addresses['ws']}, MQTT {addresses['mqtt']}",
        "log in as an app:   " + _line("curl", "-s", f"{base}/login", *app_header, "-d", asked),
        "switch the LED on:  "
        + _line(
            *("curl", "-s", f"{base}/control/{demo.did}", *app_header),
            *("-H", f"X-Gizwits-User-token: {token}", "-d", wanted),
        ),
        "get its pushes:     "
        + _line(sys.executable, "-c", _LISTEN, f"ws://{addresses['ws']}/ws/app/v1", entry, '{"cmd": "ping"}'),
        f"watch its reports:  mosquitto_sub {login} -i usrWatch -t dev2app/{demo.did} -F %x",
        f"the same over MQTT: echo {frame} | xxd -r -p | mosquitto_pub {login} -i usrControl -t {topic} -s",
        "or type here:       set LED_OnOff=true LED_R=200   read   wifi ap   help   (Ctrl-C ends)",
    ]


_LISTEN: Final = (
    "import sys; from websockets.sync.client import connect; c = connect(sys.argv[1]); c.send(sys.argv[2]); "
    '[c.send(sys.argv[3]) or print(m, flush=True) for m in c if "pong" not in m]'
)
"""Logs in with a message, prints what comes, and keeps the session alive as long as something comes."""


def _line(*words: str) -> str:
    """A command for the shell of this system."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


async def measure(demo: Demo, rounds: int) -> list[float]:
    """Round trips control → report through cloud, module and MCU, in seconds."""
    return [await demo.control("LED_R", 1 + number % 200) for number in range(rounds)]


def summary(times: Sequence[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"median {statistics.median(ordered) * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms of {len(ordered)}"

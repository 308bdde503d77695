"""The application side in tests: a cloud with a product, an app, a user, and a device behind it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from support_cloud_mqtt import NO_PAUSE, PASSCODE, RawClient, online_device, until

from gizserial.io.ports import open_port
from gizserial.io.products import load_product
from gizserial.m2m import topics
from gizserial.m2m.frames import REPORT, BusinessFrame
from gizserial.m2m.mqtt31 import PingReq, PingResp, Publish
from gizserial.p0 import P0Codec
from gizserial.product import Product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud.device import Device
from sim.cloud.products import CloudProduct
from sim.local_cloud import server_of
from sim.mcu import McuSimulator, mcu_show
from sim.module import ModuleSimulator, module_show
from sim.state import choose_mac

APPID: Final = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
APPSECRET: Final = "00112233445566778899aabbccddeeff"
PRODUCT_SECRET: Final = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
LAMP: Final = Path(__file__).parent.parent / "fixtures/products/ci-lamp.json"
MAC: Final = "5ccf7f0a1b2c"


@contextlib.asynccontextmanager
async def app_cloud(
    product: Path = LAMP,
    *,
    now: Callable[[], float] | None = None,
    shared: bool = False,
    **options: Any,
) -> AsyncIterator[EmbeddedCloud]:
    """A cloud in memory that knows one product and the app of the documents."""
    loaded = load_product(product)
    known = CloudProduct(product_key=loaded.product_key, product=loaded, secret=PRODUCT_SECRET, shared=shared)
    settings: dict[str, Any] = {"http": "127.0.0.1:0", "mqtt": ("127.0.0.1:0",), "pace": NO_PAUSE}
    config = CloudConfig(**{**settings, "products": (known,), **options})
    async with EmbeddedCloud(config, **({} if now is None else {"now": now})) as cloud:
        cloud.side.accounts.add_app(APPID, APPSECRET)
        yield cloud
    for client in list(RawClient.left_open):
        await client.close()


def product_of(cloud: EmbeddedCloud) -> Product:
    (known,) = cloud.products
    assert known.product is not None
    return known.product


def register(cloud: EmbeddedCloud, mac: str = MAC) -> Device:
    """A device as if it had registered over HTTP."""
    key = next(iter(cloud.products)).product_key
    return cloud.store.register(key, mac, PASSCODE, is_reset=False, now=time.time())


def bind(cloud: EmbeddedCloud, uid: str, device: Device) -> None:
    cloud.side.bindings.bind(uid, device, APPID)


@dataclasses.dataclass
class Person:
    """Somebody with an app and a token."""

    http: httpx.AsyncClient
    uid: str
    token: str

    async def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        content = None if body is None else json.dumps(body)
        return await self.http.request(method, path, content=content, params=query or None)

    async def ok(self, method: str, path: str, body: Any = None, *, status: int = 200, **query: Any) -> Any:
        answer = await self(method, path, body, **query)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def refused(
        self, code: int, method: str, path: str, body: Any = None, *, status: int | None = None, **query: Any
    ) -> str | None:
        """The call is refused with this code; gives ``detail_message``."""
        answer = await self(method, path, body, **query)
        content = answer.json()
        assert content["error_code"] == code, answer.text
        assert set(content) == {"error_message", "error_code", "detail_message"}
        if status is not None:
            assert answer.status_code == status
        detail: str | None = content["detail_message"]
        return detail


@contextlib.asynccontextmanager
async def visitor(
    cloud: EmbeddedCloud, headers: Mapping[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with the app's id."""
    headers = {"X-Gizwits-Application-Id": APPID, **(headers or {})}
    async with httpx.AsyncClient(
        timeout=30, base_url=f"http://{cloud.addresses['http']}", headers=headers
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def person(cloud: EmbeddedCloud, name: str = "oLocal1", appid: str = APPID) -> AsyncIterator[Person]:
    """Somebody who has logged in (by his phone)."""
    async with visitor(cloud, {"X-Gizwits-Application-Id": appid}) as client:
        answer = await client.post("/app/users", json={"phone_id": name})
        assert answer.status_code == 201, answer.text
        granted = answer.json()
        client.headers["X-Gizwits-User-token"] = granted["token"]
        yield Person(client, granted["uid"], granted["token"])


def signature(stamp: int, secret: str = PRODUCT_SECRET) -> dict[str, str]:
    """Headers of ``bind_mac``."""
    return {
        "X-Gizwits-Timestamp": str(stamp),
        "X-Gizwits-Signature": hashlib.md5(f"{secret}{stamp}".encode()).hexdigest(),
    }


class RawDevice:
    """A device whose every packet the test sees and sends."""

    def __init__(self, cloud: EmbeddedCloud, device: Device, client: RawClient) -> None:
        self.cloud, self.device, self.client = cloud, device, client
        product = cloud.side.product(device.product_key)
        assert product is not None
        self.product = product
        self.p0 = P0Codec(product)

    async def received(self) -> bytes:
        """The next business frame that reaches it (the cloud's own messages are passed over)."""
        while True:
            packet = await self.client.expect(Publish)
            if packet.topic.startswith("app2dev/"):
                return packet.payload

    async def silent(self) -> bool:
        """Nothing was sent to it so far: a ping comes back without a business frame before it."""
        self.client.send(PingReq())
        while not isinstance(packet := await self.client.next(), PingResp):
            assert packet is not None, "the connection is closed"
            if isinstance(packet, Publish) and packet.topic.startswith("app2dev/"):
                return False
        return True

    def report(self, **values: Any) -> None:
        """Report data points."""
        raw = {name: self.product.point(name).raw(value) for name, value in values.items()}
        self.send(self.p0.report(raw))

    def send(self, p0: bytes, command: int = REPORT, sn: int | None = None, client: str = "") -> None:
        """Send a P0."""
        topic = topics.dev2app(self.device.did, client) if client else topics.dev2app(self.device.did)
        self.client.send(Publish(topic, BusinessFrame(command, p0, sn).encode()))


@contextlib.asynccontextmanager
async def raw_device(cloud: EmbeddedCloud, mac: str = MAC) -> AsyncIterator[RawDevice]:
    """A registered device with an MQTT session of its own."""
    device = register(cloud, mac)
    client = await online_device(cloud, device)
    yield RawDevice(cloud, device, client)
    await client.close()


@contextlib.asynccontextmanager
async def simulated_device(
    cloud: EmbeddedCloud, product: Product, **values: Any
) -> AsyncIterator[McuSimulator]:
    """A simulated module and MCU, joined by a pty, on line in the cloud, with these values reported.

    What an MCU reports before its module has reached the cloud, the cloud never hears.
    """
    line = open_port("pty:")
    mac = choose_mac(None, None)
    show = module_show(product, as_json=False, quiet=True)
    show.write = lambda _line: None
    module = ModuleSimulator(line, show, mac=mac, product=product, server=server_of(cloud))
    opened = asyncio.Event()
    playing = asyncio.create_task(module.run(opened))
    await asyncio.wait_for(opened.wait(), 10)
    assert line.other_end is not None
    quiet = mcu_show(product, as_json=False, quiet=True)
    quiet.write = lambda _line: None
    mcu = McuSimulator(open_port(line.other_end), quiet, product)
    task = asyncio.create_task(mcu.run())
    try:
        await until(lambda: _device(cloud, product, mac) is not None, 10)
        mcu.set_values(values)
        await until(lambda: not values or bool(getattr(_device(cloud, product, mac), "state", None)), 10)
        yield mcu
    finally:
        for each in (task, playing):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each


def _device(cloud: EmbeddedCloud, product: Product, mac: str) -> Device | None:
    device = cloud.store.by_mac(product.product_key, mac)
    return device if device is not None and cloud.hub.is_online(device.did) else None

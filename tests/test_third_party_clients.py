"""Software that others wrote for the real service, unmodified, against a simulated device over a pty."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from heatzy import HeatzyHandler
from heatzypy import HeatzyClient
from support_apps import app_cloud, product_of, simulated_device
from support_cloud_mqtt import until
from vaillant_plus_cn_api import Device as VaillantDevice
from vaillant_plus_cn_api import Token, VaillantWebsocketClient

from sim.cloud.app import EmbeddedCloud
from sim.mcu import McuSimulator

FIXTURES = Path(__file__).parent.parent / "fixtures/products"
PASSWORD = "secret"
MAIL = "bench@example.com"
PATIENCE = 20.0

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no virtual serial ports for a simulated device"
)


async def reported(mcu: McuSimulator, name: str, value: object) -> None:
    """Wait until the MCU has this value."""
    await until(lambda: mcu.role.value(name) == value, PATIENCE)


async def test_heatzy(monkeypatch: pytest.MonkeyPatch) -> None:
    """``heatzy`` 0.0.11: login, bindings, latest without a token, control by ``attrs``."""
    async with app_cloud(FIXTURES / "heater.json") as cloud:
        product = product_of(cloud)
        async with simulated_device(cloud, product, mode="eco") as mcu:
            cloud.side.accounts.add_app(HeatzyHandler.APPID)
            user = cloud.side.accounts.create("email", MAIL, PASSWORD)
            (device,) = cloud.store.devices()
            cloud.side.bindings.bind(user.uid, device, HeatzyHandler.APPID, dev_alias="salon")
            monkeypatch.setattr(HeatzyHandler, "API_BASE_URL", f"http://{cloud.addresses['http']}/app")

            handler = await asyncio.to_thread(HeatzyHandler, MAIL, PASSWORD)
            (heater,) = await asyncio.to_thread(handler.devices)
            assert (heater.name, heater.version, heater.mode) == ("salon", "Pilote2", "ECO")
            await asyncio.to_thread(heater.off)
            await reported(mcu, "mode", "stop")
            mcu.set_values({"mode": "fro"})
            async with asyncio.timeout(PATIENCE):
                while heater.mode != "HGEL":
                    await asyncio.to_thread(heater.update)

            with pytest.raises(Exception, match="username or password error"):
                await asyncio.to_thread(HeatzyHandler, MAIL, "wrong")


class Listener:
    """Hears what the client of ``vaillant-plus-cn-api`` hears."""

    def __init__(self, client: VaillantWebsocketClient) -> None:
        self.first: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.updates: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        client.on_subscribe(self.first.set_result)
        client.on_update(lambda _event, data: self.updates.put_nowait(data["data"]))

    async def until(self, name: str, value: object) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await self.updates.get())[name] != value:
                pass


def vaillant_device(cloud: EmbeddedCloud, did: str) -> VaillantDevice:
    """The fields that the client needs to connect; the others are those of its own cloud."""
    port = int(cloud.addresses["ws"].rpartition(":")[2])
    return VaillantDevice(
        id=did,
        mac="",
        product_key="",
        product_name="",
        host="127.0.0.1",
        ws_port=port,
        wss_port=port,
        wifi_soft_version="",
        wifi_hard_version="",
        mcu_soft_version="",
        mcu_hard_version="",
        is_online=True,
    )


async def test_vaillant_plus_cn_api() -> None:
    """``vaillant-plus-cn-api`` 0.3.5: WebSocket login, subscribe, read, notification, ping, write."""
    async with app_cloud(FIXTURES / "heater.json", ws="127.0.0.1:0") as cloud:
        product = product_of(cloud)
        async with simulated_device(cloud, product, mode="eco") as mcu, aiohttp.ClientSession() as session:
            app = cloud.side.accounts.add_app()
            user = cloud.side.accounts.create("email", MAIL, PASSWORD)
            token = cloud.side.accounts.issue_token(user.uid, app.appid)
            (device,) = cloud.store.devices()
            cloud.side.bindings.bind(user.uid, device, app.appid)
            client = VaillantWebsocketClient(
                Token(app_id=app.appid, username=MAIL, password=PASSWORD, uid=user.uid, token=token.token),
                vaillant_device(cloud, device.did),
                session=session,
                use_ssl=False,
            )
            listener = Listener(client)
            listening = asyncio.create_task(client.listen())
            async with asyncio.timeout(PATIENCE):
                assert (await listener.first)["mode"] == "eco"
            mcu.set_values({"mode": "fro"})
            await listener.until("mode", "fro")
            await client.ping()
            await client.send_command("c2s_write", {"did": device.did, "attrs": {"mode": "cft"}})
            await listener.until("mode", "cft")
            await reported(mcu, "mode", "cft")
            await client.close()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


class Redirect(AbstractResolver):
    """Name resolution that leads the hosts of the real service to this machine."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - the interface's
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=self.ports[host], family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def test_heatzypy_over_tls() -> None:
    """``heatzypy`` 2.6.1: HTTPS and wss to names of the real service, whose certificate our CA has signed."""
    async with app_cloud(FIXTURES / "heater.json", https="127.0.0.1:0", wss="127.0.0.1:0") as cloud:
        product = product_of(cloud)
        assert cloud.tls is not None
        assert cloud.tls.ca_pem is not None
        context = ssl.create_default_context(cadata=cloud.tls.ca_pem.decode())
        ports = {name: int(cloud.addresses[name].rpartition(":")[2]) for name in ("https", "wss")}
        resolver = Redirect({"euapi.gizwits.com": ports["https"], "eusandbox.gizwits.com": ports["wss"]})
        connector = aiohttp.TCPConnector(resolver=resolver, ssl=context)
        async with (
            simulated_device(cloud, product, mode="eco") as mcu,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            cloud.side.accounts.add_app(HeatzyHandler.APPID)
            user = cloud.side.accounts.create("email", MAIL, PASSWORD)
            (device,) = cloud.store.devices()
            cloud.side.bindings.bind(user.uid, device, HeatzyHandler.APPID, dev_alias="salon")
            client = HeatzyClient(MAIL, PASSWORD, session, use_tls=True)
            found = await client.async_get_devices()
            assert found[device.did]["attrs"]["mode"] == "eco"
            await client.async_control_device(device.did, {"attrs": {"mode": "stop"}})
            await reported(mcu, "mode", "stop")
            socket_ = client.websocket
            await socket_.async_connect(auto_subscribe=True, all_devices=True)
            listening = asyncio.create_task(socket_.async_listen())
            await until(lambda: socket_.devices[device.did].get("attrs", {}).get("mode") == "stop", PATIENCE)
            # The bare P0 that it sends as raw data is wrapped (websocket-api.md §8.1).
            await socket_.async_control_device(device.did, {"raw": [1, 1, 1]})
            await reported(mcu, "mode", "eco")
            await until(lambda: socket_.devices[device.did]["attrs"]["mode"] == "eco", PATIENCE)
            await socket_.async_disconnect()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

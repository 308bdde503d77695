"""Firmware all the way: admin call, 0211, check, download, serial transfer, new version, next check."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Literal

import h11
import httpx
import pytest
from support_apps import LAMP, PRODUCT_SECRET, app_cloud, product_of
from support_cloud_mqtt import until

from gizserial import schemas
from gizserial.commands import Command
from gizserial.endpoint import QueueFullError
from gizserial.events import Event, FrameReceived, ModuleAsked
from gizserial.framing import Frame
from gizserial.image import Image
from gizserial.io.memory_transport import MemoryTransport
from gizserial.m2m.firmware import MAX_FIRMWARE, download
from gizserial.m2m.http import Offer
from gizserial.m2m.secure import random_code
from gizserial.m2m.session import CloudSession
from gizserial.mcu_options import McuOptions
from gizserial.module_options import ModuleOptions
from gizserial.product import Access
from sim.cloud.app import EmbeddedCloud
from sim.cloud.events import Event as CloudEvent
from sim.cloud.events import FirmwareProgress, Report
from sim.cloud_link import ask
from sim.local_cloud import server_of
from sim.mcu import McuSimulator, mcu_show
from sim.module import ModuleSimulator, module_show

IMAGE = b"GIZVER=00000002\x00" + bytes(range(256)) * 3
MAC = "00163E002CAC"
FAR = 10.0


class Bench:
    """A cloud, a module and an MCU that takes firmware; every line that they print."""

    def __init__(
        self,
        cloud: EmbeddedCloud,
        admin: httpx.AsyncClient,
        module_options: ModuleOptions,
        mcu_options: McuOptions,
    ) -> None:
        self.cloud, self.admin, self.lines = cloud, admin, list[str]()
        product = product_of(cloud)
        near, far = MemoryTransport.pair()
        shows = (
            module_show(product, as_json=False, quiet=False),
            mcu_show(product, as_json=False, quiet=False),
        )
        for show in shows:
            show.write = self.lines.append
        self.module = ModuleSimulator(
            near, shows[0], mac=MAC, product=product, server=server_of(cloud), options=module_options
        )
        self.mcu = McuSimulator(far, shows[1], product, options=mcu_options)
        self.results: list[Frame] = []
        """Every 25 that the MCU got."""
        show_event = shows[1].line_event

        def event(event: Event, now: float) -> bool:
            if isinstance(event, FrameReceived) and event.frame.command == Command.TRANSACTION_RESULT:
                self.results.append(event.frame)
            return show_event(event, now)

        shows[1].line_event = event  # type: ignore[method-assign]  # what a test listens to

    @property
    def did(self) -> str:
        device = self.cloud.store.by_mac(product_of(self.cloud).product_key, MAC)
        return device.did if device is not None else ""

    def versions(self) -> tuple[str, str]:
        """Of module and MCU, as the cloud knows them."""
        device = self.cloud.store.device(self.did)
        assert device is not None
        both = device.module_versions, device.mcu_versions
        return tuple(versions.soft if versions is not None else "" for versions in both)  # type: ignore[return-value]

    async def on_line(self) -> None:
        """The module is there and has reported what its generation reports."""
        reported = any if self.module.role.options.ota_asks_by == "g0" else all
        await until(lambda: self.cloud.hub.is_online(self.did) and reported(self.versions()), FAR)

    async def upload(self, data: bytes = IMAGE, **query: Any) -> Any:
        query = {"product_key": product_of(self.cloud).product_key, "soft_version": "00000002", **query}
        image = await self.admin.post("/firmware", params=query, content=data)
        assert image.status_code == 201, image.text
        return image.json()

    async def push(self, data: bytes = IMAGE, *, state: str = "told", **query: Any) -> None:
        image = await self.upload(data, **query)
        answer = await self.admin.post(f"/firmware/{image['id']}/push", json={"dids": [self.did]})
        assert [row["state"] for row in answer.json()] == [state]

    async def state(self) -> Any:
        (row,) = (await self.admin.get("/firmware_pushes")).json()
        return row

    async def said(self, text: str, times: int = 1) -> str:
        await until(lambda: sum(text in line for line in self.lines) >= times, FAR)
        return next(line for line in self.lines if text in line)


@contextlib.asynccontextmanager
async def bench(*, mcu: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Bench]:
    async with (
        app_cloud(LAMP) as cloud,
        httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}/admin") as admin,
    ):
        made = Bench(
            cloud,
            admin,
            ModuleOptions(**options),
            McuOptions(**{"ota": True, "soft_ver": "00000001", **(mcu or {})}),
        )
        tasks = [asyncio.create_task(made.module.run()), asyncio.create_task(made.mcu.run())]
        try:
            await made.on_line()
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_firmware_reaches_the_mcu_and_its_version_the_cloud() -> None:
    async with bench() as running:
        assert running.versions()[1] == "00000001"
        await running.push()
        await running.said("firmware 00000002 is announced to the MCU")
        await running.said("the MCU has firmware 00000002")
        await until(lambda: running.versions()[1] == "00000002", FAR)
        assert running.mcu.bootloader is not None
        assert running.mcu.bootloader.flash.firmware == IMAGE
        row = await running.state()
        assert (row["state"], row["reported_version"], row["offers"], row["downloads"]) == (
            "done",
            "00000002",
            1,
            1,
        )


@pytest.mark.parametrize("asks_by", ["g3", "g0"])
async def test_firmware_reaches_the_mcu_of_modules_that_ask_by_mqtt(asks_by: Literal["g3", "g0"]) -> None:
    """021d or 020e in place of 0211 and the check over HTTP (device-cloud.md §9)."""
    told = list[CloudEvent]()
    async with bench(ota_asks_by=asks_by) as running:
        running.cloud.subscribe(told.append)
        await running.push(state="offered")
        await running.said("software 00000002")
        assert running.mcu.bootloader is not None
        assert running.mcu.bootloader.flash.firmware == IMAGE
        if asks_by == "g3":
            await until(lambda: running.versions()[1] == "00000002", FAR)
        assert (await running.state())["state"] == ("done" if asks_by == "g3" else "downloaded")
        progress = [(each.progress, each.versions) for each in told if isinstance(each, FirmwareProgress)]
        named = "00000001,00000002"
        assert progress == ([(0, named), (100, named)] if asks_by == "g3" else [])


@pytest.mark.parametrize("asks_by", ["g3", "g0"])
async def test_firmware_of_the_module_itself_by_mqtt(asks_by: Literal["g3", "g0"]) -> None:
    async with bench(ota_asks_by=asks_by) as running:
        await running.push(state="offered", soft_version="04020099", type=1)
        await until(lambda: running.versions()[0] == "04020099", FAR)
        assert (await running.state())["state"] == "done"


async def test_a_module_of_g3_registers_signed_and_reports_by_mqtt() -> None:
    """device-cloud.md §6, §9.4."""
    async with bench(generation="g3", mcu={"product_secret": PRODUCT_SECRET}) as running:
        assert running.module.session is not None
        assert running.module.session.identity.generation == "g3"
        await running.said("the cloud has no new firmware")


async def test_an_app_finds_the_module_that_it_has_just_brought_on_line() -> None:
    """By the random code of router and password (device-cloud.md §5.4)."""
    async with bench(mcu={"product_secret": PRODUCT_SECRET}) as running:
        module, now = running.module, running.module.driver.now()
        session = module.session
        assert session is not None
        session.reset(now)
        module.role.give_access_point("home", "12345678", now=now)
        module.driver.wake()
        await running.said("router data given: home")
        session.start(now)
        session.router_up(now)
        code = random_code(product_of(running.cloud).product_key, "home", "12345678")
        await until(lambda: bool(running.cloud.store.by_random_codes([code], 0.0)), FAR)


async def test_a_module_of_g3_waits_for_the_product_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_bench: Bench) -> None:
        """It never comes on line."""

    monkeypatch.setattr(Bench, "on_line", nothing)
    async with bench(generation="g3") as running:
        await running.said("the generation that is demanded needs a product secret")
        assert running.module.session is not None
        assert running.module.session.phase == "waiting for the product secret"
        assert running.did == ""


async def test_hex_firmware_is_told_as_hex() -> None:
    record = b":10000000" + (b"GIZVER=00000002" + b"\x00").hex().upper().encode()
    total = sum(bytes.fromhex(record[1:].decode())) & 0xFF
    line = record + b"%02X\r\n" % (-total & 0xFF)
    data = line + b":00000001FF\r\n"
    async with bench(mcu={"ota_hex": True}) as running:
        await running.push(data, name="board.hex", small=True)
        await running.said("the MCU wants the firmware: 2 lines of HEX")
        await until(lambda: running.versions()[1] == "00000002", FAR)
        assert running.mcu.bootloader is not None
        assert running.mcu.bootloader.flash.firmware == data


async def test_a_wrong_md5_stays_in_the_module() -> None:
    async with bench() as running:
        await running.admin.post("/faults/firmware", json={"kind": "md5"})
        await running.push()
        told = await running.said("MCU firmware 00000002 cannot be had")
        assert hashlib.md5(IMAGE, usedforsecurity=False).hexdigest() in told
        assert not any("is announced" in line for line in running.lines)
        assert (await running.state())["state"] == "downloaded"
        # The next push tries again.
        (image,) = (await running.admin.get("/firmware")).json()
        await running.admin.post(f"/firmware/{image['id']}/push", json={})
        await until(lambda: running.versions()[1] == "00000002", FAR)


async def test_a_download_that_breaks_off_changes_nothing() -> None:
    async with bench() as running:
        await running.admin.post("/faults/firmware", json={"kind": "cut"})
        await running.push()
        await running.said("MCU firmware 00000002 cannot be had")
        assert not any("is announced" in line for line in running.lines)
        assert (await running.state())["state"] == "offered"
        assert running.cloud.hub.is_online(running.did)


@pytest.mark.parametrize("length", [str(MAX_FIRMWARE + 1), "99999999999999999999", None])
async def test_what_is_too_large_is_not_read(length: str | None) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = (
            b"HTTP/1.1 200 OK\r\n"
            + (b"Content-Length: %s\r\n" % length.encode() if length else b"")
            + b"\r\n"
        )
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            for _ in range(0 if length else 70):
                writer.write(bytes(65536))
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(h11.RemoteProtocolError, match=str(MAX_FIRMWARE)):
            await ask(download(Offer("2", f"http://127.0.0.1:{port}/x"), 2))


async def test_an_older_version_is_offered_and_not_fetched() -> None:
    async with bench() as running:
        await running.push(soft_version="00000000")
        await running.said("offers MCU firmware 00000000, which does not sort after the present version")
        await until(lambda: running.cloud.side.firmwares.push_of(running.did, 2) is not None, FAR)
        row = await running.state()
        assert (row["state"], row["downloads"]) == ("offered", 0)


async def test_an_older_version_is_fetched_by_a_module_that_takes_any() -> None:
    image = IMAGE.replace(b"00000002", b"00000000")
    async with bench(ota_fetch="other") as running:
        await running.push(image, soft_version="00000000")
        await until(lambda: running.versions()[1] == "00000000", FAR)


async def test_the_module_itself_gets_firmware() -> None:
    async with bench(soft_ver="04020035") as running:
        assert running.versions()[0] == "04020035"
        await running.push(type=1, soft_version="04020036")
        await running.said("new module firmware 04020036")
        await until(lambda: running.versions()[0] == "04020036", FAR)
        assert (await running.state())["state"] == "done"
        assert running.module.role.soft_ver == "04020036"


async def test_the_module_s_own_firmware_does_not_break_off_that_of_the_mcu() -> None:
    async with bench(mcu={"ota_store_ms": 50, "reboot_delay_ms": 50}) as running:
        both = [await running.upload(), await running.upload(type=1, soft_version="04020036")]
        await running.admin.post(f"/firmware/{both[0]['id']}/push", json={})
        await running.said("the MCU wants the firmware")
        await running.admin.post(f"/firmware/{both[1]['id']}/push", json={})
        await running.said("module firmware 04020036 waits until the MCU has its own")
        await until(lambda: running.versions() == ("04020036", "00000002"), FAR)
        rows = (await running.admin.get("/firmware_pushes")).json()
        assert {row["type"]: row["downloads"] for row in rows} == {1: 1, 2: 1}


async def test_an_mcu_asks_for_firmware_and_has_it_fetched() -> None:
    """23 sub 1 and 3, answered by 25 sub 2 and 4 (serial.md §4.15); the file follows as 19."""
    async with bench() as running:
        key = product_of(running.cloud).product_key
        query = {"sub": 1, "product_key": key, "did": running.did, "hard_ver": "00000001", "check_flag": 1}

        def results() -> list[dict[str, Any]]:
            return [dict(schemas.TRANSACTION_RESULT.parse(frame.payload)) for frame in running.results]

        async def ask(result: dict[str, Any], **fields: Any) -> None:
            count = len(running.results)
            payload = schemas.TRANSACTION.build(fields)
            running.mcu.role.send(Command.TRANSACTION, payload, now=running.mcu.driver.now())
            running.mcu.driver.wake()
            await until(lambda: len(running.results) > count, FAR)
            assert results()[-1] == result

        await ask({"sub": 2}, **query, soft_ver="00000001")  # there is none
        image = await running.upload()
        url = f"http://{running.cloud.addresses['http']}/dev/ota/v4.1/download/{image['id']}"
        await ask({"sub": 2, "soft_ver": "00000002", "url": url}, **query, soft_ver="00000001")
        await ask({"sub": 2, "soft_ver": "00000002", "url": url}, **query, soft_ver="00000003")  # differs
        await ask({"sub": 2}, **query, soft_ver="00000002")
        await ask({"sub": 2}, **{**query, "product_key": "a b" * 10}, soft_ver="00000002")
        await ask({"sub": 4, "result": 1}, sub=3, url="http://127.0.0.1:0/x")
        await ask({"sub": 4, "result": 1}, sub=3, url=url[:-1])
        await ask({"sub": 4, "result": 0}, sub=3, url=url)
        await until(lambda: running.versions()[1] == "00000002", FAR)


async def test_what_the_mcu_asked_for_before_a_restart_is_not_answered_after_it() -> None:
    async with bench() as running:
        image = await running.upload()
        url = f"http://{running.cloud.addresses['http']}/dev/ota/v4.1/download/{image['id']}"
        side, now = running.module._firmware, running.module.driver.now()
        assert side.asked(ModuleAsked("transaction", {"sub": 3, "url": url}), running.module.session, now)
        assert vars(side)["_url"] == url
        running.module.role.reboot("its watchdog", now=now)
        running.module.driver.wake()
        await running.said("cloud connected", 2)
        assert vars(side)["_url"] is None
        assert not running.results


async def test_an_mcu_that_cannot_update_keeps_what_it_has() -> None:
    """19 is acked and no 1B follows: the file is forgotten (§4.13). A new push announces it again."""
    async with bench(mcu={"ota": False}, ota_ready_wait=0.1) as running:
        await running.push()
        await running.said("the MCU has no new firmware (refused)")
        (image,) = (await running.admin.get("/firmware")).json()
        await running.admin.post(f"/firmware/{image['id']}/push", json={"dids": [running.did]})
        await running.said("the MCU has no new firmware (refused)", 2)
        assert running.versions()[1] == "00000001"


async def test_one_file_at_a_time() -> None:
    async with bench(mcu={"ota_store_ms": 100}) as running:
        await running.push()
        await running.said("the MCU wants the firmware")
        (image,) = (await running.admin.get("/firmware")).json()
        await running.admin.post(f"/firmware/{image['id']}/push", json={"dids": [running.did]})
        await running.said("cannot be offered to the MCU: another file is under way")
        await until(lambda: running.versions()[1] == "00000002", FAR)


@pytest.mark.parametrize("drops", [False, True])
async def test_reports_pass_during_a_download_unless_told_otherwise(
    drops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(ota_drops_reports=drops) as running:
        reports: list[Report] = []
        running.cloud.subscribe(lambda event: reports.append(event) if isinstance(event, Report) else None)
        monkeypatch.setattr(CloudSession, "downloading", True)
        name = next(
            point.name for point in product_of(running.cloud).points if point.access is Access.WRITABLE
        )
        now = running.mcu.driver.now()
        running.mcu.role.set_raw(name, 1, now=now)
        running.mcu.driver.wake()
        if drops:
            await running.said("a report was dropped: firmware is downloaded")
            assert not reports
        else:
            await until(lambda: bool(reports), FAR)


def sent(mcu: McuSimulator, data: bytes) -> bool:
    try:
        mcu.role.send_file(Image(data), now=mcu.driver.now())
    except QueueFullError:  # the last ack of the file before is still on its way
        return False
    mcu.driver.wake()
    return True


async def test_a_file_of_the_mcu_is_published_whole() -> None:
    """One 0091 whose payload is the file, beyond what a report or the broker's usual packet has (§8.4)."""
    data = b"#" + bytes(range(256)) * 20
    async with bench(upload_most=len(data)) as running:
        reports: list[Report] = []
        running.cloud.subscribe(lambda event: reports.append(event) if isinstance(event, Report) else None)
        await until(lambda: sent(running.mcu, data))
        await running.said(f"the file of the MCU is here: {len(data)} bytes")
        await running.said("the file of the MCU is published")
        await until(lambda: data in [report.p0 for report in reports], FAR)
        await until(lambda: sent(running.mcu, data + b"!"))
        await running.said(f"the MCU announces a file of {len(data) + 1} bytes, which is not taken")


async def test_a_file_of_the_mcu_without_a_cloud_is_dropped_and_told() -> None:
    async with bench() as running:
        await running.admin.post(f"/devices/{running.did}/disconnect")
        await running.said("cloud lost")
        await until(lambda: sent(running.mcu, b"x"))
        await running.said("the file of the MCU is dropped: there is no cloud connection")

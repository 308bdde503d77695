"""Firmware of G3 and G0 modules, which ask and are told by MQTT (device-cloud.md §9.1, §9.2, §9.4, §14)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from support_apps import app_cloud, product_of, register
from support_cloud_mqtt import RawClient, online_device, until

from gizserial.m2m.frames import VERSION
from gizserial.m2m.mqtt31 import Publish
from sim.cloud.app import EmbeddedCloud
from sim.cloud.events import Event, FirmwareProgress, FirmwareStep, Unregistered
from sim.cloud.show import CloudShow

IMAGE = bytes(range(256)) * 4
MD5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest().encode()
NEW_MODULE, NEW_MCU = "04X30100", "00000003"
NO_COUNT = bytes.fromhex("000000030210")


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud() as running:
        yield running


@pytest.fixture
async def admin(cloud: EmbeddedCloud) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}") as client:
        yield client


@pytest.fixture
def hexes(vectors: Callable[[str], Any]) -> dict[str, bytes]:
    """The control messages of §14, by number."""
    rows = (row for part in vectors("device_cloud.json").values() for row in part)
    return {row["id"]: bytes.fromhex(row["hex"]) for row in rows if "hex" in row}


async def upload(admin: httpx.AsyncClient, cloud: EmbeddedCloud, version: str, kind: int) -> str:
    query: dict[str, Any] = {
        "product_key": product_of(cloud).product_key,
        "soft_version": version,
        "type": kind,
    }
    answer = await admin.post("/admin/firmware", params=query, content=IMAGE)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def push(admin: httpx.AsyncClient, image: str, *dids: str) -> Any:
    answer = await admin.post(f"/admin/firmware/{image}/push", json={"dids": dids} if dids else {})
    assert answer.status_code == 200, answer.text
    return [row["state"] for row in answer.json()]


async def states(admin: httpx.AsyncClient) -> dict[int, str]:
    return {row["type"]: row["state"] for row in (await admin.get("/admin/firmware_pushes")).json()}


def say(client: RawClient, message: bytes) -> None:
    client.send(Publish("cli2ser_req", message))


async def heard(client: RawClient) -> bytes:
    """The next control message that is not the number of apps."""
    while (packet := await client.expect(Publish)).payload.startswith(NO_COUNT):
        pass
    return packet.payload


def text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def offer(flags: int, *fields: bytes) -> bytes:
    """021d (§9.4)."""
    body = b"".join(text(field) for field in fields)
    return VERSION + struct.pack(">HHH", 0x021D, flags, len(body)) + body


def versions(module: bytes, mcu: bytes) -> bytes:
    """021c with both."""
    body = text(module) + text(mcu)
    return VERSION + struct.pack(">HHH", 0x021C, 6, len(body)) + body


async def address(admin: httpx.AsyncClient, message: bytes) -> bytes:
    """The URL that ends a message; the image is there."""
    url = message[message.rindex(b"http://") :]
    assert struct.pack(">H", len(url)) + url == message[-len(url) - 2 :]
    answer = await admin.get(url.decode())
    assert (answer.status_code, answer.content) == (200, IMAGE)
    assert answer.headers["firmware-md5"].encode() == MD5
    return url


# --- G3


async def test_a_report_is_answered_with_nothing_new(cloud: EmbeddedCloud, hexes: dict[str, bytes]) -> None:
    """Its own versions, without MD5 and address: whoever compares versions finds them the same."""
    device = register(cloud)
    client = await online_device(cloud, device)
    say(client, hexes["20"])
    assert await heard(client) == offer(6, b"ESP32C3,04X3009R", b"00000001,00000002")
    known = cloud.store.device(device.did)
    assert known is not None
    assert known.module_versions is not None
    assert (known.module_versions.hard, known.module_versions.soft) == ("ESP32C3", "04X3009R")
    assert known.mcu_versions is not None
    assert (known.mcu_versions.hard, known.mcu_versions.soft) == ("00000001", "00000002")


async def test_a_report_is_answered_with_the_image_that_was_pushed(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient, hexes: dict[str, bytes]
) -> None:
    device = register(cloud)
    image = await upload(admin, cloud, NEW_MODULE, 1)
    assert await push(admin, image, device.did) == ["waiting"]
    client = await online_device(cloud, device)
    assert (await heard(client)).startswith(VERSION + b"\x02\x11\x01")  # it may be of G1
    say(client, hexes["20"])
    got = await heard(client)
    url = await address(admin, got)
    assert got == offer(0x0302, b"ESP32C3,04X30100", MD5, url)
    model = hexes["21"]  # the same but for MD5 and address
    assert got[:8] + got[10:28] == model[:8] + model[10:28]
    assert await states(admin) == {1: "downloaded"}
    say(client, versions(b"ESP32C3,04X30100", b"00000001,00000002"))
    assert await heard(client) == offer(6, b"ESP32C3,04X30100", b"00000001,00000002")
    assert await states(admin) == {1: "done"}


async def test_module_and_mcu_have_a_message_each(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient, hexes: dict[str, bytes]
) -> None:
    device = register(cloud)
    for version, kind in ((NEW_MODULE, 1), (NEW_MCU, 2)):
        await push(admin, await upload(admin, cloud, version, kind))
    client = await online_device(cloud, device)
    await heard(client), await heard(client)  # 0211 for each
    say(client, hexes["20"])
    first, second = await heard(client), await heard(client)
    assert first == offer(0x0302, b"ESP32C3,04X30100", MD5, await address(admin, first))
    assert second == offer(0x0304, b"00000001,00000003", MD5, await address(admin, second))


async def test_a_push_reaches_a_device_that_has_reported(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient, hexes: dict[str, bytes]
) -> None:
    device = register(cloud)
    client = await online_device(cloud, device)
    say(client, hexes["20"])
    await heard(client)
    image = await upload(admin, cloud, NEW_MCU, 2)
    assert await push(admin, image, device.did) == ["offered"]
    got = await heard(client)
    assert got == offer(0x0304, b"00000001,00000003", MD5, await address(admin, got))
    await client.close()


async def test_a_device_is_asked_again_what_it_is_when_it_comes_back(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient, hexes: dict[str, bytes]
) -> None:
    """Another module may be behind the did since."""
    device = register(cloud)
    client = await online_device(cloud, device)
    say(client, hexes["20"])
    await heard(client)
    await client.close()
    await until(lambda: not cloud.hub.is_online(device.did))
    client = await online_device(cloud, device)
    image = await upload(admin, cloud, NEW_MCU, 2)
    assert await push(admin, image, device.did) == ["told"]
    assert (await heard(client)).startswith(VERSION + b"\x02\x11\x02")


async def test_versions_of_a_sub_device_are_not_the_gateways(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    device = register(cloud)
    await push(admin, await upload(admin, cloud, NEW_MCU, 2))
    client = await online_device(cloud, device)
    await heard(client)
    body = text(b"sub1") + text(b"1,00000001")
    say(client, VERSION + struct.pack(">HHH", 0x021C, 5, len(body)) + body)
    assert await heard(client) == offer(5, b"sub1", b"1,00000001")
    assert await states(admin) == {2: "told"}


@pytest.mark.parametrize("report", ["", "0005", "00060000", "0006000400024142", "000600250010ff"])
async def test_damaged_reports_end_nothing(
    cloud: EmbeddedCloud, report: str, hexes: dict[str, bytes]
) -> None:
    client = await online_device(cloud, register(cloud))
    say(client, bytes.fromhex("00000003021c" + report))
    say(client, versions(b"no comma", b"," * 100))
    assert await heard(client) == offer(6, b"no comma", b"," * 100)
    say(client, hexes["20"])
    assert await heard(client) == offer(6, b"ESP32C3,04X3009R", b"00000001,00000002")


async def test_progress_and_reset(cloud: EmbeddedCloud, hexes: dict[str, bytes]) -> None:
    told = list[Event]()
    device = register(cloud)
    client = await online_device(cloud, device)
    cloud.subscribe(told.append)
    say(client, hexes["22"])
    say(client, hexes["19"])
    await client.ping()
    progress = next(event for event in told if isinstance(event, FirmwareProgress))
    assert (progress.did, progress.progress, progress.versions) == (device.did, 50, "ESP32C3,04X30100")
    line = CloudShow(lambda _line: None).text(progress)
    assert line == f"{device.did} firmware ESP32C3,04X30100: 50 %, downloading"
    assert [event.did for event in told if isinstance(event, Unregistered)] == [device.did]
    known = cloud.store.device(device.did)
    assert known is not None
    assert known.resets == device.resets + 1


# --- G0


def g0_report(cloud: EmbeddedCloud, firmware_id: bytes) -> bytes:
    """0205 (§9.2)."""
    key = product_of(cloud).product_key.encode()
    return bytes.fromhex("000000030205") + text(key) + firmware_id + VERSION + text(b"00000002")


async def test_a_g0_module_is_offered_by_address(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    device = register(cloud)
    image = await upload(admin, cloud, "00000002", 1)
    await push(admin, image)
    client = await online_device(cloud, device)
    await heard(client)  # 0211: it ignores that
    say(client, g0_report(cloud, b"00000001"))
    assert await heard(client) == bytes.fromhex("000000030206") + bytes(8)
    got = await heard(client)
    url = await address(admin, got)
    assert b"/dev/ota/download/" in url
    number = int(image[:8], 16)
    assert got == bytes.fromhex("00000003020e01") + struct.pack(">I", number) + text(url)
    assert await states(admin) == {1: "downloaded"}
    say(client, g0_report(cloud, b"00000002"))
    assert await heard(client) == bytes.fromhex("000000030206") + bytes(8)
    await client.ping()
    assert await states(admin) == {1: "done"}


async def test_the_mcu_of_a_g0_module_is_offered_until_it_was_fetched(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    """No report of a G0 module names the version of its MCU."""
    told = list[Event]()
    device = register(cloud)
    await push(admin, await upload(admin, cloud, NEW_MCU, 2), device.did)
    cloud.subscribe(told.append)
    client = await online_device(cloud, device)
    await heard(client)
    for _ in range(2):
        say(client, g0_report(cloud, b"\x01\x02\x03\x00\x00\x00\x00\xff"))
        await heard(client)
        got = await heard(client)
        assert got.startswith(bytes.fromhex("00000003020e02"))
    await address(admin, got)
    say(client, g0_report(cloud, b"\x01\x02\x03\x00\x00\x00\x00\xff"))
    await heard(client)
    await client.ping()
    assert await states(admin) == {2: "downloaded"}
    steps = [event.state for event in told if isinstance(event, FirmwareStep)]
    assert steps == ["told", "offered", "offered", "downloaded"]
    known = cloud.store.device(device.did)
    assert known is not None
    assert known.module_versions is None

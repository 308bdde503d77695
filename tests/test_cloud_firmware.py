"""Firmware of the cloud: answers that a field module needs (device-cloud.md §12.2), pushes, admin calls."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support_apps import MAC, app_cloud, product_of, register
from support_cloud_mqtt import PASSCODE, RawClient, online_device

from gizserial.errors import ValueOutOfRange
from gizserial.m2m import firmware, frames
from gizserial.m2m import http as module
from gizserial.m2m.http import Offer, Server
from gizserial.m2m.mqtt31 import Publish
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig, FirmwareConfig
from sim.cloud.config_file import load_config
from sim.cloud.errors import ConfigError
from sim.cloud.events import Event, FirmwareStep
from sim.cloud.show import CloudShow

IMAGE = bytes(range(256)) * 4 + b"the end"
MD5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
HEX = b":0400000001020304F2\r\n:00000001FF\r\n"
V4 = Server("api.gizwits.com")
"""A field module: it names no port, and uses 80."""
FAR = 5.0


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud() as running:
        yield running


@pytest.fixture
async def admin(cloud: EmbeddedCloud) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}/admin") as client:
        yield client


def ask(cloud: EmbeddedCloud, request: module.HttpRequest) -> tuple[bytes, bytes]:
    """What the first ``recv`` of 1024 bytes gives, and all of the answer."""
    host, _, port = cloud.addresses["http"].rpartition(":")
    with socket.create_connection((host, int(port)), FAR) as connection:
        connection.settimeout(FAR)
        connection.sendall(request.raw)
        first = whole = connection.recv(1024)
        while more := connection.recv(65536):
            whole += more
    return first, whole


async def asked(cloud: EmbeddedCloud, request: module.HttpRequest) -> tuple[bytes, bytes]:
    return await asyncio.to_thread(ask, cloud, request)


async def check(cloud: EmbeddedCloud, did: str, version: str = "00000001", kind: int = 2) -> bytes:
    request = module.ota_check(
        V4, did, passcode=PASSCODE, firmware_type=kind, hard_version="00000001", soft_version=version
    )
    first, whole = await asked(cloud, request)
    assert first == whole, "the answer came in pieces"
    return whole


async def upload(admin: httpx.AsyncClient, cloud: EmbeddedCloud, data: bytes = IMAGE, **query: Any) -> Any:
    query = {"product_key": product_of(cloud).product_key, "soft_version": "00000002", **query}
    answer = await admin.post("/firmware", params=query, content=data)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def pushed(admin: httpx.AsyncClient) -> Any:
    (row,) = (await admin.get("/firmware_pushes")).json()
    return row


# --- what modules are answered


async def test_the_vectors_of_an_offer(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient, vectors: Callable[[str], Any]
) -> None:
    texts = {row["id"]: row["text"].encode() for row in vectors("device_cloud.json")["http"]}
    device = register(cloud)
    assert await check(cloud, device.did) == texts["H5"]
    image = await upload(admin, cloud)
    assert await check(cloud, device.did) == texts["H5"]  # it is there, nobody has pushed it
    assert (await admin.post(f"/firmware/{image['id']}/push", json={})).status_code == 200
    push = cloud.side.firmwares.push_of(device.did, 2)
    assert push is not None
    body = f"soft_ver=00000002&download_url=http://127.0.0.1/dev/ota/v4.1/download/{push.token}".encode()
    old = b"soft_ver=04020021&download_url=http://ota.local/fw/7072.bin"
    expected = texts["H4"].replace(b"3b\r\n", b"%x\r\n" % len(body)).replace(old, body)
    assert await check(cloud, device.did) == expected
    assert await check(cloud, device.did, kind=1) == texts["H5"]


async def test_the_file_as_a_field_module_reads_it(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    device = register(cloud)
    image = await upload(admin, cloud, name="a did=x; host=y.v2.bin")
    await admin.post(f"/firmware/{image['id']}/push", json={"dids": [device.did]})
    answer = await check(cloud, device.did)
    offer = module.parse_offer(answer)
    assert offer is not None
    first, whole = await asked(cloud, firmware.download(offer, 2))
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/octet-stream",
        b"Content-Length: %d" % len(IMAGE),
        b"Firmware-MD5: " + MD5.encode(),
        b"Soft-Version: 00000002",
        b'Content-Disposition: attachment; filename="a_did_x_host_y_v2.bin"',
        b"Connection: close",
    ]
    assert body == IMAGE
    assert len(head) < 600 <= len(first)
    assert not any(member in head for member in (b"did=", b"host=", b"port=", b"soft_ver=", b"_url="))
    row = await pushed(admin)
    assert (row["state"], row["offers"], row["downloads"]) == ("downloaded", 1, 1)


async def test_a_large_file_is_whole_and_its_first_segment_long(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    data = bytes(range(251)) * 4000
    image = await upload(admin, cloud, data)
    url = f"http://{cloud.addresses['http']}/dev/ota/v4.1/download/{image['id']}"
    first, whole = await asked(cloud, firmware.download(Offer("2", url), 2))
    assert whole.endswith(b"\r\n\r\n" + data)
    assert len(first) >= 600


async def test_a_slow_reader_gets_all_of_it(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends some time after the last byte was handed over, and not while it is being read."""
    monkeypatch.setattr("sim.cloud.http_server.LINGER_TIME", 0.05)
    image = await upload(admin, cloud, bytes(firmware.MAX_FIRMWARE))
    request = firmware.download(Offer("2", f"http://127.0.0.1/dev/ota/v4.1/download/{image['id']}"), 2)
    port = int(cloud.addresses["http"].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(request.raw)
    await asyncio.sleep(0.3)  # several times as long as the connection lingers
    whole = await asyncio.wait_for(reader.read(), FAR)
    writer.close()
    assert len(whole.partition(b"\r\n\r\n")[2]) == firmware.MAX_FIRMWARE


async def test_the_address_names_the_port_that_the_module_named(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    """Who says ``Host: x:8080`` can reach another port than 80; a field module says no port."""
    device = register(cloud)
    image = await upload(admin, cloud)
    await admin.post(f"/firmware/{image['id']}/push", json={})
    here = Server("127.0.0.1", int(cloud.addresses["http"].rpartition(":")[2]))
    request = module.ota_check(
        here, device.did, passcode=PASSCODE, firmware_type=2, hard_version="1", soft_version="1"
    )
    offer = module.parse_offer((await asked(cloud, request))[1])
    assert offer is not None
    assert firmware.split_url(offer.url)[0] == here


async def test_an_offer_stands_until_the_version_is_reported(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    """What is older than the present version is offered too: the module decides (§4.3)."""
    device, told = register(cloud), list[Event]()
    cloud.subscribe(told.append)
    image = await upload(admin, cloud)
    await admin.post(f"/firmware/{image['id']}/push", json={"dids": [device.did]})
    for version in ("00000001", "00000003", "00000001"):
        assert b"soft_ver=00000002&" in await check(cloud, device.did, version)
    assert b'"error_code":9502' in await check(cloud, device.did, "00000002")
    assert b'"error_code":9502' in await check(cloud, device.did, "00000001")  # flashed by hand since
    row = await pushed(admin)
    assert (row["state"], row["offers"], row["reported_version"]) == ("done", 3, "00000001")
    states = [event.state for event in told if isinstance(event, FirmwareStep)]
    assert states == ["waiting", "offered", "offered", "offered", "done"]
    show = CloudShow(lambda _line: None)
    assert show.text(next(event for event in reversed(told) if isinstance(event, FirmwareStep))) == (
        f"{device.did} MCU firmware 00000002: is what the device runs now"
    )


async def test_devices_that_come_later_get_what_was_pushed_to_the_product(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    first = await upload(admin, cloud)
    second = await upload(admin, cloud, soft_version="00000003")
    for image in (first, second):
        assert (await admin.post(f"/firmware/{image['id']}/push", json={})).json() == []
    device = register(cloud)
    assert b"soft_ver=00000003&" in await check(cloud, device.did)
    listed = {image["soft_version"]: image["everybody"] for image in (await admin.get("/firmware")).json()}
    assert listed == {"00000002": False, "00000003": True}
    up_to_date = register(cloud, "AABBCCDDEEFF")
    assert b'"error_code":9500' in await check(cloud, up_to_date.did, "00000003")


async def test_what_the_product_has_can_be_withdrawn_from_a_device(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    """Its next check does not push it anew, and its address is gone. A new push counts again."""
    device, other = register(cloud), register(cloud, "AABBCCDDEEFF")
    image = await upload(admin, cloud)
    await admin.post(f"/firmware/{image['id']}/push", json={})
    offer = module.parse_offer(await check(cloud, device.did))
    assert offer is not None
    assert (await admin.delete("/firmware_pushes", params={"did": device.did})).status_code == 200
    assert b'"error_code":9500' in await check(cloud, device.did)
    assert b'"error_code":9027' in (await asked(cloud, firmware.download(offer, 2)))[1]
    assert (await admin.delete("/firmware_pushes", params={"did": device.did})).json()["error_code"] == 9027
    assert b"soft_ver=00000002&" in await check(cloud, other.did)
    states = {row["did"]: row["state"] for row in (await admin.get("/firmware_pushes")).json()}
    assert states == {device.did: "withdrawn", other.did: "offered"}
    rows = (await admin.post(f"/firmware/{image['id']}/push", json={"dids": [device.did] * 2})).json()
    assert [row["state"] for row in rows] == ["waiting"]
    assert b"soft_ver=00000002&" in await check(cloud, device.did)


async def test_the_newest_of_a_product(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    async def latest(version: str, key: str = product_of(cloud).product_key) -> bytes:
        request = module.latest(V4, hard_version="00000001", soft_version=version, product_key=key)
        return (await asked(cloud, request))[1]

    assert b'"error_code":9500' in await latest("00000001")
    image = await upload(admin, cloud)
    offer = module.parse_offer(await latest("00000001"))
    assert offer == Offer("00000002", f"http://127.0.0.1/dev/ota/v4.1/download/{image['id']}")
    assert b'"error_code":9502' in await latest("00000002")
    assert b'"error_code":9500' in await latest("00000001", "f" * 32)


async def test_unknown_files_are_not_found(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    for number in ("0", "x" * 70, "%00"):
        url = f"http://127.0.0.1/dev/ota/v4.1/download/{number}"
        _, answer = await asked(cloud, firmware.download(Offer("1", url), 2))
        assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert b'"error_code":9027' in answer
    image = await upload(admin, cloud)
    assert (await admin.delete(f"/firmware/{image['id']}")).status_code == 200
    url = f"http://127.0.0.1/dev/ota/v4.1/download/{image['id']}"
    assert b'"error_code":9027' in (await asked(cloud, firmware.download(Offer("1", url), 2)))[1]


# --- 0211


async def test_a_device_that_is_on_line_is_told_at_once(
    cloud: EmbeddedCloud, admin: httpx.AsyncClient
) -> None:
    device = register(cloud)
    image = await upload(admin, cloud)
    waiting = (await admin.post(f"/firmware/{image['id']}/push", json={"dids": [device.did]})).json()
    assert [(row["state"], row["is_online"]) for row in waiting] == [("waiting", False)]
    expected = frames.encode_control(frames.CheckFirmware(2, device.did))
    assert expected == bytes.fromhex("000000030211020016") + device.did.encode()

    async def told(client: RawClient) -> None:
        while (packet := await client.expect(Publish)).payload != expected:
            assert packet.payload.startswith(bytes.fromhex("000000030210"))  # how many apps there are

    client = await online_device(cloud, device)
    await told(client)  # it was off line when it was pushed
    assert (await pushed(admin))["state"] == "told"
    (row,) = (await admin.post(f"/firmware/{image['id']}/push", json={"dids": [device.did]})).json()
    assert (row["state"], row["is_online"]) == ("told", True)
    await told(client)
    await client.close()


# --- faults


async def test_a_wrong_md5_on_purpose(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    image = await upload(admin, cloud)
    assert (await admin.post("/faults/firmware", json={"kind": "md5"})).status_code == 200
    request = firmware.download(Offer("1", f"http://127.0.0.1/dev/ota/v4.1/download/{image['id']}"), 2)
    assert b"\r\nFirmware-MD5: " + MD5.encode() not in (await asked(cloud, request))[1]
    assert b"\r\nFirmware-MD5: " + MD5.encode() in (await asked(cloud, request))[1]


async def test_a_connection_that_ends_in_the_middle(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    image = await upload(admin, cloud)
    await admin.post("/faults/firmware", json={"kind": "cut", "downloads": 1})
    request = firmware.download(Offer("1", f"http://127.0.0.1/dev/ota/v4.1/download/{image['id']}"), 2)
    head, _, body = (await asked(cloud, request))[1].partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(IMAGE) in head + b"\r\n"
    assert body == IMAGE[: len(IMAGE) // 2]


# --- admin calls and configuration


async def test_what_is_no_image_is_refused(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    refused: tuple[tuple[bytes, dict[str, Any], str], ...] = (
        (b"", {}, "600 to"),
        (bytes(599), {}, "field modules crash"),
        (b"", {"small": "true"}, "1 to"),
        (bytes(firmware.MAX_FIRMWARE + 1), {}, "more than"),
        (IMAGE, {"type": 3}, "module"),
        (IMAGE, {"soft_version": "123456789"}, "1 to 8"),
        (IMAGE, {"soft_version": "a&b"}, "no &"),
        (IMAGE, {"name": "x.hex"}, "line 1"),
        (b":FF000000" + b"00" * 255 + b"01\r\n:00000001FF\r\n", {"name": "x.hex", "small": True}, "263"),
    )
    for data, change, reason in refused:
        query = {"product_key": product_of(cloud).product_key, "soft_version": "00000002", **change}
        answer = await admin.post("/firmware", params=query, content=data)
        assert (answer.status_code, answer.json()["error_code"]) == (400, 9015)
        assert reason in answer.json()["detail_message"]
    form = await admin.post("/firmware", params=query, files={"file": ("a.bin", IMAGE)})
    assert "no form" in form.json()["detail_message"]


async def test_images_of_products_that_are_not_served(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    """Modules register with small letters; a strict cloud knows who may."""
    image = await upload(admin, cloud, product_key="AB" * 16)
    assert image["product_key"] == "ab" * 16
    cloud.products.strict = True
    query = {"product_key": "cd" * 16, "soft_version": "1"}
    answer = await admin.post("/firmware", params=query, content=IMAGE)
    assert (answer.status_code, answer.json()["error_code"]) == (400, 9002)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "a\r\nSet-Cookie: did=1", "\\\\host\\x", "中文", "x" * 256]
)
async def test_a_name_is_only_a_name(cloud: EmbeddedCloud, admin: httpx.AsyncClient, name: str) -> None:
    image = await upload(admin, cloud, name=name)
    assert re.fullmatch(r"[0-9A-Za-z_-]{1,64}\.bin", image["name"])


async def test_images_by_admin_call(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    image = await upload(admin, cloud, HEX, name="board.HEX", small=True)
    assert (image["name"], image["size"], image["type"]) == ("board.hex", len(HEX), 2)
    twice = await admin.post(
        "/firmware", params={"product_key": image["product_key"], "soft_version": "00000002"}, content=IMAGE
    )
    assert "not there yet" in twice.json()["detail_message"]
    assert (await admin.get("/firmware", params={"product_key": "other"})).json() == []
    assert (await admin.post("/firmware/0/push", json={})).json()["error_code"] == 9027
    wrong = await admin.post(f"/firmware/{image['id']}/push", json={"dids": ["nobody"]})
    assert wrong.json()["error_code"] == 9014
    device = register(cloud)
    (row,) = (await admin.post(f"/firmware/{image['id']}/push", json={})).json()
    assert (row["did"], row["mac"], row["state"], row["reported_version"]) == (
        device.did,
        MAC,
        "waiting",
        None,
    )
    assert (await admin.delete("/firmware_pushes")).json()["error_code"] == 9015
    assert (await admin.delete("/firmware_pushes", params={"did": device.did})).status_code == 200
    assert (await admin.delete("/firmware_pushes", params={"did": device.did})).json()["error_code"] == 9027
    await admin.post(f"/firmware/{image['id']}/push", json={})
    await admin.delete(f"/devices/{device.did}")
    assert (await admin.get("/firmware_pushes")).json() == []
    assert (await admin.delete(f"/firmware/{image['id']}")).status_code == 200


async def test_any_host_gives_an_address(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    await upload(admin, cloud)
    key = product_of(cloud).product_key
    path = f"/dev/ota/v4.1/latest?product_key={key}&type=2&hard_version=1&soft_version=1"
    for host, address in (
        ("api.gizwits.com", "127.0.0.1"),
        ("api.gizwits.com:8080", "127.0.0.1:8080"),
        ("[::1]", "127.0.0.1"),
        ("[::1]:8080", "127.0.0.1:8080"),
        ("x:0", "127.0.0.1"),
        ("x:65536", "127.0.0.1"),
        ("x:" + "8" * 5000, "127.0.0.1"),
        ("x:y", "127.0.0.1"),
        ("", "127.0.0.1"),
    ):
        raw = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        request = module.HttpRequest(module.Purpose.LATEST, V4, "GET", path, raw)
        offer = module.parse_offer((await asked(cloud, request))[1])
        assert offer is not None
        assert offer.url.startswith(f"http://{address}/dev/ota/v4.1/download/")


def test_the_document_says_that_a_file_is_uploaded() -> None:
    made = EmbeddedCloud(CloudConfig())
    call = made.application().openapi()["paths"]["/admin/firmware"]["post"]
    made.store.close()
    assert list(call["requestBody"]["content"]) == ["application/octet-stream"]


async def test_other_pages_may_not(cloud: EmbeddedCloud, admin: httpx.AsyncClient) -> None:
    refused = await admin.post("/firmware", content=IMAGE, headers={"Origin": "http://elsewhere.test"})
    assert refused.json()["error_code"] == 9093


async def test_all_images_together_have_a_limit(
    cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.cloud.firmware.MAX_TOTAL", 2 * len(IMAGE))
    options = {"product_key": "x", "firmware_type": 2, "name": "x", "now": 1.0}
    for version in "ab":
        cloud.side.firmwares.add(IMAGE, soft_version=version, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueOutOfRange, match="delete some"):
        cloud.side.firmwares.add(IMAGE, soft_version="c", **options)  # type: ignore[arg-type]


async def test_firmware_of_the_configuration(tmp_path: Path) -> None:
    config = FirmwareConfig(
        product_key="0" * 32, soft_version="00000002", name="x.bin", content=IMAGE, push=True
    )
    numbers = []
    for content in (IMAGE, IMAGE, IMAGE[::-1]):
        wanted = FirmwareConfig(
            product_key="0" * 32, soft_version="00000002", name="x.bin", content=content, push=config.push
        )
        async with app_cloud(data=tmp_path, firmware=(wanted,)) as cloud:
            (image,) = cloud.side.firmwares.images()
            assert image.everybody
            assert cloud.side.firmwares.content(image) == content
            numbers.append(image.id)
    assert numbers[0] == numbers[1] != numbers[2]


async def test_pushes_outlive_the_cloud(tmp_path: Path) -> None:
    async with (
        app_cloud(data=tmp_path) as cloud,
        httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}/admin") as admin,
    ):
        device = register(cloud)
        image = await upload(admin, cloud)
        await admin.post(f"/firmware/{image['id']}/push", json={})
        before = await check(cloud, device.did)
    async with app_cloud(data=tmp_path) as cloud:
        assert await check(cloud, device.did) == before
        offer = module.parse_offer(before)
        assert offer is not None
        assert (await asked(cloud, firmware.download(offer, 2)))[1].endswith(b"\r\n\r\n" + IMAGE)
        assert b'"error_code":9502' in await check(cloud, device.did, "00000002")


def test_the_file_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(IMAGE)
    file = tmp_path / "cloud.yaml"
    head = "firmware:\n  - file: a.bin\n    product_key: ABCDEF\n    soft_version: 00000002\n"
    file.write_text(head + "    push: true\n    type: module\n")
    assert load_config(file).firmware == (
        FirmwareConfig(
            product_key="abcdef", soft_version="00000002", name="a.bin", content=IMAGE, type=1, push=True
        ),
    )
    for change, reason in (
        (("a.bin", "b.bin"), "line 2, column 11: "),
        (("00000002", "000000002"), "at most 8"),
        (("soft_version", "version"), "'version' is not known here"),
        (("product_key: ABCDEF", "type: both"), "needs its product_key"),
    ):
        file.write_text(head.replace(*change))
        with pytest.raises(ConfigError, match=reason):
            load_config(file)

"""The Enterprise API (open-api.md §19)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support_apps import LAMP, MAC, PRODUCT_SECRET, Person, RawDevice, app_cloud, person, raw_device
from support_cloud_mqtt import PASSCODE, until

from gizserial.io.products import load_product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.heartbeat import Heartbeat, Heartbeats
from sim.cloud.products import CloudProduct, Credential

PK = "0123456789abcdef0123456789abcdef"
BASE = f"/v1/products/{PK}"
GOOD = {"enterprise_id": "ent", "enterprise_secret": "hidden", "product_secret": PRODUCT_SECRET}


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    lamp = CloudProduct(
        product_key=PK,
        product=load_product(LAMP),
        secret=PRODUCT_SECRET,
        enterprise=Credential("ent", "hidden"),
    )
    other = CloudProduct(product_key="other", secret=PRODUCT_SECRET, enterprise=Credential("ent", "hidden"))
    async with app_cloud(products=(lamp, other)) as running:
        yield running


@pytest.fixture
async def user(cloud: EmbeddedCloud) -> AsyncIterator[Person]:
    async with person(cloud) as somebody:
        granted = await somebody.ok("POST", f"{BASE}/access_token", GOOD, status=201)
        assert set(granted) == {"token", "expired_at"}
        somebody.http.headers["Authorization"] = f"token {granted['token']}"
        yield somebody


@pytest.fixture
async def device(cloud: EmbeddedCloud) -> AsyncIterator[RawDevice]:
    async with raw_device(cloud) as online:
        yield online


async def test_the_token(cloud: EmbeddedCloud, user: Person) -> None:
    for code, change in (
        (5003, {"enterprise_id": "x"}),
        (5004, {"enterprise_secret": "x"}),
        (5005, {"product_secret": "x"}),
    ):
        await user.refused(code, "POST", f"{BASE}/access_token", {**GOOD, **change})
    await user.refused(5002, "POST", f"{BASE}/access_token", {})
    await user.refused(5015, "POST", "/v1/products/unknown/access_token", GOOD, status=404)
    await user.refused(5010, "GET", "/v1/products/other/devices", mac=MAC)
    answer = await user("GET", f"{BASE}/devices/search")
    assert answer.headers["x-ratelimit-limit"] == "3600"
    user.http.headers["Authorization"] = "token nonsense"
    await user.refused(5009, "GET", f"{BASE}/devices/search", status=400)
    del user.http.headers["Authorization"]
    await user.refused(5009, "GET", f"{BASE}/devices/search", status=400)


async def test_devices(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    did = device.device.did
    assert await user.ok("GET", f"{BASE}/devices", mac=MAC.upper()) == {"did": did, "passcode": PASSCODE}
    assert await user.ok("GET", f"{BASE}/device_detail", mac=MAC) == {
        "did": did,
        "is_disabled": False,
        "product_key": PK,
        "mac": MAC,
        "is_online": True,
        "type": "normal",
    }
    await user.refused(5301, "GET", f"{BASE}/devices", mac="none", status=404)
    await user.refused(5002, "GET", f"{BASE}/devices")


async def test_search(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    for number in range(3):
        cloud.store.register(PK, f"{number:012x}", PASSCODE, is_reset=False, now=time.time())
    device.report(fault_heat=True)
    await until(lambda: bool(cloud.side.device(device.device.did).state))

    async def dids(**query: Any) -> list[str]:
        found = await user.ok("GET", f"{BASE}/devices/search", **query)
        assert found["meta"]["total"] >= len(found["objects"])
        return [shown["did"] for shown in found["objects"]]

    did = device.device.did
    assert len(await dids()) == 4
    assert await dids(is_online=1) == await dids(is_faulty=1) == [did]
    assert await dids(type="mac", val=MAC.upper()) == await dids(type="did", val=did) == [did]
    assert await dids(type="uid", val=user.uid) == []
    page = await user.ok("GET", f"{BASE}/devices/search", limit=2, skip=2)
    assert page["meta"] == {
        "total": 4,
        "limit": 2,
        "skip": 2,
        "previous": f"{BASE}/devices/search?limit=2&skip=0",
        "next": None,
    }


async def test_control_needs_no_binding(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    did = device.device.did
    path = f"{BASE}/devices/{did}/control"
    assert await user.ok("POST", path, {"attrs": {"power": True}}) == {}
    assert await device.received() == bytes.fromhex("000000030a00009001010100000000")
    await user.refused(5401, "POST", path, {"attrs": {"temp": 1}}, status=400)
    await user.refused(5408, "POST", path, {"raw": "0g"}, status=400)
    await user.refused(5002, "POST", path, {}, status=400)
    await user.refused(5301, "POST", f"{BASE}/devices/none/control", {"attrs": {"power": True}}, status=404)
    foreign = cloud.store.register("other", MAC, PASSCODE, is_reset=False, now=time.time())
    await user.refused(
        5302, "POST", f"{BASE}/devices/{foreign.did}/control", {"attrs": {"power": True}}, status=403
    )
    offline = cloud.store.register(PK, "none", PASSCODE, is_reset=False, now=time.time())
    await user.refused(5305, "POST", f"{BASE}/devices/{offline.did}/control", {"raw": [1]}, status=400)
    assert await device.silent()


async def test_history(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    did, now = device.device.did, int(time.time())
    device.report(power=True, temp=20)
    await until(lambda: bool(cloud.side.device(did).state))
    span = {"start_ts": now - 60, "end_ts": now + 60}
    (report,) = (await user.ok("GET", f"{BASE}/devices/{did}/data", **span))["objects"]
    assert (report["attrs"]["power"], report["attrs"]["temp"]) == (1, 20)
    (packet,) = (await user.ok("GET", f"{BASE}/devices/{did}/cmd", **span))["objects"]
    assert packet["type"] == "dev2app"
    assert packet["payload"].startswith("00000003")
    assert await device.silent()  # it pings
    await device.client.close()
    await until(lambda: not cloud.hub.is_online(did))
    gone, came = (await user.ok("GET", f"{BASE}/devices/{did}/online", **span))["objects"]
    assert (came["type"], gone["type"], gone["payload"]["reason"]) == (
        "dev_online",
        "dev_offline",
        "tcp_closed",
    )
    assert came["payload"] == {"keep_alive": 120}  # of the CONNECT
    assert gone["payload"]["heartbeat"]["count"] == 1
    await user.refused(5002, "GET", f"{BASE}/devices/{did}/cmd", start_ts=0, end_ts=now)


def test_the_heartbeat_of_the_documentation() -> None:
    """enterprise_api.md, its example of ``…/online``: 1391 s, of which 21 heartbeats and 130 s of silence."""
    beats = Heartbeats(1000.0)
    for number in range(21):
        beats.beat(1060.0 + 60 * number)
    assert beats.summary(1000 + 1390) == Heartbeat(count=21, max=60, min=60, avg=60, last=130)
    assert Heartbeats(5.0).summary(9.5) == Heartbeat(count=0, max=0, min=0, avg=0, last=4)


async def test_how_long_a_device_was_on_line_that_came_before_the_span(
    cloud: EmbeddedCloud, user: Person
) -> None:
    now = int(time.time())
    did = cloud.store.register(PK, MAC, PASSCODE, is_reset=False, now=now).did
    cloud.side.history.packet(did, "dev_online", now - 1000, ip=None, keep_alive=120)
    cloud.side.history.packet(did, "dev_offline", now - 100, ip=None, reason="the client said goodbye")
    span = {"start_ts": now - 500, "end_ts": now}
    (gone,) = (await user.ok("GET", f"{BASE}/devices/{did}/online", **span))["objects"]
    assert gone["payload"] == {"duration": 900, "heartbeat": None, "reason": "mqtt_disconnect"}


async def test_bindings(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    did = device.device.did
    body = {
        "appid": user.http.headers["X-Gizwits-Application-Id"],
        "uid": user.uid,
        "devices": [{"did": did}, {"mac": "none"}],
    }
    for method in ("POST", "DELETE"):
        assert await user.ok(method, f"{BASE}/devices/bindings", body) == {
            "success": [did],
            "failed": ["none"],
        }
    await user.refused(5016, "POST", f"{BASE}/devices/bindings", {**body, "appid": "x"}, status=404)
    await user.refused(5017, "POST", f"{BASE}/devices/bindings", {**body, "uid": "x"}, status=404)


async def test_device_groups(cloud: EmbeddedCloud, user: Person) -> None:
    """A tree with one root; a device is in one group; only an empty group can be deleted."""
    for number in range(2):
        cloud.store.register(PK, f"{number:012x}", PASSCODE, is_reset=False, now=time.time())
    first, second = "0" * 12, "0" * 11 + "1"
    path = f"{BASE}/device_groups"
    assert await user.ok("GET", path) == {}
    await user.refused(5202, "POST", path, {"parent_gid": "none"}, status=404)
    root = (await user.ok("POST", path, {}, status=201))["gid"]
    await user.refused(5203, "POST", path, {"parent_gid": None}, status=400)
    child = (await user.ok("POST", path, {"parent_gid": root}, status=201))["gid"]
    assert await user.ok("GET", path) == {root: {child: ""}}

    assign = {"action": "assign", "macs": [first, "none"], "reassign": False}
    assert await user.ok("PUT", f"{path}/{child}", assign) == {"success": [first], "failed": ["none"]}
    assert await user.ok("GET", f"{path}/{child}") == {"macs": [first]}
    assign = {"action": "assign", "macs": [first, second], "reassign": 0}
    assert await user.ok("PUT", f"{path}/{root}", assign) == {"success": [second], "failed": [first]}
    assert (await user.ok("PUT", f"{path}/{root}", {**assign, "reassign": True}))["failed"] == []
    assert await user.ok("GET", f"{path}/{root}") == {"macs": [second, first]}
    assert await user.ok("GET", f"{path}/{child}") == {"macs": []}

    await user.refused(5204, "DELETE", f"{path}/{root}", status=400)
    assert await user.ok("DELETE", f"{path}/{child}") == {}
    await user.refused(5205, "DELETE", f"{path}/{root}", status=400)
    out = {"action": "unassign", "macs": [first, second, "none"]}
    assert (await user.ok("PUT", f"{path}/{root}", out))["failed"] == ["none"]
    assert await user.ok("DELETE", f"{path}/{root}") == {}
    await user.refused(5206, "GET", f"{path}/{root}", status=404)
    await user.refused(5002, "PUT", f"{path}/{root}", {"action": "other", "macs": [first]}, status=400)


async def test_device_groups_of_another_product(cloud: EmbeddedCloud, user: Person) -> None:
    gid = (await user.ok("POST", f"{BASE}/device_groups", {}, status=201))["gid"]
    granted = await user.ok("POST", "/v1/products/other/access_token", GOOD, status=201)
    user.http.headers["Authorization"] = f"token {granted['token']}"
    await user.refused(5201, "GET", f"/v1/products/other/device_groups/{gid}", status=403)
    await user.refused(5201, "POST", "/v1/products/other/device_groups", {"parent_gid": gid}, status=403)

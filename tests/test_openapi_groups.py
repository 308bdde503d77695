"""Groups (open-api.md §10)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support_apps import Person, app_cloud, bind, person, raw_device, register

from sim.cloud.app import EmbeddedCloud

PK = "0123456789abcdef0123456789abcdef"
NAMED = {"group_name": "kitchen", "product_key": PK}


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud() as running:
        yield running


@pytest.fixture
async def user(cloud: EmbeddedCloud) -> AsyncIterator[Person]:
    async with person(cloud) as somebody:
        yield somebody


async def test_groups_come_and_go(cloud: EmbeddedCloud, user: Person) -> None:
    assert await user.ok("GET", "/app/group") == []
    number = (await user.ok("POST", "/app/group", NAMED, status=201))["id"]
    assert re.fullmatch(r"[0-9a-f]{24}", number)
    (group,) = await user.ok("GET", "/app/group")
    assert (group["id"], group["group_name"], group["product_key"], group["verbose_name"]) == (
        number,
        "kitchen",
        PK,
        "ci_lamp",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", group["created_at"])
    assert await user.ok("PUT", f"/app/group/{number}", {"group_name": "厨房"}) == {}
    assert (await user.ok("GET", "/app/group"))[0]["group_name"] == "厨房"
    assert await user.ok("DELETE", f"/app/group/{number}") == {}
    assert await user.ok("GET", "/app/group") == []
    other = (await user.ok("POST", "/app/group", {"group_name": "any"}, status=201))["id"]
    (group,) = await user.ok("GET", "/app/group")
    assert (group["id"], group["product_key"], group["verbose_name"]) == (other, "", "")
    await user.refused(9015, "POST", "/app/group", {}, status=400)
    await user.refused(9002, "POST", "/app/group", {**NAMED, "product_key": "f" * 32}, status=400)


async def test_nobody_sees_anothers_group(cloud: EmbeddedCloud, user: Person) -> None:
    number = (await user.ok("POST", "/app/group", NAMED, status=201))["id"]
    async with person(cloud, "other") as other:
        for method, path, body in (
            ("PUT", "", {"group_name": "x"}),
            ("DELETE", "", None),
            ("GET", "/devices", None),
            ("POST", "/devices", {"dids": ["x"]}),
            ("DELETE", "/devices", {"dids": ["x"]}),
            ("POST", "/control", {"raw": [1]}),
        ):
            await other.refused(9200, method, f"/app/group/{number}{path}", body, status=404)


async def test_devices_of_a_group(cloud: EmbeddedCloud, user: Person) -> None:
    number = (await user.ok("POST", "/app/group", NAMED, status=201))["id"]
    path = f"/app/group/{number}/devices"
    mine, foreign = register(cloud, "000000000001"), register(cloud, "000000000002")
    bind(cloud, user.uid, mine)
    other = cloud.store.register("e" * 32, "000000000003", "ABCDEFGHIJ", is_reset=False, now=1.0)
    bind(cloud, user.uid, other)
    dids = [mine.did, foreign.did, other.did, "unknown"]
    assert await user.ok("POST", path, {"dids": dids}) == {"success": [mine.did], "failed": dids[1:]}
    told = await user.ok("POST", path, {"dids": dids}, show_detail=1)
    assert [(each["did"], each["error_code"]) for each in told["detail"]] == [
        (foreign.did, 9017),
        (other.did, 9002),
        ("unknown", 9014),
    ]
    assert set(told["detail"][0]) == {"did", "error_message", "error_code", "detail_msg"}
    (shown,) = await user.ok("GET", path)
    assert shown == {
        "did": mine.did,
        "type": "normal",
        "verbose_name": "ci_lamp",
        "dev_alias": "",
        "product_key": PK,
    }
    gone = await user.ok("DELETE", path, {"dids": [mine.did, "unknown"]})
    assert gone == {"success": [mine.did], "failed": ["unknown"]}
    assert await user.ok("GET", path) == []


async def test_a_device_that_is_unbound_leaves(cloud: EmbeddedCloud, user: Person) -> None:
    number = (await user.ok("POST", "/app/group", NAMED, status=201))["id"]
    device = register(cloud)
    for _ in range(2):
        bind(cloud, user.uid, device)
        assert await user.ok("GET", f"/app/group/{number}/devices") == []
        await user.ok("POST", f"/app/group/{number}/devices", {"dids": [device.did]})
        await user.ok("DELETE", "/app/bindings", {"devices": [{"did": device.did}]})
        assert await user.ok("GET", f"/app/group/{number}/devices") == []


async def test_control_of_a_group(cloud: EmbeddedCloud, user: Person) -> None:
    number = (await user.ok("POST", "/app/group", NAMED, status=201))["id"]
    offline = register(cloud, "000000000001")
    async with raw_device(cloud) as device:
        dids = [device.device.did, offline.did]
        for each in (device.device, offline):
            bind(cloud, user.uid, each)
        await user.ok("POST", f"/app/group/{number}/devices", {"dids": dids})
        path = f"/app/group/{number}/control"
        assert await user.ok("POST", path, {"attrs": {"power": True}}) == [
            {"did": dids[0], "result": True},
            {"did": dids[1], "result": False},
        ]
        assert await device.received() == bytes.fromhex("000000030a00009001010100000000")
        await user.refused(9025, "POST", path, {"attrs": {"temp": 1}}, status=400)
        bodies: list[dict[str, Any]] = [{}, {"attrs": {}}]
        for empty in bodies:
            await user.refused(9015, "POST", path, empty, status=400)
        mixed = (await user.ok("POST", "/app/group", {"group_name": "any"}, status=201))["id"]
        await user.refused(9015, "POST", f"/app/group/{mixed}/control", {"raw": [1]}, status=400)
        assert await device.silent()


async def test_a_group_is_planned_for_before_it_has_devices(user: Person) -> None:
    """§10, §13, §14: what can be set is said by the product; the devices may come later."""
    number = (await user.ok("POST", "/app/group", NAMED, status=201))["id"]
    path = f"/app/group/{number}/control"
    assert await user.ok("POST", path, {"attrs": {"power": True}}) == []
    await user.refused(9025, "POST", path, {"attrs": {"temp": 1}}, status=400)
    plan = {"time": "07:30", "repeat": "mon", "group_id": number}
    await user.ok("POST", "/app/common_scheduler", {**plan, "attrs": {"power": True}}, status=201)
    await user.refused(9025, "POST", "/app/common_scheduler", {**plan, "attrs": {"temp": 1}}, status=400)
    task = {"task_type": "group", "group_id": number, "attrs": {"power": True}}
    await user.ok("POST", "/app/scene", {"scene_name": "evening", "tasks": [task]}, status=201)

"""The schedulers and scenes (open-api.md §13, §14): they really fire, at their minute."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support_apps import Person, RawDevice, app_cloud, bind, person, raw_device, register
from support_cloud_mqtt import until

from sim.cloud.app import EmbeddedCloud


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


class Clock:
    """Unix seconds that the test sets."""

    def __init__(self) -> None:
        self.now = at("2023-11-14T08:00:00")  # a Tuesday

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cloud(clock: Clock) -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud(now=clock, token_time=90 * 86400.0) as running:
        yield running


@pytest.fixture
async def device(cloud: EmbeddedCloud) -> AsyncIterator[RawDevice]:
    async with raw_device(cloud) as online:
        yield online


@pytest.fixture
async def user(cloud: EmbeddedCloud, device: RawDevice) -> AsyncIterator[Person]:
    async with person(cloud) as somebody:
        bind(cloud, somebody.uid, device.device)
        yield somebody


ON = bytes.fromhex("000000030a00009001010100000000")
ONCE = {"date": "2023-11-14", "time": "08:30", "repeat": "none", "attrs": {"power": True}}


class Desk:
    """Moves the clock and looks at what reached the device."""

    def __init__(self, cloud: EmbeddedCloud, clock: Clock, device: RawDevice) -> None:
        self.cloud, self.clock, self.device = cloud, clock, device

    async def fires(self, when: str, packet: bytes = ON) -> None:
        """Nothing a second before, the packet at the minute, and only one."""
        self.clock.now = at(when) - 1
        self.cloud.side.scheduling.tick()
        assert await self.device.silent()
        self.clock.now = at(when)
        self.cloud.side.scheduling.tick()
        assert await self.device.received() == packet
        self.cloud.side.scheduling.tick()
        assert await self.device.silent()


@pytest.fixture
def desk(cloud: EmbeddedCloud, clock: Clock, device: RawDevice) -> Desk:
    return Desk(cloud, clock, device)


async def test_once(desk: Desk, user: Person) -> None:
    path = f"/app/devices/{desk.device.device.did}/scheduler"
    number = (await user.ok("POST", path, ONCE, status=201))["id"]
    assert await user.ok("GET", path) == [
        {
            "id": number,
            "created_at": "2023-11-14T08:00:00",
            "product_key": desk.device.device.product_key,
            "did": desk.device.device.did,
            "raw": "",
            "attrs": {"power": True},
            "date": "2023-11-14",
            "time": "08:30",
            "repeat": "none",
            "days": [],
            "start_date": "",
            "end_date": "",
            "enabled": True,
            "remark": "",
        }
    ]
    await desk.fires("2023-11-14T08:30")
    desk.clock.now += 400 * 86400
    desk.cloud.side.scheduling.tick()
    assert await desk.device.silent()


async def test_weekly_with_limits_and_raw(desk: Desk, user: Person) -> None:
    path = f"/app/devices/{desk.device.device.did}/scheduler"
    weekly = {"time": "07:05", "repeat": "wed,fri", "raw": "05090807", "end_date": "2023-11-17"}
    await user.ok("POST", path, weekly, status=201)
    packet = bytes.fromhex("000000030700009005090807")
    await desk.fires("2023-11-15T07:05", packet)
    await desk.fires("2023-11-17T07:05", packet)
    desk.clock.now = at("2023-12-01T00:00")
    desk.cloud.side.scheduling.tick()
    assert await desk.device.silent()


async def test_changing_disabling_and_deleting(desk: Desk, user: Person) -> None:
    path = f"/app/devices/{desk.device.device.did}/scheduler"
    number = (await user.ok("POST", path, ONCE, status=201))["id"]
    assert await user.ok("PUT", f"{path}/{number}", {"time": "09:00"}) == {"id": number}
    assert await user.ok("PUT", path, {"id": number, "remark": "睡觉"}) == {"id": number}
    (shown,) = await user.ok("GET", path)
    assert (shown["time"], shown["remark"], shown["attrs"]) == ("09:00", "睡觉", {"power": True})
    await user.ok("PUT", f"{path}/{number}", {"enabled": False})
    desk.clock.now = at("2023-11-14T09:30")
    desk.cloud.side.scheduling.tick()
    assert await desk.device.silent()
    assert await user.ok("DELETE", f"{path}/{number}") == {}
    assert await user.ok("GET", path) == []
    for method, body in (("DELETE", None), ("PUT", {"time": "10:00"})):
        await user.refused(9030, method, f"{path}/{number}", body, status=404)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"time": None}, 9015),
        ({"repeat": "sometimes"}, 9015),
        ({"date": None}, 9015),
        ({"attrs": None}, 9015),
        ({"attrs": {}, "raw": "0g"}, 9015),
        ({"attrs": {"temp": 1}}, 9025),
        ({"attrs": {"nonsense": 1}}, 9025),
    ],
)
async def test_what_cannot_be_planned(desk: Desk, user: Person, change: dict[str, Any], code: int) -> None:
    path = f"/app/devices/{desk.device.device.did}/scheduler"
    await user.refused(code, "POST", path, {**ONCE, **change}, status=400)


async def test_whose_devices(desk: Desk, user: Person) -> None:
    path = f"/app/devices/{desk.device.device.did}/scheduler"
    await user.ok("POST", path, ONCE, status=201)
    async with person(desk.cloud, "other") as other:
        for method in ("GET", "POST"):
            await other.refused(9017, method, path, ONCE, status=401)
    await user.refused(9014, "GET", "/app/devices/none/scheduler", status=404)
    # Who has unbound the device does not reach it any more.
    await user.ok("DELETE", "/app/bindings", {"devices": [{"did": desk.device.device.did}]})
    desk.clock.now = at("2023-11-14T08:30")
    desk.cloud.side.scheduling.tick()
    assert await desk.device.silent()


async def test_the_old_scheduler_tries_again(desk: Desk, user: Person) -> None:
    offline = register(desk.cloud, "000000000001")
    bind(desk.cloud, user.uid, offline)
    dids = [desk.device.device.did, offline.did]
    commands = [{"did": did, "product_key": "x", "attrs": {"power": True}} for did in dids]
    body = {**ONCE, "task": commands, "retry_count": 1, "retry_task": "failed"}
    number = (await user.ok("POST", "/app/scheduler", body, status=201))["id"]
    (shown,) = await user.ok("GET", "/app/scheduler")
    assert (shown["id"], shown["retry_count"], len(shown["task"])) == (number, 1, 2)
    await desk.fires("2023-11-14T08:30")
    first = {
        "datetime": "2023-11-14T08:30:00",
        "status": "failed",
        "detail": {dids[0]: True, dids[1]: False},
    }
    assert await user.ok("GET", f"/app/scheduler/{number}/logs") == [first]
    desk.clock.now += 60
    desk.cloud.side.scheduling.tick()
    second = {"datetime": "2023-11-14T08:31:00", "status": "failed", "detail": {dids[1]: False}}
    assert await user.ok("GET", f"/app/scheduler/{number}/logs") == [second, first]
    desk.clock.now += 600
    desk.cloud.side.scheduling.tick()
    assert len(await user.ok("GET", f"/app/scheduler/{number}/logs")) == 2
    assert await user.ok("DELETE", f"/app/scheduler/{number}") == {}
    await user.refused(9030, "GET", f"/app/scheduler/{number}/logs", status=404)


async def test_the_common_scheduler(desk: Desk, user: Person) -> None:
    did = desk.device.device.did
    named = {"group_name": "g", "product_key": desk.device.device.product_key}
    group = (await user.ok("POST", "/app/group", named, status=201))["id"]
    path = "/app/common_scheduler"
    await user.ok("POST", f"/app/group/{group}/devices", {"dids": [did]})
    scene = (await user.ok("POST", "/app/scene", SCENE(did), status=201))["id"]
    first = (await user.ok("POST", path, {**ONCE, "group_id": group}, status=201))["id"]
    later = {"date": "2023-11-14", "time": "08:40", "repeat": "none"}
    await user.ok("POST", path, {**later, "scene_id": scene}, status=201)
    (shown,) = await user.ok("GET", path, group_id=group)
    assert (shown["id"], shown["product_key"]) == (first, named["product_key"])
    (shown,) = await user.ok("GET", path, scene_id=scene)
    assert shown["product_key"] == ""  # its tasks are of any product
    await desk.fires("2023-11-14T08:30")
    desk.clock.now = at("2023-11-14T08:40")
    desk.cloud.side.scheduling.tick()
    assert await desk.device.received() == ON
    await user.ok("PUT", f"{path}/{first}", {"date": "2023-11-15", "did": did})
    (shown,) = await user.ok("GET", path, did=did)
    assert (shown["did"], shown["group_id"], shown["date"]) == (did, "", "2023-11-15")
    assert await user.ok("DELETE", f"{path}/{first}") == {}
    await user.refused(9030, "DELETE", f"{path}/{first}", status=404)
    await user.refused(9220, "POST", path, {**ONCE, "scene_id": "none"}, status=404)
    await user.refused(9200, "POST", path, {**ONCE, "group_id": "none"}, status=404)
    await user.refused(9015, "POST", path, ONCE, status=400)


def SCENE(did: str) -> dict[str, Any]:  # noqa: N802 - a constant with a gap
    return {
        "scene_name": "evening",
        "remark": "r",
        "tasks": [
            {"task_type": "device", "did": did, "attrs": {"power": True}},
            {"task_type": "delay", "time": 3600},
            {"task_type": "device", "did": did, "raw": base64.b64encode(b"\x05\x09").decode()},
        ],
    }


async def test_a_scene(desk: Desk, user: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    go_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await go_on.wait()

    monkeypatch.setattr(desk.cloud.side.scheduling, "_sleep", sleep)
    number = (await user.ok("POST", "/app/scene", SCENE(desk.device.device.did), status=201))["id"]
    (scene,) = await user.ok("GET", "/app/scene")
    assert (scene["id"], scene["scene_name"], scene["created_at"]) == (
        number,
        "evening",
        "2023-11-14T08:00:00Z",
    )
    assert scene["tasks"][2]["raw"] == "BQk="
    assert set(scene["tasks"][0]) == {
        "task_type",
        "did",
        "product_key",
        "group_id",
        "group_name",
        "raw",
        "attrs",
        "time",
        "dev_remark",
        "dev_alias",
        "verbose_name",
    }
    path = f"/app/scene/{number}/task"
    assert await user.ok("GET", path) == {"status": 3}
    assert await user.ok("POST", path) == {}
    assert await desk.device.received() == ON
    await until(lambda: slept == [3600])
    assert await user.ok("GET", path) == {"status": 0}
    go_on.set()
    assert await desk.device.received() == bytes.fromhex("00000003050000900509")
    await until(lambda: desk.cloud.side.scenes.by_id(number).status == 1)  # type: ignore[union-attr]
    await user.ok("PUT", f"/app/scene/{number}", {"scene_name": "night"})
    assert (await user.ok("GET", "/app/scene"))[0]["scene_name"] == "night"
    await desk.device.client.close()
    await until(lambda: not desk.cloud.hub.is_online(desk.device.device.did))
    await user.ok("POST", path)
    await until(lambda: desk.cloud.side.scenes.by_id(number).status == 2)  # type: ignore[union-attr]
    async with person(desk.cloud, "other") as other:
        await other.refused(9221, "POST", path, status=400)
    assert await user.ok("DELETE", f"/app/scene/{number}") == {}
    await user.refused(9220, "GET", path, status=404)


async def test_tasks_survive_a_restart_and_missed_ones_are_not_made_up_for(
    tmp_path: Path, clock: Clock
) -> None:
    options: dict[str, Any] = {"now": clock, "data": tmp_path, "token_time": 90 * 86400.0}
    async with app_cloud(**options) as cloud, raw_device(cloud) as device, person(cloud) as user:
        bind(cloud, user.uid, device.device)
        path = f"/app/devices/{device.device.did}/scheduler"
        await user.ok("POST", path, {**ONCE, "repeat": "tue,wed"}, status=201)
        did = device.device.did
    clock.now = at("2023-11-14T20:00")  # Tuesday's run has passed meanwhile
    async with app_cloud(**options) as cloud, raw_device(cloud) as device:
        assert device.device.did == did
        cloud.side.scheduling.tick()
        assert await device.silent()
        await Desk(cloud, clock, device).fires("2023-11-15T08:30")


async def test_what_is_late_was_missed(desk: Desk, user: Person) -> None:
    """The machine slept: neither the task nor a retry is made up for."""
    offline = register(desk.cloud, "000000000001")
    bind(desk.cloud, user.uid, offline)
    did = desk.device.device.did
    body = {**ONCE, "task": [{"did": offline.did, "attrs": {"power": True}}], "retry_count": 1}
    number = (await user.ok("POST", "/app/scheduler", body, status=201))["id"]
    await user.ok("POST", f"/app/devices/{did}/scheduler", {**ONCE, "time": "08:40"}, status=201)
    desk.clock.now = at("2023-11-14T08:30")
    desk.cloud.side.scheduling.tick()
    assert len(await user.ok("GET", f"/app/scheduler/{number}/logs")) == 1
    desk.clock.now = at("2023-11-14T16:00")
    desk.cloud.side.scheduling.begin()
    desk.cloud.side.scheduling.tick()
    assert len(await user.ok("GET", f"/app/scheduler/{number}/logs")) == 1
    assert await desk.device.silent()
    await user.ok("POST", f"/app/devices/{did}/scheduler", {**ONCE, "time": "16:30"}, status=201)
    desk.clock.now = at("2023-11-14T16:31") + 1
    desk.cloud.side.scheduling.tick()
    assert await desk.device.silent()


async def test_base64_in_a_task(desk: Desk, user: Person) -> None:
    path = f"/app/devices/{desk.device.device.did}/scheduler"
    await user.ok("POST", path, {**ONCE, "attrs": {}, "raw": "BQk=", "binary_coding": "base64"}, status=201)
    await desk.fires("2023-11-14T08:30", bytes.fromhex("00000003050000900509"))


async def test_a_scene_that_is_deleted_stops(
    desk: Desk, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await go_on.wait()

    monkeypatch.setattr(desk.cloud.side.scheduling, "_sleep", sleep)
    number = (await user.ok("POST", "/app/scene", SCENE(desk.device.device.did), status=201))["id"]
    await user.ok("POST", f"/app/scene/{number}/task")
    assert await desk.device.received() == ON
    await user.ok("DELETE", f"/app/scene/{number}")
    go_on.set()
    assert await desk.device.silent()


async def test_the_clouds_own_task_fires_in_real_time(desk: Desk, user: Person) -> None:
    path = f"/app/devices/{desk.device.device.did}/scheduler"
    desk.clock.now = at("2023-11-14T08:30") - 0.2
    await user.ok("POST", path, ONCE, status=201)
    desk.clock.now = at("2023-11-14T08:30")
    assert await desk.device.received() == ON

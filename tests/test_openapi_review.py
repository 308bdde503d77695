"""The Open API with odd bodies and paths, and the order of its checks (open-api.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support_apps import (
    LAMP,
    MAC,
    PRODUCT_SECRET,
    Person,
    RawDevice,
    app_cloud,
    bind,
    person,
    raw_device,
    register,
    signature,
)
from support_cloud_mqtt import PASSCODE

from gizserial.io.products import load_product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.products import CloudProduct, Credential

PK = "0123456789abcdef0123456789abcdef"
V1 = f"/v1/products/{PK}"


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    lamp = CloudProduct(
        product_key=PK,
        product=load_product(LAMP),
        secret=PRODUCT_SECRET,
        enterprise=Credential("ent", "hidden"),
    )
    async with app_cloud(products=(lamp,)) as running:
        yield running


@pytest.fixture
async def device(cloud: EmbeddedCloud) -> AsyncIterator[RawDevice]:
    async with raw_device(cloud) as online:
        yield online


@pytest.fixture
async def user(cloud: EmbeddedCloud) -> AsyncIterator[Person]:
    async with person(cloud) as somebody:
        yield somebody


# --- bodies


async def test_null_counts_as_not_given(user: Person, device: RawDevice) -> None:
    """§21: the Python SDK unbinds with ``"passcode": null``."""
    did = device.device.did
    listed = {"did": did, "passcode": PASSCODE, "remark": None}
    assert await user.ok("POST", "/app/bindings", {"devices": [listed]}) == {"success": [did], "failed": []}
    listed = {"did": did, "passcode": None}
    assert await user.ok("DELETE", "/app/bindings", {"devices": [listed]}) == {"success": [did], "failed": []}
    await user.ok("POST", "/app/group", {"group_name": "all", "product_key": None}, status=201)


# --- the Enterprise API (§19)


async def test_enterprise_tokens_are_checked_before_bodies(user: Person) -> None:
    """§2: the order of the checks; every answer carries the rate limit."""
    for body in ({}, {"attrs": {"power": 1}}):
        answer = await user("POST", f"{V1}/devices/none/control", body)
        assert answer.json()["error_code"] == 5009
        assert answer.headers["x-ratelimit-limit"] == "3600"
    answer = await user("POST", "/v1/products/none/devices/none/control", {})
    assert answer.json()["error_code"] == 5015


async def test_enterprise_body_that_is_no_json(user: Person) -> None:
    answer = await user.http.post(f"{V1}/access_token", content=b"{")
    assert (answer.status_code, answer.json()["error_code"]) == (400, 5001)
    await user.refused(5002, "POST", f"{V1}/access_token", {}, status=400)


# --- control (§9)


@pytest.mark.parametrize(
    ("body", "packet"),
    [
        ({"raw": ["1", 1, "3"]}, "0000000306000090010103"),
        ({"raw": [1, 1, 3], "attrs": None}, "0000000306000090010103"),
        ({"attrs": None, "attr": {"power": 1}}, "000000030a00009001010100000000"),
        ({"attrs": {"power": 1}, "raw": ["no byte"]}, "000000030a00009001010100000000"),
    ],
)
async def test_bodies_of_control(
    cloud: EmbeddedCloud, user: Person, device: RawDevice, body: Any, packet: str
) -> None:
    """§1 numbers as text; §9 both present: attrs counts."""
    bind(cloud, user.uid, device.device)
    assert await user.ok("POST", f"/app/control/{device.device.did}", body) == {}
    assert await device.received() == bytes.fromhex(packet)


async def test_forms_are_checked_before_devices(user: Person) -> None:
    """§2: route → appid → user token → other headers → body form → referenced objects."""
    await user.refused(9015, "POST", "/app/control/none", {"attrs": {}})
    await user.refused(9015, "GET", "/app/devices/none/raw_data", type="cmd", start_time=2, end_time=1)


# --- bindings (§7)


async def test_a_timestamp_may_be_off_by_300_seconds() -> None:
    async with app_cloud(now=lambda: 1700000300.9) as cloud, person(cloud) as user:
        register(cloud)
        for stamp, code in ((1700000000, 201), (1700000600, 201), (1699999999, 400), (1700000601, 400)):
            user.http.headers.update(signature(stamp))
            answer = await user("POST", "/app/bind_mac", {"product_key": PK, "mac": MAC})
            assert answer.status_code == code, stamp


async def test_an_app_uses_only_its_products(cloud: EmbeddedCloud, device: RawDevice) -> None:
    """R7: a violation is 9002; the older binding names it in ``failed``."""
    cloud.side.accounts.add_app("narrow", "secret", products=("other",))
    did = device.device.did
    async with person(cloud, appid="narrow") as user:
        body = {"devices": [{"did": did, "passcode": PASSCODE}]}
        assert await user.ok("POST", "/app/bindings", body) == {"success": [], "failed": [did]}
        await user.refused(9002, "GET", "/app/devices", status=400, product_key=PK, mac=MAC)


async def test_many_bindings_wait_for_the_disk_once(tmp_path: Path) -> None:
    """A thousand waits would hold up everybody else."""
    async with app_cloud(data=tmp_path) as cloud, person(cloud) as user:
        devices = [register(cloud, f"{number:012x}") for number in range(20)]
        commits: list[str] = []
        cloud.store.database._db.set_trace_callback(
            lambda sql: commits.append(sql) if sql == "COMMIT" else None
        )
        listed = [{"did": device.did, "passcode": PASSCODE} for device in devices]
        for method in ("POST", "DELETE"):
            commits.clear()
            found = await user.ok(method, "/app/bindings", {"devices": listed})
            assert len(found["success"]) == 20
            assert len(commits) <= 2

"""The Open API with odd bodies and paths, and the order of its checks (open-api.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support_apps import (
    LAMP,
    PRODUCT_SECRET,
    Person,
    RawDevice,
    app_cloud,
    person,
    raw_device,
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

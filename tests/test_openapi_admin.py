"""The admin API: what it does, and whom it refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support_apps import APPID, LAMP, MAC, Person, app_cloud, person, raw_device, register
from support_cloud_mqtt import until

from sim.cloud.app import EmbeddedCloud

HEATER = Path(__file__).parent.parent / "fixtures/products/heater.json"
PK = "0123456789abcdef0123456789abcdef"


class Admin:
    """A program of this machine."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        content = None if body is None else json.dumps(body)
        answer = await self.client.request(method, f"/admin{path}", content=content)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud() as running:
        yield running


@pytest.fixture
async def admin(cloud: EmbeddedCloud) -> AsyncIterator[Admin]:
    async with httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}") as client:
        yield Admin(client)


async def test_products(admin: Admin, cloud: EmbeddedCloud) -> None:
    definition = json.loads(HEATER.read_bytes())
    made = await admin(
        "POST",
        "/products",
        {"definition": definition, "snoti": [{"auth_id": "a", "auth_secret": "b"}]},
        status=201,
    )
    assert (made["product_key"], len(made["product_secret"])) == (definition["product_key"], 32)
    listed = {product["product_key"]: product for product in await admin("GET", "/products")}
    assert listed[made["product_key"]] == {
        "product_key": made["product_key"],
        "name": "Pilote2",
        "has_secret": True,
        "has_definition": True,
        "shared": False,
        "snoti": ["a"],
        "enterprise": None,
    }
    await admin("DELETE", f"/products/{made['product_key']}")
    await admin("DELETE", f"/products/{made['product_key']}", status=400)
    odd = await admin("POST", "/products", {"product_key": "of any form!"}, status=400)
    assert odd["error_code"] == 9015
    definition["entities"] = []
    wrong = await admin("POST", "/products", {"definition": definition}, status=400)
    assert "$.entities" in wrong["detail_message"]


async def test_what_was_added_survives_a_restart(tmp_path: Path) -> None:
    for turn in range(2):
        async with app_cloud(data=tmp_path) as cloud:
            base = f"http://{cloud.addresses['http']}"
            async with httpx.AsyncClient(timeout=30, base_url=base) as client:
                admin = Admin(client)
                if turn == 0:
                    await admin(
                        "POST", "/products", {"definition": json.loads(HEATER.read_bytes())}, status=201
                    )
                    await admin("POST", "/apps", {"appid": "mine"}, status=201)
                keys = {product["product_key"] for product in await admin("GET", "/products")}
                assert "9420ae048da545c88fc6274d204dd25f" in keys
                assert "mine" in {app["appid"] for app in await admin("GET", "/apps")}


async def test_apps_users_devices_and_bindings(admin: Admin, cloud: EmbeddedCloud) -> None:
    made = await admin("POST", "/apps", {"products": [PK]}, status=201)
    assert (len(made["appid"]), len(made["appsecret"])) == (32, 32)
    uid = (await admin("POST", "/users", {"email": "a@b.c", "password": "x"}, status=201))["uid"]
    again = await admin("POST", "/users", {"email": "A@B.C", "password": "x"}, status=400)
    assert again["error_code"] == 9022
    body = {"product_key": PK, "mac": "virtual:site"}
    device = await admin("POST", "/devices", body, status=201)
    assert (device["mac"], device["is_online"], len(device["passcode"])) == ("virtual:site", False, 10)
    assert (await admin("POST", "/devices", body, status=201))["did"] == device["did"]
    bound = await admin("POST", "/bindings", {"uid": uid, "did": device["did"], "appid": APPID}, status=201)
    assert bound["role"] == "special"
    assert await admin("GET", "/bindings") == [bound]
    assert (await admin("GET", "/devices"))[0]["users"] == [uid]
    await admin("DELETE", "/bindings", {"uid": uid, "did": device["did"]})
    await admin("DELETE", "/bindings", {"uid": uid, "did": device["did"]}, status=401)
    assert (await admin("PATCH", f"/devices/{device['did']}", {"disabled": True}))["is_disabled"] is True
    assert await admin("GET", "/status") == {
        "products": 1,
        "apps": 2,
        "users": 1,
        "devices": 1,
        "online": 0,
    }
    await admin("DELETE", f"/devices/{device['did']}")
    await admin("DELETE", f"/devices/{device['did']}", status=404)
    await admin("DELETE", f"/users/{uid}")
    await admin("DELETE", f"/users/{uid}", status=400)
    await admin("DELETE", f"/apps/{made['appid']}")
    await admin("DELETE", f"/apps/{made['appid']}", status=400)


async def test_who_gets_a_device_of_a_shared_product_first_owns_it() -> None:
    """By the admin API as by bind_mac (open-api.md §7.1)."""
    async with (
        app_cloud(shared=True) as cloud,
        person(cloud, "one") as one,
        person(cloud, "two") as two,
        httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}") as client,
    ):
        admin = Admin(client)
        did = (await admin("POST", "/devices", {"product_key": PK, "mac": MAC}, status=201))["did"]
        bound = await admin("POST", "/bindings", {"uid": one.uid, "did": did}, status=201)
        assert bound["role"] == "owner"
        second = await admin("POST", "/bindings", {"uid": two.uid, "did": did}, status=400)
        assert second["error_code"] == 9092
        cloud.side.bindings.want(one.uid, APPID, PK, "later")
        await admin("POST", "/devices", {"product_key": PK, "mac": "later"}, status=201)
        assert [each["role"] for each in await admin("GET", "/bindings")] == ["owner", "owner"]


async def test_the_outbox(admin: Admin, cloud: EmbeddedCloud) -> None:
    headers = {"X-Gizwits-Application-Id": APPID}
    await admin.client.post("/app/codes", json={"phone": "138"}, headers=headers)
    (letter,) = (await admin.client.get("/admin/outbox", params={"target": "138"})).json()
    assert (letter["kind"], letter["target"], len(letter["text"])) == ("sms", "138", 6)
    used = await admin.client.post(
        "/app/codes", json={"phone": "138", "code": letter["text"]}, headers=headers
    )
    assert used.status_code == 200


async def test_faults(admin: Admin, cloud: EmbeddedCloud) -> None:
    async with person(cloud) as user, raw_device(cloud) as device:
        await admin("POST", "/faults/throttle", {"calls": 1})
        await user.refused(9041, "GET", "/app/bindings", status=429)
        await user.ok("GET", "/app/bindings")
        await admin("POST", f"/users/{user.uid}/expire_tokens")
        await user.refused(9006, "GET", "/app/bindings")
        await admin("POST", f"/users/{user.uid}/revoke_tokens")
        await user.refused(9004, "GET", "/app/bindings")
        await admin("POST", f"/devices/{device.device.did}/disconnect")
        await until(lambda: not cloud.hub.is_online(device.device.did))
        await admin("POST", f"/devices/{device.device.did}/disconnect", status=400)
        assert await admin("POST", "/faults/lose_session", {}) == {"sessions": 0}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://page.example"},
        {"Origin": "null"},
        {"Host": "page.example"},
        {"Host": "page.example/@127.0.0.1"},
        {"Host": "127.0.0.1@page.example"},
        {"Host": "["},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_web_pages_are_refused(admin: Admin, cloud: EmbeddedCloud, headers: dict[str, str]) -> None:
    register(cloud, MAC)
    for method, path in (("GET", "/devices"), ("POST", "/apps")):
        answer = await admin.client.request(method, f"/admin{path}", headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        assert MAC not in answer.text
    nonsense = await admin.client.post("/admin/apps", content=b"{", headers=headers)
    assert nonsense.status_code == 403
    preflight = await admin.client.options("/admin/apps", headers=headers)
    assert "access-control-allow-origin" not in preflight.headers


async def test_other_machines_are_refused(cloud: EmbeddedCloud) -> None:
    transport = httpx.ASGITransport(cloud.application(), client=("192.0.2.1", 1))
    async with httpx.AsyncClient(timeout=30, transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/admin/devices")).status_code == 403


async def test_it_can_be_switched_off() -> None:
    async with app_cloud(LAMP, admin=False) as cloud, person(cloud) as user:
        assert (await _status(user, "/admin/status")) == 404


async def _status(user: Person, path: str) -> int:
    return (await user("GET", path)).status_code

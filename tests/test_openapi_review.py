"""The Open API with odd bodies and paths, and the order of its checks (open-api.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from support_apps import (
    APPID,
    LAMP,
    MAC,
    PRODUCT_SECRET,
    Person,
    RawDevice,
    app_cloud,
    bind,
    person,
    product_of,
    raw_device,
    register,
    signature,
)
from support_cloud_mqtt import PASSCODE, until

from gizserial.io.products import load_product
from gizserial.m2m.frames import ACK
from gizserial.p0 import Action
from sim.cloud.app import EmbeddedCloud
from sim.cloud.errors import StoreError
from sim.cloud.openapi.aggregation import Aggregated, aggregated
from sim.cloud.openapi.calls import Call
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


async def enterprise(user: Person) -> None:
    """Let somebody use the Enterprise API."""
    body = {"enterprise_id": "ent", "enterprise_secret": "hidden", "product_secret": PRODUCT_SECRET}
    granted = await user.ok("POST", f"{V1}/access_token", body, status=201)
    user.http.headers["Authorization"] = f"token {granted['token']}"


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


async def test_schedulers_check_forms_before_devices(user: Person) -> None:
    task = {"time": "07:30", "repeat": "mon"}
    for body in ({}, task, {**task, "raw": "xx"}):
        await user.refused(9015, "POST", "/app/devices/none/scheduler", body)
    await user.refused(9014, "POST", "/app/devices/none/scheduler", {**task, "raw": "01"})
    await user.refused(9015, "POST", "/app/scheduler", {**task, "task": [{"did": "none", "attrs": {}}]})
    await user.refused(9015, "POST", "/app/common_scheduler", {**task, "did": "none"})
    await user.refused(9015, "POST", "/app/sharing", {"type": 0, "did": "none"})


# --- users (§6)


async def test_changes_that_change_nothing(user: Person) -> None:
    """§6.3: all values equal to the stored ones is 9999, the password too."""
    await user.ok("PUT", "/app/users", {"username": "bench", "password": "secret"})
    await user.refused(9999, "PUT", "/app/users", {"old_pwd": "secret", "new_pwd": "secret"}, status=400)
    await user.refused(9020, "PUT", "/app/users", {"old_pwd": "other", "new_pwd": "other"}, status=400)
    await user.ok("PUT", "/app/users", {"old_pwd": "secret", "new_pwd": "secret", "name": "B"})


async def test_a_code_is_not_used_up_by_a_body_that_does_not_fit(cloud: EmbeddedCloud, user: Person) -> None:
    cloud.side.outbox.send_code("13800000000")
    code = cloud.side.outbox.letters("13800000000")[0].text
    body = {"phone": "13800000000", "code": code}
    await user.refused(9015, "PUT", "/app/users", body)
    await user.ok("PUT", "/app/users", {**body, "password": "secret"})


async def test_what_has_expired_stays_expired() -> None:
    """§2: an expired token is 9006, §6.1: an expired code 9009; the second time they are no other."""
    clock = [1700000000.0]
    async with app_cloud(now=lambda: clock[0]) as cloud, person(cloud) as user:
        cloud.side.outbox.send_code("13800000000")
        code = cloud.side.outbox.letters("13800000000")[0].text
        clock[0] += 7 * 86400 - 1
        await user.ok("GET", "/app/users")
        clock[0] += 1
        for _ in range(2):
            await user.refused(9006, "GET", "/app/users", status=400)
            body = {"phone": "13800000000", "code": code}
            await user.refused(9009, "POST", "/app/codes", body, status=400)
        clock[0] += 7 * 86400
        cloud.side.accounts.issue_token(user.uid, "another")  # which forgets the oldest
        await user.refused(9006, "GET", "/app/users", status=400)


async def test_a_long_password_is_good_for_logging_in_too(user: Person) -> None:
    body = {"username": "long", "password": "x" * 300}
    await user.ok("PUT", "/app/users", body)
    await user.ok("POST", "/app/login", body)


# --- HTTP (§1, §4)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/nothing", 404), ("PATCH", "/app/users", 405)]
)
async def test_refusals_of_paths_for_form_typed_clients(
    user: Person, method: str, path: str, status: int
) -> None:
    """§1: the old jQuery client parses whatever comes by itself."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await user.http.request(method, path, headers=form)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json()["error_code"] == 9999


async def test_a_fault_is_9008_and_tells_nothing(
    cloud: EmbeddedCloud, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_uid: str) -> Any:
        raise StoreError("/secret/place/gizsim.db is full")

    monkeypatch.setattr(cloud.side.bindings, "of_user", broken)
    answer = await user("GET", "/app/bindings")
    assert answer.status_code == 500
    assert answer.json() == {"error_message": "server error", "error_code": 9008, "detail_message": None}
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_request_as_to_a_proxy(cloud: EmbeddedCloud) -> None:
    """RFC 9112 §3.2.2: a server takes the whole URL too; an app's proxy setting leads here."""
    address = cloud.addresses["http"]
    async with httpx.AsyncClient(timeout=30, proxy=f"http://{address}") as client:
        answer = await client.get("http://api.gizwits.com/status")
        assert answer.json() == {"status": {"version": "2.15.1"}}
        answer = await client.get("http://euapi.gizwits.com/app/bindings/?limit=1")
        assert answer.json()["error_code"] == 9003


# --- data (§8, §16)


async def test_an_answer_with_data_counts_as_a_report(
    cloud: EmbeddedCloud, user: Person, device: RawDevice
) -> None:
    """§8.3: ``updated_at`` is 0 only while ``attr`` is empty."""
    did = device.device.did
    raw = {"temp": device.product.point("temp").raw(20)}
    read_reply = bytes([Action.READ_REPLY]) + device.p0.report(raw)[1:]
    device.send(read_reply, ACK, 5, "usr1")
    await until(lambda: bool(cloud.side.device(did).state))
    shown = await user.ok("GET", f"/app/devdata/{did}/latest")
    assert shown["attr"]["temp"] == 20
    assert shown["updated_at"] > 0


async def test_a_long_history_holds_nobody_up(cloud: EmbeddedCloud, user: Person) -> None:
    """§16: the loop turns while much is added up; reports of one moment all count."""
    device = register(cloud)
    bind(cloud, user.uid, device)
    raw = product_of(cloud).point("temp").raw(1)
    start = cloud.side.now() - 3600
    with cloud.store.database.transaction():
        for number in range(1201):
            cloud.side.history.data(device.did, start + number // 700, {"temp": raw})
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    spinning = asyncio.create_task(spin())
    call = Call(cloud.side, Request({"type": "http", "path_params": {"did": device.did}}))
    call._user = cloud.side.accounts.user(user.uid)
    call._query = Aggregated(start_ts=0, attrs="temp", aggregator="sum", unit="MONTHS")
    found = await aggregated(call)
    assert turns >= 2
    spinning.cancel()
    assert sum(bucket["attrs"]["temp"] for bucket in found["data"]) == 1201


async def test_enterprise_bindings_by_lists(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    """§19: by did or mac lists; the documentation calls them ``dids``."""
    await enterprise(user)
    did, body = device.device.did, {"appid": APPID, "uid": user.uid}
    for named in ({"dids": [did]}, {"did": [did]}, {"mac": [MAC.upper()]}, {"dids": did}, {"macs": [MAC]}):
        (shown,) = named.values()
        shown = shown if isinstance(shown, list) else [shown]
        for method in ("POST", "DELETE"):
            found = await user.ok(method, f"{V1}/devices/bindings", {**body, **named})
            assert found == {"success": shown, "failed": []}
    await user.refused(5002, "POST", f"{V1}/devices/bindings", body)


async def test_enterprise_history_is_of_two_days_by_default(
    cloud: EmbeddedCloud, user: Person, device: RawDevice
) -> None:
    await enterprise(user)
    did = device.device.did
    device.report(power=True)
    await until(lambda: bool(cloud.side.device(did).state))
    for kind, span in (("online", {}), ("cmd", {}), ("data", {"start_ts": int(cloud.side.now()) - 60})):
        page = await user.ok("GET", f"{V1}/devices/{did}/{kind}", **span)
        assert page["objects"], kind


async def test_enterprise_search_shows_the_newest_first(cloud: EmbeddedCloud, user: Person) -> None:
    """§5, style B."""
    await enterprise(user)
    dids = [register(cloud, f"{number:012x}").did for number in range(3)]
    page = await user.ok("GET", f"{V1}/devices/search")
    assert [shown["did"] for shown in page["objects"]] == dids[::-1]


async def test_the_fixed_code_is_a_setting() -> None:
    """§6.7: the fixed value (configurable) always matches."""
    async with app_cloud(fixed_code="777") as cloud, person(cloud) as user:
        body = {"phone": "13800000000", "password": "secret"}
        await user.refused(9010, "PUT", "/app/users", {**body, "code": "123456"})
        await user.ok("PUT", "/app/users", {**body, "code": "777"})


async def test_strong_passwords_are_a_setting() -> None:
    """R4: 8 characters or more, of three kinds; off unless it is wanted."""
    async with app_cloud(strong_passwords=True) as cloud, person(cloud) as user:
        for weak in ("Aa1-", "abcdefgh1", "ABCDEFGHI"):
            await user.refused(9015, "POST", "/app/users", {"username": "u", "password": weak})
            await user.refused(9015, "PUT", "/app/users", {"email": "a@b.example", "password": weak})
        await user.ok("PUT", "/app/users", {"username": "u", "password": "Abcdefg1"})
        await user.refused(9015, "PUT", "/app/users", {"old_pwd": "Abcdefg1", "new_pwd": "weak"})


@pytest.mark.parametrize("path", ["/summary", "/devices/report/rt", "/users/search", "/fault/report/devices"])
async def test_enterprise_reports_are_not_made(user: Person, path: str) -> None:
    """§19: reports and user search, 404/5014."""
    await user.refused(5009, "GET", f"{V1}{path}")
    await enterprise(user)
    await user.refused(5014, "GET", f"{V1}{path}", status=404)


@pytest.mark.parametrize("text", ["abc", "1.0", "1_0", "", "0x10", "\u0661"])
async def test_pages_are_of_integers(user: Person, text: str) -> None:
    """§5."""
    await user.refused(9015, "GET", "/app/bindings", status=400, limit=text)
    await user.refused(9015, "GET", "/app/messages", status=400, skip=text)
    assert await user.ok("GET", "/app/bindings", limit="-1", skip="-1") == {"devices": []}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": "bench", "password": "secret"}, 200),
        ({"phone": "13800000000", "password": "secret", "code": "123456"}, 200),
        ({"email": "a@b.example", "password": "secret"}, 201),
        ({"authData": {"src": "qq", "uid": "1", "token": "t"}, "password": "secret"}, 201),
        ({"phone_id": "another", "password": "secret"}, 201),
    ],
)
async def test_what_converts_an_anonymous_user(user: Person, body: Any, status: int) -> None:
    """§6.1, R16: only user name or phone with password; everything else makes a user as ever."""
    answer = await user.ok("POST", "/app/users", body, status=status)
    assert set(answer) == ({"updatedAt"} if status == 200 else {"uid", "token", "expire_at"})
    assert (await user.ok("GET", "/app/users"))["is_anonymous"] is (status == 201)


async def test_bodies_of_php_and_python(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    """§21: PHP writes an empty object as ``[]``; the Python SDK documents ``task`` as one object."""
    await user.ok("POST", "/app/provision", [], status=201)
    await user.refused(9015, "POST", "/app/users", [])
    await user.refused(9015, "POST", "/app/users", [1])
    bind(cloud, user.uid, device.device)
    command = {"did": device.device.did, "product_key": PK, "attrs": {"power": 1}}
    await user.ok("POST", "/app/scheduler", {"time": "07:30", "repeat": "mon", "task": command}, status=201)
    (task,) = await user.ok("GET", "/app/scheduler")
    assert task["task"][0]["did"] == device.device.did


async def test_too_long_a_head_is_told_to_pages_too(user: Person) -> None:
    """§1: every response, errors included, carries the header of CORS."""
    answer = await user.http.get("/app/bindings", params={"limit": "1" * 20_000})
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json()["error_code"] == 9015

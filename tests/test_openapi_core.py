"""The Open API over real sockets: the vectors of open-api.md §22, and the rules of its core (§1–§9)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support_apps import (
    APPID,
    MAC,
    Person,
    RawDevice,
    app_cloud,
    bind,
    person,
    product_of,
    raw_device,
    register,
    signature,
    visitor,
)
from support_cloud_mqtt import PASSCODE, until

from sim.cloud.api_errors import ERRORS
from sim.cloud.app import EmbeddedCloud


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud() as running:
        yield running


@pytest.fixture
async def device(cloud: EmbeddedCloud) -> AsyncIterator[RawDevice]:
    async with raw_device(cloud) as online:
        yield online


@pytest.fixture
async def user(cloud: EmbeddedCloud) -> AsyncIterator[Person]:
    async with person(cloud) as somebody:
        yield somebody


# --- §22, the vectors


def test_vector_1_signature_of_bind_mac() -> None:
    assert signature(1700000000)["X-Gizwits-Signature"] == "3f688b8a08d9426f62c3e23978be282f"


async def test_vector_2_application_auth(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        good = {"X-Gizwits-Application-Auth": "64eab68c4013d7dca144d99c12b5600b"}
        answer = await client.post("/app/request_token", headers=good)
        assert answer.status_code == 201
        assert set(answer.json()) == {"token", "expired_at"}
        bad = await client.post("/app/request_token", headers={"X-Gizwits-Application-Auth": "0" * 32})
        assert (bad.status_code, bad.json()["error_code"]) == (400, 9038)


async def test_vector_3_an_anonymous_user_twice(cloud: EmbeddedCloud) -> None:
    async with person(cloud) as first, person(cloud) as second:
        assert first.uid == second.uid
        assert first.token != second.token
        for one in (first, second):
            assert (await one.ok("GET", "/app/users"))["is_anonymous"] is True


@pytest.mark.parametrize(("age", "status"), [(301, 400), (300, 201), (-300, 201), (-301, 400)])
async def test_vector_4_the_timestamp(age: int, status: int) -> None:
    stopped = 1_700_000_000  # the cloud's clock stands: the request's own time must not count
    async with app_cloud(now=lambda: float(stopped)) as cloud, person(cloud) as user:
        register(cloud)
        user.http.headers.update(signature(stopped - age))
        answer = await user(
            "POST", "/app/bind_mac", {"product_key": product_of(cloud).product_key, "mac": MAC}
        )
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["error_code"] == 9043


async def test_vector_5_the_case_of_the_mac(cloud: EmbeddedCloud, user: Person) -> None:
    register(cloud)
    user.http.headers.update(signature(int(time.time())))
    body = {"product_key": product_of(cloud).product_key, "mac": MAC.upper()}
    assert (await user.ok("POST", "/app/bind_mac", body, status=201))["mac"] == MAC


async def test_vector_6_unbound_and_offline(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    did = device.device.did
    answer = await user("POST", f"/app/control/{did}", {"attrs": {"power": True}})
    assert answer.status_code == 401
    assert answer.json() == {
        "error_message": "device not bound!",
        "error_code": 9017,
        "detail_message": None,
    }
    assert await device.silent()
    offline = register(cloud, "5ccf7f0a1b2d")
    bind(cloud, user.uid, offline)
    await user.refused(9042, "POST", f"/app/control/{offline.did}", {"attrs": {"power": True}}, status=400)


@pytest.mark.parametrize(("count", "pages"), [(45, [20, 20, 5]), (40, [20, 20, 0])])
async def test_vector_7_paging(cloud: EmbeddedCloud, user: Person, count: int, pages: list[int]) -> None:
    dids = [register(cloud, f"{number:012x}") for number in range(count)]
    for found in dids:
        bind(cloud, user.uid, found)
    got: list[str] = []
    for number, size in enumerate(pages):
        page = (await user.ok("GET", "/app/bindings", limit=20, skip=20 * number))["devices"]
        assert len(page) == size
        got += [record["did"] for record in page]
    assert got == [found.did for found in dids]


async def test_vector_8_escapes_and_utf8(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    bind(cloud, user.uid, device.device)
    packets = []
    for text in (b'{"attrs":{"mode":"\\u5236\\u51b7"}}', '{"attrs":{"mode":"制冷"}}'.encode()):
        answer = await user.http.post(f"/app/control/{device.device.did}", content=text)
        assert (answer.status_code, answer.text) == (200, "{}")
        packets.append(await device.received())
    assert packets[0] == packets[1]


async def test_vector_9_raw_is_the_body_after_0090(
    cloud: EmbeddedCloud, device: RawDevice, user: Person
) -> None:
    bind(cloud, user.uid, device.device)
    await user.ok("POST", f"/app/control/{device.device.did}", {"raw": [1, 1, 3]})
    assert await device.received() == bytes.fromhex("0000000306000090010103")


async def test_vector_10_never_reported(cloud: EmbeddedCloud) -> None:
    did = register(cloud).did
    async with visitor(cloud) as client:
        answer = await client.get(f"/app/devdata/{did}/latest")
        assert answer.status_code == 200
        assert answer.json() == {"did": did, "updated_at": 0, "attr": {}}


async def test_vector_11_preflight(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        for path in ("/app/users", "/no/such/path", "/app/control/x"):
            answer = await client.options(
                path,
                headers={
                    "Origin": "https://page.example",
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "content-type,x-gizwits-application-id",
                },
            )
            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == "*"
            allowed = {
                name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")
            }
            assert {
                "content-type",
                "authorization",
                "x-gizwits-application-id",
                "x-gizwits-user-token",
                "x-gizwits-application-auth",
                "x-gizwits-application-token",
                "x-gizwits-timestamp",
                "x-gizwits-signature",
            } <= allowed
            methods = {name.strip() for name in answer.headers["access-control-allow-methods"].split(",")}
            assert methods == {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
            assert answer.headers["access-control-max-age"] == "86400"


async def test_vector_12_the_appid_comes_first(cloud: EmbeddedCloud, user: Person) -> None:
    async with httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}") as client:
        answer = await client.get("/app/bindings", headers={"X-Gizwits-User-token": "bad"})
        assert (answer.status_code, answer.json()["error_code"]) == (400, 9003)
    assert await user.ok("GET", "/app/bindings", []) == {"devices": []}


async def test_vector_13_a_form_typed_client(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        answer = await client.post(
            "/app/users",
            content='{"phone_id":"oLocal1"}',
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 201
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert set(answer.json()) == {"uid", "token", "expire_at"}


# --- §1, §4: transport and errors


@pytest.mark.parametrize("kind", [None, "text/plain", "application/json", "application/octet-stream"])
async def test_json_whatever_the_type_says(cloud: EmbeddedCloud, kind: str | None) -> None:
    async with visitor(cloud) as client:
        headers = {} if kind is None else {"Content-Type": kind}
        answer = await client.post("/app/users/", content=b'{"phone_id":1}', headers=headers)
        assert answer.status_code == 201
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "body",
    [b"[]", b'"x"', b"{", b"\xff\xfe", b'{"phone_id":' + b"[" * 10_000 + b"]" * 10_000 + b"}", b"NaN"],
)
async def test_bodies_that_are_none(cloud: EmbeddedCloud, body: bytes) -> None:
    async with visitor(cloud) as client:
        answer = await client.post("/app/users", content=body)
        assert (answer.status_code, answer.json()["error_code"]) == (400, 9015)
        assert answer.headers["content-type"] == "application/json"


async def test_paths_and_methods_that_are_none(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        unknown = await client.get("/app/nonsense")
        assert unknown.status_code == 404
        assert unknown.json() == {"error_message": "not found", "error_code": 9999, "detail_message": None}
        wrong = await client.delete("/app/login")
        assert (wrong.status_code, wrong.json()["error_code"]) == (405, 9999)
        for answer in (unknown, wrong):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["content-type"] == "application/json"


async def test_status_and_errors(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        assert (await client.get("/status")).json() == {"status": {"version": "2.15.1"}}
        rows = (await client.get("/errors")).json()
        assert {(row["status"], row["error_code"], row["error_message"]) for row in rows} == {
            (spec.status, code, spec.message) for code, spec in ERRORS.items()
        }
        assert {"status": 401, "error_code": 9017, "error_message": "device not bound!"} in rows


# --- §6: users


async def test_login(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:

        async def post(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            answer = await client.post(path, json=body)
            return answer.status_code, answer.json()

        named = {"username": "bench", "password": "secret"}
        mail = {"email": "Bench@example.com", "password": "secret"}
        phone = {"phone": "13800000000", "password": "secret", "code": "123456"}
        for body in (named, mail, phone):
            status, granted = await post("/app/users", body)
            assert status == 201
            for name in (body.get("username"), body.get("email"), body.get("phone")):
                if name:
                    status, again = await post("/app/login", {"username": name, "password": "secret"})
                    assert (status, again["uid"]) == (200, granted["uid"])
                    assert again["expire_at"] - int(time.time()) in range(7 * 86400 - 5, 7 * 86400 + 1)
        for code, body in ((9019, named), (9022, mail), (9018, phone), (9010, {**phone, "code": "1"})):
            assert (await post("/app/users", body))[1]["error_code"] == code
        for code, login in (
            (9005, {"username": "nobody", "password": "x"}),
            (9020, {"username": "bench", "password": "x"}),
            (9015, {"username": "bench"}),
            (9015, {"password": "x"}),
        ):
            status, refused = await post("/app/login", login)
            assert (status, refused["error_code"]) == (400, code)


async def test_third_party_users(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        third = {"src": "wechat", "uid": "u1", "token": "t"}
        uids = {
            (await client.post("/app/users", json=body)).json()["uid"]
            for body in (third, {"authData": third}, {"authData": third})
        }
        assert len(uids) == 1
        bad = await client.post("/app/users", json={**third, "src": "nowhere"})
        assert bad.json()["error_code"] == 9015


async def test_an_anonymous_user_gets_a_name(cloud: EmbeddedCloud, user: Person) -> None:
    changed = await user.ok("PUT", "/app/users", {"username": "me", "password": "secret"})
    assert set(changed) == {"updatedAt"}
    async with visitor(cloud) as client:
        login = await client.post("/app/login", json={"username": "me", "password": "secret"})
        assert login.json()["uid"] == user.uid
    shown = await user.ok("GET", "/app/users")
    assert (shown["username"], shown["is_anonymous"]) == ("me", False)


async def test_conversion_by_post(user: Person) -> None:
    """R16: POST with the token of an anonymous user is a conversion."""
    answer = await user.ok("POST", "/app/users", {"username": "me", "password": "secret"})
    assert set(answer) == {"updatedAt"}


async def test_a_change_of_password_revokes_the_other_tokens(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        body = {"username": "bench", "password": "secret"}
        first = (await client.post("/app/users", json=body)).json()["token"]
        second = (await client.post("/app/login", json=body)).json()["token"]
        headers = {"X-Gizwits-User-token": second}
        wrong = await client.put("/app/users", json={"old_pwd": "x", "new_pwd": "y"}, headers=headers)
        assert wrong.json()["error_code"] == 9020
        right = await client.put("/app/users", json={"old_pwd": "secret", "new_pwd": "y"}, headers=headers)
        assert right.status_code == 200
        assert (await client.get("/app/users", headers=headers)).status_code == 200
        gone = await client.get("/app/users", headers={"X-Gizwits-User-token": first})
        assert (gone.status_code, gone.json()["error_code"]) == (400, 9004)


async def test_profile(user: Person) -> None:
    profile = {"name": "小明", "gender": "M", "birthday": "2000-01-01", "address": "x", "remark": "y"}
    await user.ok("PUT", "/app/users", profile)
    shown = await user.ok("GET", "/app/users")
    assert {name: shown[name] for name in profile} == profile
    await user.refused(9999, "PUT", "/app/users", profile, status=400)
    await user.refused(9015, "PUT", "/app/users", {})
    await user.refused(9015, "PUT", "/app/users", {"gender": "X"})


async def test_codes_and_captcha(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        await client.post("/app/users", json={"phone": "138", "password": "old", "code": "123456"})
        token = cloud.side.accounts.issue_app_token(APPID).token
        headers = {"X-Gizwits-Application-Token": token}
        assert (await client.post("/app/sms_code", json={"phone": "138"})).json()["error_code"] == 9004
        shown = (await client.get("/app/verify/codes", headers=headers)).json()
        assert shown["captcha_url"] == f"{client.base_url}/captcha/image/{shown['captcha_id']}/"
        image = await client.get(shown["captcha_url"])
        assert image.headers["content-type"] == "image/svg+xml"
        assert ">1234<" in image.text
        body = {"captcha_id": shown["captcha_id"], "captcha_code": "1234", "phone": "138"}
        assert (await client.post("/app/verify/codes", json=body, headers=headers)).status_code == 201
        assert (await client.post("/app/verify/codes", json=body, headers=headers)).json()[
            "error_code"
        ] == 9010
        (letter,) = cloud.side.outbox.letters("138")
        verify = {"phone": "138", "sms_code": letter.text}
        assert (await client.put("/app/verify/codes", json=verify, headers=headers)).status_code == 200
        assert (await client.put("/app/verify/codes", json=verify, headers=headers)).json()[
            "error_code"
        ] == 9010
        await client.post("/app/codes", json={"phone": "138"})
        code = cloud.side.outbox.letters("138")[0].text
        reset = {"phone": "138", "code": code, "new_pwd": "new"}
        assert (await client.post("/app/reset_password", json=reset)).json() == {}
        login = await client.post("/app/login", json={"username": "138", "password": "new"})
        assert login.status_code == 200
        unknown = await client.put("/app/reset_password", json={"email": "no@example.com"})
        assert unknown.json()["error_code"] == 9005


async def test_tokens_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1_700_000_000.0
    async with app_cloud(now=lambda: moment) as cloud, person(cloud) as user:
        assert (await user.ok("GET", "/app/bindings"))["devices"] == []
        moment += 7 * 86400 - 1
        await user.ok("GET", "/app/bindings")
        moment += 2
        await user.refused(9006, "GET", "/app/bindings", status=400)


# --- §7: bindings


async def test_the_record_of_a_device(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    bind(cloud, user.uid, device.device)
    (record,) = (await user.ok("GET", "/app/bindings"))["devices"]
    assert {name: type(value).__name__ for name, value in record.items()} == {
        "product_key": "str",
        "did": "str",
        "mac": "str",
        "passcode": "str",
        "product_name": "str",
        "is_online": "bool",
        "is_disabled": "bool",
        "is_sandbox": "bool",
        "is_low_power": "bool",
        "sleep_duration": "int",
        "host": "str",
        "port": "int",
        "port_s": "int",
        "ws_port": "int",
        "wss_port": "int",
        "remark": "str",
        "dev_alias": "str",
        "dev_label": "list",
        "role": "str",
        "type": "str",
        "protoc": "int",
        "gw_did": "NoneType",
        "mesh_id": "NoneType",
        "wifi_soft_version": "str",
        "wifi_hard_version": "str",
        "mcu_soft_version": "str",
        "mcu_hard_version": "str",
        "state_last_timestamp": "int",
    }
    assert (record["product_name"], record["is_online"], record["role"]) == ("ci_lamp", True, "special")
    assert record["mcu_soft_version"] == "00000000"
    assert min(record[port] for port in ("port", "port_s", "ws_port", "wss_port")) > 0
    (shown,) = (await user.ok("GET", "/app/bindings", show_proto_ver=1))["devices"]
    assert shown == {**record, "proto_ver": "04"}
    assert await user.ok("GET", f"/app/devices/{device.device.did}") == record


async def test_bind_mac_is_checked_in_order(cloud: EmbeddedCloud, user: Person) -> None:
    key = product_of(cloud).product_key
    found = register(cloud)

    async def attempt(body: dict[str, Any], headers: dict[str, str]) -> int:
        answer = await user.http.post("/app/bind_mac", json=body, headers=headers)
        assert answer.status_code in {201, ERRORS[answer.json().get("error_code", 9015)].status}
        return int(answer.json().get("error_code", 0))

    good = {"product_key": key, "mac": MAC}
    now = int(time.time())
    assert await attempt({"mac": MAC}, {}) == 9015
    assert await attempt({**good, "product_key": "f" * 32}, {}) == 9002
    assert await attempt(good, {}) == 9043
    assert await attempt(good, {"X-Gizwits-Timestamp": "soon"}) == 9043
    assert await attempt(good, {**signature(now), "X-Gizwits-Signature": "0" * 32}) == 9044
    assert await attempt({**good, "mac": "000000000000"}, signature(now)) == 9014
    cloud.store.set_disabled(found.did, disabled=True)
    assert await attempt(good, signature(now)) == 9023
    cloud.store.set_disabled(found.did, disabled=False)
    upper = {name: value.upper() for name, value in signature(now).items()}
    assert await attempt(good, upper) == 0
    # Again by the same user: no error, names replaced where they are not empty.
    answer = await user.http.post(
        "/app/bind_mac", json={**good, "remark": "r", "dev_alias": "a"}, headers=signature(now)
    )
    assert (answer.status_code, answer.json()["dev_alias"]) == (201, "a")
    again = await user.http.post("/app/bind_mac", json=good, headers=signature(now))
    assert (again.json()["remark"], again.json()["dev_alias"]) == ("r", "a")


async def test_roles_without_sharing(cloud: EmbeddedCloud) -> None:
    found = register(cloud)
    async with person(cloud, "a") as first, person(cloud, "b") as second:
        listed = {"devices": [{"did": found.did, "passcode": PASSCODE, "remark": "mine"}]}
        for one, role in ((first, "special"), (second, "normal")):
            assert await one.ok("POST", "/app/bindings", listed) == {"success": [found.did], "failed": []}
            record = await one.ok("GET", f"/app/devices/{found.did}")
            assert (record["role"], record["remark"]) == (role, "mine")
        assert await first.ok("DELETE", "/app/bindings", {"devices": [{"did": found.did}]}) == {
            "success": [found.did],
            "failed": [],
        }
        assert (await second.ok("GET", f"/app/devices/{found.did}"))["role"] == "special"


async def test_roles_with_sharing() -> None:
    async with app_cloud(shared=True) as cloud:
        found = register(cloud)
        body = {"product_key": product_of(cloud).product_key, "mac": MAC}
        async with person(cloud, "a") as first, person(cloud, "b") as second:
            for one in (first, second):
                one.http.headers.update(signature(int(time.time())))
            assert (await first.ok("POST", "/app/bind_mac", body, status=201))["role"] == "owner"
            await second.refused(9092, "POST", "/app/bind_mac", body, status=400)
            cloud.side.bindings.bind(second.uid, found, APPID, role="guest")
            await first.ok("DELETE", "/app/bindings", {"devices": [{"did": found.did}]})
            assert await second.ok("GET", "/app/bindings") == {"devices": []}


async def test_unbinding_and_the_older_binding(cloud: EmbeddedCloud, user: Person) -> None:
    found = register(cloud)
    bad = [{"did": found.did, "passcode": "wrong"}, {"did": "unknown", "passcode": PASSCODE}]
    assert await user.ok("POST", "/app/bindings", {"devices": bad}) == {
        "success": [],
        "failed": [found.did, "unknown"],
    }
    assert await user.ok("DELETE", "/app/bindings", {"devices": [{"did": found.did}]}) == {
        "success": [],
        "failed": [found.did],
    }
    for method in ("POST", "DELETE"):
        await user.refused(9015, method, "/app/bindings", {"devices": []}, status=400)
        await user.refused(9015, method, "/app/bindings", {})


async def test_names_of_a_binding(cloud: EmbeddedCloud, user: Person) -> None:
    found = register(cloud)
    await user.refused(9017, "PUT", f"/app/bindings/{found.did}", {"remark": "r"}, status=401)
    bind(cloud, user.uid, found)
    names = {"remark": "厨房", "dev_alias": "a", "dev_label": ["x", "y"]}
    assert await user.ok("PUT", f"/app/bindings/{found.did}", names) == names
    assert (await user.ok("PATCH", f"/app/bindings/{found.did}", {"remark": ""}))["remark"] == ""
    await user.refused(9015, "PUT", f"/app/bindings/{found.did}", {}, status=400)
    await user.refused(9015, "PUT", f"/app/bindings/{found.did}", {"dev_label": "x"})
    answer = await user("GET", "/app/bindings")
    assert answer.content.isascii()


async def test_qr_codes(cloud: EmbeddedCloud, user: Person) -> None:
    found, key = register(cloud), product_of(cloud).product_key
    for content in (
        base64.urlsafe_b64encode(f"{key},{MAC}".encode()).decode().rstrip("="),
        json.dumps({"product_key": key, "mac": MAC}),
        f"product_key={key}&did={found.did}&passcode={PASSCODE}",
    ):
        record = await user.ok("POST", "/app/bind_latest", {"qr_content": content}, status=201)
        assert record["did"] == found.did
    for content in ("", "%%%", "{", f"product_key={key}", "x" * 5000, '{"product_key":"\\ud800","mac":"x"}'):
        await user.refused(9040, "POST", "/app/bind_latest", {"qr_content": content}, status=400)


async def test_guests(cloud: EmbeddedCloud) -> None:
    found = register(cloud)
    async with person(cloud, "a") as owner, person(cloud, "b") as guest:
        cloud.side.bindings.bind(owner.uid, found, APPID, role="owner")
        await guest.refused(9017, "GET", f"/app/{found.did}/bindings", status=401)
        cloud.side.bindings.bind(guest.uid, found, APPID, role="guest")
        await guest.refused(9093, "GET", f"/app/{found.did}/bindings", status=403)
        cloud.side.accounts.update(
            guest.uid, username="guest-name", phone="13812345678", email="abcdefgh@x.y"
        )
        (shown,) = await owner.ok("GET", f"/app/{found.did}/bindings")
        assert shown["uid"] == guest.uid
        assert (shown["phone"], shown["email"]) == ("138****5678", "abcd****@x.y")
        assert shown["username"] == "gue****ame"
        await owner.refused(9095, "DELETE", f"/app/{found.did}/bindings", uid=owner.uid, status=400)
        await owner.refused(9082, "DELETE", f"/app/{found.did}/bindings", uid="nobody", status=404)
        assert await owner.ok("DELETE", f"/app/{found.did}/bindings", uid=guest.uid) == {}
        assert await guest.ok("GET", "/app/bindings") == {"devices": []}


async def test_disabled_devices(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    bind(cloud, user.uid, device.device)
    cloud.store.set_disabled(device.device.did, disabled=True)
    assert await user.ok("GET", "/app/bindings") == {"devices": []}
    (record,) = (await user.ok("GET", "/app/bindings", show_disabled=1))["devices"]
    assert record["is_disabled"] is True
    await user.refused(9023, "POST", f"/app/control/{device.device.did}", {"attrs": {"power": 1}}, status=400)
    assert await device.silent()


async def test_random_codes(cloud: EmbeddedCloud, user: Person) -> None:
    code = "b2fb9ea4ae709759b0da5c0fb735a5d4"
    key = product_of(cloud).product_key
    found = cloud.store.register(key, MAC, PASSCODE, is_reset=False, now=time.time(), random_code=code)
    assert await user.ok("GET", "/app/device_register", random_codes=f"x,{code}") == [
        {"product_key": key, "did": found.did, "mac": MAC}
    ]
    cloud.store.register(key, MAC, PASSCODE, is_reset=False, now=time.time() - 301, random_code=code)
    assert await user.ok("GET", "/app/device_register", random_codes=code) == []
    assert await user.ok("POST", "/app/provision", {"phone_id": "x", "os": "y"}, status=201) == {}


async def test_a_reset_voids_the_bindings(cloud: EmbeddedCloud, user: Person) -> None:
    found = register(cloud)
    bind(cloud, user.uid, found)
    async with httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}") as module:
        form = f"did={found.did}&passcode={PASSCODE}"
        answer = await module.request("DELETE", "/dev/devices", content=form)
        assert answer.status_code == 200
    assert await user.ok("GET", "/app/bindings") == {"devices": []}
    await user.refused(9017, "GET", f"/app/devices/{found.did}", status=401)


# --- §8, §9: data and control


async def test_latest(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    started = int(time.time())
    device.report(power=True, mode="制热", temp_set=26, blob="0102ff", temp=23, fault_heat=True)
    await until(lambda: bool(cloud.side.device(device.device.did).state))
    async with visitor(cloud) as client:
        answer = await client.get(f"/app/devdata/{device.device.did}/latest")
        assert answer.content.isascii()
        shown = answer.json()
        assert shown["attr"] == {
            "power": 1,
            "mode": "制热",
            "temp_set": 26,
            "blob": "0102ff",
            "temp": 23,
            "fault_heat": 1,
        }
        assert started <= shown["updated_at"] <= time.time()
        unknown = await client.get("/app/devdata/nobody/latest")
        assert (unknown.status_code, unknown.json()["error_code"]) == (404, 9014)


@pytest.mark.parametrize(
    ("body", "p0"),
    [
        ({"attrs": {"power": True}}, "01 01 01 00 000000"),
        ({"attr": {"power": 1}}, "01 01 01 00 000000"),
        ({"attrs": {"power": "1", "mode": 1}}, "01 03 03 00 000000"),
        ({"attrs": {"mode": "制热"}}, "01 02 02 00 000000"),
        ({"attrs": {"temp_set": 26}}, "01 04 00 0a 000000"),
        ({"attrs": {"temp_set": "26"}}, "01 04 00 0a 000000"),
        ({"attrs": {"blob": "0102ff"}}, "01 08 00 00 0102ff"),
        ({"attrs": {"blob": [1, 2]}}, "01 08 00 00 010200"),
        ({"attrs": {"blob": "AQL/"}, "binary_coding": "base64"}, "01 08 00 00 0102ff"),
        ({"attrs": {"power": True}, "raw": [9]}, "01 01 01 00 000000"),
        ({"raw": "010103"}, "010103"),
        ({"raw": "AQED", "binary_coding": "base64"}, "010103"),
        ({"raw": [5, 9, 8]}, "050908"),
    ],
)
async def test_controls(
    cloud: EmbeddedCloud, device: RawDevice, user: Person, body: dict[str, Any], p0: str
) -> None:
    bind(cloud, user.uid, device.device)
    await user.ok("POST", f"/app/control/{device.device.did}", body)
    wanted = bytes.fromhex(p0)
    assert await device.received() == bytes((0, 0, 0, 3, len(wanted) + 3, 0, 0, 0x90)) + wanted


async def test_a_whole_packet_stays_as_it_is(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    bind(cloud, user.uid, device.device)
    packet = bytes.fromhex("0000000307000090 05090807")
    await user.ok("POST", f"/app/control/{device.device.did}", {"raw": list(packet)})
    assert await device.received() == packet


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 9015),
        ({"attrs": {}}, 9015),
        ({"attrs": []}, 9015),
        ({"attrs": {"nonsense": 1}}, 9025),
        ({"attrs": {"temp": 1}}, 9025),
        ({"attrs": {"fault_heat": 1}}, 9025),
        ({"attrs": {"power": 2}}, 9025),
        ({"attrs": {"power": "on"}}, 9025),
        ({"attrs": {"mode": "制"}}, 9025),
        ({"attrs": {"mode": 2}}, 9025),
        ({"attrs": {"mode": True}}, 9025),
        ({"attrs": {"temp_set": 31}}, 9025),
        ({"attrs": {"temp_set": 15}}, 9025),
        ({"attrs": {"temp_set": 20.5}}, 9025),
        ({"attrs": {"temp_set": None}}, 9025),
        ({"attrs": {"temp_set": [20]}}, 9025),
        ({"attrs": {"blob": "01020304"}}, 9025),
        ({"attrs": {"blob": "012"}}, 9025),
        ({"attrs": {"blob": [256]}}, 9025),
        ({"attrs": {"power": True, "temp": 1}}, 9025),
        ({"raw": []}, 9025),
        ({"raw": "0g"}, 9025),
        ({"raw": [300]}, 9025),
    ],
)
async def test_controls_that_are_refused(
    cloud: EmbeddedCloud, device: RawDevice, user: Person, body: dict[str, Any], code: int
) -> None:
    bind(cloud, user.uid, device.device)
    detail = await user.refused(code, "POST", f"/app/control/{device.device.did}", body, status=400)
    if code == 9025 and "attrs" in body:
        assert detail is not None
        assert list(body["attrs"])[-1] in detail
    assert await device.silent()


async def test_raw_data(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    did = device.device.did
    bind(cloud, user.uid, device.device)
    await user.ok("POST", f"/app/control/{did}", {"attrs": {"power": True}})
    await device.received()
    device.report(power=True)
    await until(lambda: bool(cloud.side.device(did).state))
    now = int(time.time())
    query = {"start_time": now - 60, "end_time": now + 1}
    shown = await user.ok("GET", f"/app/devices/{did}/raw_data", type="cmd", **query)
    newest, oldest = shown["objects"]
    assert (newest["type"], newest["payload_bin"][:20]) == ("dev2app", "000000030b0000910401")
    assert (oldest["type"], oldest["source"], oldest["uid"], oldest["appid"]) == (
        "app2dev",
        "open_api",
        user.uid,
        APPID,
    )
    assert shown["meta"] == {
        "sort": "desc",
        "limit": 20,
        "skip": 0,
        "total": 2,
        "did": did,
        "type": "cmd",
        **query,
    }
    ascending = await user.ok("GET", f"/app/devices/{did}/raw_data", type="cmd", sort="ase", limit=1, **query)
    assert ascending["objects"] == [oldest]
    (online,) = (await user.ok("GET", f"/app/devices/{did}/raw_data", type="online", **query))["objects"]
    assert (online["type"], online["ip"]) == ("dev_online", "127.0.0.1")


@pytest.mark.parametrize(
    "change",
    [
        {"type": "x"},
        {"start_time": "x"},
        {"end_time": -120},
        {"start_time": -48 * 3600 - 1},
        {"end_time": 3600},
        {"start_time": -8 * 86400, "end_time": -7 * 86400},
        {"limit": 1001},
        {"limit": 0},
        {"skip": 5000},
        {"sort": "x"},
    ],
)
async def test_raw_data_limits(cloud: EmbeddedCloud, user: Person, change: dict[str, Any]) -> None:
    found = register(cloud)
    bind(cloud, user.uid, found)
    now = int(time.time())
    query: dict[str, Any] = {"type": "cmd", "start_time": now - 60, "end_time": now}
    for name, value in change.items():
        query[name] = now + value if name.endswith("_time") and isinstance(value, int) else value
    await user.refused(9015, "GET", f"/app/devices/{found.did}/raw_data", status=400, **query)


async def test_the_data_points_of_a_product(cloud: EmbeddedCloud) -> None:
    async with visitor(cloud) as client:
        answer = await client.get("/app/datapoint", params={"product_key": product_of(cloud).product_key})
        assert answer.status_code == 200
        assert answer.content.isascii()
        assert [attr["name"] for attr in answer.json()["entities"][0]["attrs"]][:2] == ["power", "mode"]
        unknown = await client.get("/app/datapoint", params={"product_key": "f" * 32})
        assert (unknown.status_code, unknown.json()["error_code"]) == (400, 9002)
        cloud.side.accounts.add_app("narrow", products=["another"])
        foreign = await client.get(
            "/app/datapoint",
            params={"product_key": product_of(cloud).product_key},
            headers={"X-Gizwits-Application-Id": "narrow"},
        )
        assert foreign.json()["error_code"] == 9002


async def test_legacy_calls(cloud: EmbeddedCloud, user: Person) -> None:
    found = register(cloud)
    async with visitor(cloud) as client:
        answer = await client.get(
            "/app/devices", params={"product_key": found.product_key, "mac": MAC.upper()}
        )
        assert set(answer.json()) == {
            "did",
            "passcode",
            "product_key",
            "mac",
            "is_online",
            "is_disabled",
            "type",
            "host",
            "port",
            "port_s",
            "ws_port",
            "wss_port",
        }
        assert answer.json()["passcode"] == PASSCODE
        for path in (f"/app/devdata/{found.did}", "/app/devdata", "/app/devdata2"):
            old = await client.get(path)
            assert (old.status_code, old.json()["error_code"]) == (403, 9039)

"""What somebody with bad intentions tries at the application side, and does not get."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from support_apps import (
    APPID,
    APPSECRET,
    PRODUCT_SECRET,
    Person,
    RawDevice,
    app_cloud,
    bind,
    person,
    raw_device,
    register,
    visitor,
)
from support_cloud_mqtt import PASSCODE, app_for, until

from gizserial.m2m.mqtt31 import Publish
from sim.cloud.app import EmbeddedCloud
from sim.cloud.show import CloudShow

ON = {"attrs": {"power": True}}


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud() as running:
        yield running


@pytest.fixture
async def device(cloud: EmbeddedCloud) -> AsyncIterator[RawDevice]:
    async with raw_device(cloud) as online:
        yield online


@pytest.fixture
async def owner(cloud: EmbeddedCloud, device: RawDevice) -> AsyncIterator[Person]:
    async with person(cloud, "owner") as somebody:
        bind(cloud, somebody.uid, device.device)
        yield somebody


async def test_another_users_device(cloud: EmbeddedCloud, device: RawDevice, owner: Person) -> None:
    did = device.device.did
    async with person(cloud, "thief") as thief:
        for method, path, body in (
            ("POST", f"/app/control/{did}", ON),
            ("GET", f"/app/devices/{did}", None),
            ("PUT", f"/app/bindings/{did}", {"remark": "mine"}),
            ("GET", f"/app/{did}/bindings", None),
        ):
            await thief.refused(9017, method, path, body, status=401)
        await thief.refused(9017, "DELETE", f"/app/{did}/bindings", uid=owner.uid, status=401)
        now = int(time.time())
        query = {"type": "cmd", "start_time": now - 60, "end_time": now}
        await thief.refused(9017, "GET", f"/app/devices/{did}/raw_data", status=401, **query)
        gone = await thief.ok("DELETE", "/app/bindings", {"devices": [{"did": did}]})
        assert gone == {"success": [], "failed": [did]}
    assert await device.silent()
    assert len((await owner.ok("GET", "/app/bindings"))["devices"]) == 1


async def test_tokens_that_are_not_good(cloud: EmbeddedCloud, device: RawDevice, owner: Person) -> None:
    path = f"/app/control/{device.device.did}"
    for token in ("", "0" * 32, owner.token[:-1], owner.token + "0", "' OR 1=1 --"):
        owner.http.headers["X-Gizwits-User-token"] = token
        await owner.refused(9004, "POST", path, ON, status=400)
    owner.http.headers["X-Gizwits-User-token"] = owner.token
    cloud.side.accounts.expire(owner.uid)
    await owner.refused(9006, "POST", path, ON, status=400)
    cloud.side.accounts.revoke(owner.uid)
    await owner.refused(9004, "POST", path, ON, status=400)
    assert await device.silent()


async def test_another_apps_token(cloud: EmbeddedCloud, device: RawDevice, owner: Person) -> None:
    """Good in every app of the organisation (§2); an app that is not registered gets nowhere."""
    other = cloud.side.accounts.add_app()
    owner.http.headers["X-Gizwits-Application-Id"] = other.appid
    await owner.ok("GET", "/app/bindings")
    owner.http.headers["X-Gizwits-Application-Id"] = "f" * 32
    await owner.refused(9003, "GET", "/app/bindings", status=400)


async def test_a_did_that_is_guessed(cloud: EmbeddedCloud, owner: Person) -> None:
    for did in ("x" * 22, "..", "../..", "' OR 1=1 --", "\u0000", "d" * 5000):
        answer = await owner("POST", f"/app/control/{quote(did, safe='')}", ON)
        assert answer.status_code in {404, 405}, did
        assert answer.json()["error_code"] in {9014, 9999}


async def test_an_mqtt_app_on_foreign_topics(cloud: EmbeddedCloud, device: RawDevice) -> None:
    other = register(cloud, "5ccf7f0a1b2d")
    app = await app_for(cloud, other)
    for topic in (f"app2dev/{device.device.did}/usrApp", f"dev2app/{device.device.did}", "app2dev/+/x"):
        assert await app.subscribe(f"dev2app/{device.device.did}/#") == b"\x80"
        if "+" not in topic:
            app.send(Publish(topic, bytes.fromhex("0000000306000090010103")))
    await app.ping()
    assert await device.silent()
    await app.close()


@pytest.mark.parametrize("path", ["/app/users", "/app/login", "/app/bindings", "/status", "/dev/devices"])
async def test_64_mb_bodies(cloud: EmbeddedCloud, path: str) -> None:
    """Refused before they are read: neither memory nor time goes to them."""
    host, port = cloud.addresses["http"].rsplit(":", 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Gizwits-Application-Id: {APPID}\r\n"
            f"Content-Length: {64 << 20}\r\n\r\n"
        )
        writer.write(head.encode())
        chunk = b"[" * 65536

        async def push() -> None:
            try:
                for _ in range(1024):
                    writer.write(chunk)
                    await writer.drain()
            except ConnectionError:
                pass

        pushing = asyncio.create_task(push())
        line = await reader.readline()
        assert line.split()[1] in {b"400", b"405", b"413"}, line
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        writer.transport.abort()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (32 << 10 if sys.platform != "darwin" else 32 << 20)


NASTY = [
    "'; DROP TABLE user; --",
    '" OR "1"="1',
    "x\r\nSet-Cookie: a=b",
    "\x00",
    "\ud800",
    "%s%n{0}${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "制冷" * 50,
    "../../etc/passwd",
    "a" * 100_000,
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
async def test_injection_in_every_string_field(cloud: EmbeddedCloud, owner: Person, text: str) -> None:
    """Whatever a text holds, it is a text: stored, or refused, and never a header or a statement."""
    document = (await owner("GET", "/openapi.json")).json()
    users = len(cloud.side.accounts.users())
    for path, methods in document["paths"].items():
        if not path.startswith(("/app/", "/v1/")):
            continue
        for method, call in methods.items():
            schema = (
                call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            )
            body = dict.fromkeys(schema.get("properties", {}), text)
            query = {
                parameter["name"]: text.encode("utf-8", "replace").decode()[:4000]
                for parameter in call.get("parameters", ())
                if parameter["in"] == "query"
            }
            answer = await owner.http.request(
                method.upper(), path.replace("{", "").replace("}", ""), content=json.dumps(body), params=query
            )
            assert answer.status_code < 500, (method, path, answer.text)
            assert "set-cookie" not in answer.headers
            assert answer.headers["content-type"] in {"application/json", "text/html; charset=utf-8"}
    assert len(cloud.side.accounts.users()) >= users
    assert (await owner("GET", "/app/bindings")).status_code in {200, 400}


async def test_a_remark_comes_back_as_it_was(cloud: EmbeddedCloud, device: RawDevice, owner: Person) -> None:
    for text in NASTY[:-1]:
        if "\ud800" in text:
            continue
        shown = await owner.ok("PUT", f"/app/bindings/{device.device.did}", {"remark": text})
        assert shown["remark"] == text


async def test_headers_cannot_be_smuggled(cloud: EmbeddedCloud) -> None:
    """The host of a request goes into a body, never into a header or a page."""
    async with visitor(cloud) as client:
        answer = await client.get("/app/bindings", headers={"Host": 'x"><script>', "Origin": "null"})
        assert "script" not in str(answer.headers)


async def test_secrets_never_appear_whole_in_a_log(
    cloud: EmbeddedCloud, device: RawDevice, owner: Person, caplog: pytest.LogCaptureFixture
) -> None:
    """What the cloud shows, as text and as JSON, while everything happens that knows a secret."""
    lines: list[str] = []
    for as_json in (False, True):
        cloud.subscribe(CloudShow(lines.append, as_json=as_json))
    async with visitor(cloud) as client:
        named = {"username": "bench", "password": "pass-word-123"}
        token = (await client.post("/app/users", json=named)).json()["token"]
        await client.post("/app/login", json={**named, "password": "wrong-password"})
        await client.put(
            "/app/users",
            json={"old_pwd": "pass-word-123", "new_pwd": "other-word-456"},
            headers={"X-Gizwits-User-token": token},
        )
        await client.get("/app/bindings", headers={"X-Gizwits-User-token": "f" * 32})
        form = {"mac": "0123456789ab", "passcode": "SECRETPASS", "product_key": device.device.product_key}
        await client.post("/dev/devices", data=form)
    await owner.ok("POST", f"/app/control/{device.device.did}", ON)
    device.report(power=True)
    await until(lambda: bool(cloud.side.device(device.device.did).state))
    cloud.side.accounts.revoke(owner.uid)
    text = "\n".join([*lines, caplog.text, repr(cloud.config), repr(cloud.side.accounts.apps())])
    text += repr(cloud.side.accounts.users()) + repr(cloud.store.devices()) + repr(list(cloud.products))
    assert lines
    for secret in (
        PASSCODE,
        "SECRETPASS",
        PRODUCT_SECRET,
        APPSECRET,
        token,
        owner.token,
        "pass-word-123",
        "other-word-456",
    ):
        assert secret not in text

"""SNoti over real TLS: the vectors of snoti.md §10, and what its sections promise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support_apps import APPID, LAMP, MAC, RawDevice, app_cloud, bind, person, raw_device, register
from support_cloud_mqtt import PASSCODE, until

from gizserial.io.products import load_product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.products import CloudProduct, Credential

PK = "0123456789abcdef0123456789abcdef"
ODD = "123456789abcdefgh"
"""Of the Ruby client's own tests: product key, id and secret at once."""
AUTH = {"auth_id": "Jq3vR8mYTn2kXw5cZb7LpA", "auth_secret": "Hd9sF4gKQe6uWy1oCx8MtB"}
PATIENCE = 20.0


def products() -> tuple[CloudProduct, ...]:
    credentials = (Credential(AUTH["auth_id"], AUTH["auth_secret"]),)
    enterprise = Credential("ent", "hidden")
    return (
        CloudProduct(
            product_key=PK, product=load_product(LAMP), credentials=credentials, enterprise=enterprise
        ),
        CloudProduct(product_key=ODD, credentials=(Credential(ODD, ODD),)),
    )


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud(products=products(), snoti="127.0.0.1:0") as running:
        yield running


@pytest.fixture
async def device(cloud: EmbeddedCloud) -> AsyncIterator[RawDevice]:
    async with raw_device(cloud) as online:
        yield online


class Client:
    """A server of a product's owner."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readline()

    async def next(self) -> Any:
        line = await self.line()
        assert line.endswith(b"\n")
        assert line.isascii()
        return json.loads(line)

    async def ask(self, message: Any) -> Any:
        self.send(message)
        return await self.next()

    async def silent(self) -> bool:
        """Nothing more came than the answer to a ping."""
        return bool(await self.ask({"cmd": "ping"}) == {"cmd": "pong"})

    def ack(self, *ids: int) -> None:
        for delivery_id in ids:
            self.send({"cmd": "event_ack", "delivery_id": delivery_id})

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(cloud: EmbeddedCloud) -> AsyncIterator[Client]:
    assert cloud.tls is not None
    assert cloud.tls.ca_pem is not None
    context = ssl.create_default_context(cadata=cloud.tls.ca_pem.decode())
    host, port = cloud.addresses["snoti"].rsplit(":", 1)
    client = Client(*await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost"))
    yield client
    await client.close()


def login(*events: str, prefetch: int = 50, **change: Any) -> dict[str, Any]:
    entry = {
        "product_key": PK,
        **AUTH,
        "subkey": "ci_runner_1",
        "events": list(events or ["device.status.kv"]),
    }
    return {"cmd": "login_req", "prefetch_count": prefetch, "data": [{**entry, **change}]}


OK = {"cmd": "login_res", "data": {"result": True, "msg": "ok"}}


@contextlib.asynccontextmanager
async def listener(cloud: EmbeddedCloud, *events: str, **options: Any) -> AsyncIterator[Client]:
    async with connected(cloud) as client:
        assert await client.ask(login(*events, **options)) == OK
        yield client


async def report(device: RawDevice, *temps: int) -> None:
    """So many reports, one after the other, all of which have reached the cloud."""
    for temp in temps:
        device.report(temp=temp)
    await device.client.ping()
    await until(lambda: device.cloud.side.device(device.device.did).state.get("temp") == temps[-1])


async def temps(client: Client, count: int) -> list[tuple[int, int]]:
    pushes = [await client.next() for _ in range(count)]
    assert all(push["event_type"] == "device_status_kv" for push in pushes)
    return [(push["delivery_id"], push["data"]["temp"]) for push in pushes]


# --- §10


async def test_vector_1_a_split_line(cloud: EmbeddedCloud) -> None:
    async with connected(cloud) as client:
        line = json.dumps(login()).encode() + b"\n"
        middle = line.index(b"auth_id") + 3
        client.writer.write(line[:middle])
        await client.writer.drain()
        await asyncio.sleep(0.01)
        client.writer.write(line[middle:])
        assert await client.next() == OK
        assert await client.silent()


async def test_vector_2_a_wrong_secret(cloud: EmbeddedCloud) -> None:
    async with connected(cloud) as client:
        refused = await client.ask(login(auth_secret="wrong"))
        assert refused == {"cmd": "login_res", "data": {"result": False, "msg": "bad auth"}}
        assert await client.line() == b""


async def test_vector_3_prefetch(cloud: EmbeddedCloud, device: RawDevice) -> None:
    async with listener(cloud, prefetch=2) as client:
        await report(device, 1, 2, 3, 4, 5)
        assert await temps(client, 2) == [(1, 1), (2, 2)]
        assert await client.silent()
        client.ack(1)
        assert await temps(client, 1) == [(3, 3)]
        assert await client.silent()


async def test_vector_4_what_was_not_acknowledged_comes_again(
    cloud: EmbeddedCloud, device: RawDevice
) -> None:
    async with listener(cloud, prefetch=2) as client:
        await report(device, 1, 2, 3)
        assert await temps(client, 2) == [(1, 1), (2, 2)]
    async with listener(cloud) as client:
        assert await temps(client, 3) == [(1, 1), (2, 2), (3, 3)]


async def test_vector_5_subkeys(cloud: EmbeddedCloud, device: RawDevice) -> None:
    async with (
        listener(cloud) as first,
        listener(cloud) as second,
        listener(cloud, subkey="other") as other,
    ):
        await report(device, 1, 2, 3, 4)
        assert await temps(other, 4) == [(1, 1), (2, 2), (3, 3), (4, 4)]
        halves = [[temp for _, temp in await temps(client, 2)] for client in (first, second)]
        assert sorted(halves) == [[1, 3], [2, 4]]


async def test_vector_6_base64(cloud: EmbeddedCloud, device: RawDevice) -> None:
    async with listener(cloud, "device.status.raw") as client:
        device.send(bytes.fromhex("06090807"))
        assert (await client.next())["data"] == "BgkIBw=="


async def test_vector_7_control_of_an_offline_device(cloud: EmbeddedCloud) -> None:
    did = register(cloud).did
    item = {
        "cmd": "write_attrs",
        "data": {"did": did, "mac": MAC, "product_key": PK, "attrs": {"power": True}},
    }
    async with listener(cloud) as client:
        first = await client.ask({"cmd": "remote_control_req", "data": [item]})
        assert first == {
            "cmd": "remote_control_res",
            "result": {"succeed": [], "failed": [{did: "device offline"}]},
        }
        second = await client.ask({"cmd": "remote_control_v2_req", "msg_id": "m-1", "data": [item]})
        assert second == {
            "cmd": "remote_control_v2_res",
            "msg_id": "m-1",
            "result": {"succeed": [], "failed": [{"did": did, "reason": "device offline"}]},
        }


async def test_vector_8_an_unknown_command(cloud: EmbeddedCloud) -> None:
    async with listener(cloud) as client:
        assert await client.ask({"cmd": "nonsense"}) == {
            "cmd": "invalid_msg",
            "error_code": 1005,
            "msg": "unknown cmd",
        }


async def test_vector_9_the_credentials_of_the_ruby_client(cloud: EmbeddedCloud) -> None:
    """Product keys, ids and secrets of any form; event names as the Ruby server spells them too (R3)."""
    odd: dict[str, Any] = {"product_key": ODD, "auth_id": ODD, "auth_secret": ODD, "subkey": ODD}
    async with connected(cloud) as client:
        assert await client.ask(login(**odd, events=["device.status.raw"])) == OK
    async with connected(cloud) as client:
        assert await client.ask(login(**odd, events=["device_status_raw"])) == OK
    async with connected(cloud) as client:
        refused = await client.ask(login(**{**odd, "auth_secret": "x"}))
        assert refused["data"]["result"] is False


# --- §4: the session


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"product_key": "unknown"}, "invalid product_key"),
        ({"auth_id": "x"}, "bad auth"),
        ({"auth_secret": None}, "bad auth"),
        ({"subkey": ""}, "invalid subkey"),
        ({"subkey": "a" * 33}, "invalid subkey"),
        ({"subkey": "ä"}, "invalid subkey"),
        ({"events": []}, "invalid events"),
        ({"events": ["nonsense"]}, "invalid events"),
        ({"events": ""}, "invalid events"),
    ],
)
async def test_logins_that_fail(cloud: EmbeddedCloud, change: dict[str, Any], message: str) -> None:
    async with connected(cloud) as client:
        refused = await client.ask(login(**change))
        assert refused == {"cmd": "login_res", "data": {"result": False, "msg": message}}
        assert await client.line() == b""


@pytest.mark.parametrize(
    ("prefetch", "good"), [(0, True), (1, True), (32767, True), (32768, False), (-1, False)]
)
async def test_prefetch_counts(cloud: EmbeddedCloud, prefetch: int, good: bool) -> None:
    async with connected(cloud) as client:
        answer = await client.ask(login(prefetch=prefetch))
        assert answer["data"]["msg"] == ("ok" if good else "invalid prefetch_count")


async def test_events_as_text_and_unknown_ones(cloud: EmbeddedCloud, device: RawDevice) -> None:
    names = "device.attrs_fault, device.status.kv"  # the first is a client's misspelling
    async with connected(cloud) as client:
        assert await client.ask(login(events=names)) == OK
        await report(device, 7)
        assert await temps(client, 1) == [(1, 7)]


async def test_the_sixth_subkey(cloud: EmbeddedCloud) -> None:
    for number in range(5):
        async with listener(cloud, subkey=f"s{number}"):
            pass
    async with connected(cloud) as client:
        assert (await client.ask(login(subkey="s5")))["data"]["msg"] == "too many subkeys"
    async with listener(cloud, subkey="s4"):
        pass


async def test_before_and_after_login(cloud: EmbeddedCloud) -> None:
    async with connected(cloud) as client:
        assert (await client.ask({"cmd": "ping"}))["error_code"] == 1003
        client.writer.write(b"\r\n   \n")
        assert (await client.ask([1]))["error_code"] == 1001
        client.writer.write(b"{nonsense\n")
        assert (await client.next())["error_code"] == 1001
        assert (await client.ask({"data": 1}))["error_code"] == 1002
        client.writer.write(b"  " + json.dumps(login()).encode() + b" \r\n")
        assert await client.next() == OK
        assert (await client.ask(login()))["error_code"] == 1004
        assert await client.silent()


async def test_a_line_without_end(cloud: EmbeddedCloud) -> None:
    async with connected(cloud) as client:
        client.writer.write(b"x" * (1024 * 1024 + 2))
        assert (await client.next())["error_code"] == 1001
        with contextlib.suppress(ConnectionError):
            assert await client.line() == b""


async def test_subscribing_later(cloud: EmbeddedCloud, device: RawDevice) -> None:
    async with listener(cloud) as client:
        wanted = {"product_key": PK, "subkey": "second", **AUTH, "events": ["device.offline"]}
        answer = await client.ask({"cmd": "subscribe_req", "data": [wanted]})
        echoed = {name: value for name, value in wanted.items() if name != "auth_secret"}
        assert answer == {"cmd": "subscribe_res", "result": True, "msg": "ok", "data": [echoed]}
        bad = await client.ask({"cmd": "subscribe_req", "data": [{**wanted, "auth_secret": "x"}]})
        assert (bad["result"], bad["msg"]) == (False, "bad auth")
        less = {"product_key": PK, "subkey": "ci_runner_1", "events": ["device.status.kv"]}
        answer = await client.ask({"cmd": "unsubscribe_req", "data": [less]})
        assert answer == {"cmd": "unsubscribe_res", "result": True, "msg": "ok", "data": [less]}
        await report(device, 1)
        assert await client.silent()
        await device.client.close()
        assert (await client.next())["event_type"] == "device_offline"


# --- §6: the events


async def test_a_push(cloud: EmbeddedCloud, device: RawDevice) -> None:
    async with listener(cloud) as client:
        device.report(power=True, mode="制冷", temp=23, blob="0102ff")
        line = await client.line()
        assert b"\\u5236\\u51b7" in line
        assert line.startswith(b'{"cmd":"event_push","msg_id":"')
        push = json.loads(line)
        assert abs(push.pop("created_at") - time.time()) < 5
        assert len(push.pop("msg_id")) == 32
        assert push == {
            "cmd": "event_push",
            "delivery_id": 1,
            "event_type": "device_status_kv",
            "product_key": PK,
            "did": device.device.did,
            "mac": MAC,
            "group_id": None,
            "data": {
                "power": 1,
                "mode": "制冷",
                "temp_set": 16,
                "blob": "0102ff",
                "temp": 23,
                "fault_heat": 0,
            },
        }


async def test_faults_on_the_edge(cloud: EmbeddedCloud, device: RawDevice) -> None:
    async with listener(cloud, "device.attr_fault") as client:
        for value in (True, True, False, False, True):
            device.report(fault_heat=value)
        pushes = [await client.next() for _ in range(3)]
        assert [push["data"]["value"] for push in pushes] == [1, 0, 1]
        assert pushes[0]["data"]["attr_displayname"] == "Overheated"
        onset, recovery, again = (push["event_id"] for push in pushes)
        assert onset == recovery != again
        assert await client.silent()


async def test_life_of_a_device(cloud: EmbeddedCloud) -> None:
    names = ("device.online", "device.offline", "device.bind", "device.unbind", "device.reset")
    async with listener(cloud, *names) as client, person(cloud) as user:
        async with raw_device(cloud) as device:
            push = await client.next()
            assert (push["event_type"], push["ip"], push["country"]) == ("device_online", "127.0.0.1", "")
            bind(cloud, user.uid, device.device)
            push = await client.next()
            assert (push["event_type"], push["app_id"], push["uid"]) == ("device_bind", APPID, user.uid)
        assert (await client.next())["event_type"] == "device_offline"
        form = f"did={device.device.did}&passcode={PASSCODE}"
        await user.http.request("DELETE", "/dev/devices", content=form)
        kinds = {(await client.next())["event_type"] for _ in range(2)}
        assert kinds == {"device_unbind", "device_reset"}


async def test_commands_of_apps(cloud: EmbeddedCloud, device: RawDevice) -> None:
    did = device.device.did
    async with listener(cloud, "device.app2dev.kv", "device.app2dev.raw") as client, person(cloud) as user:
        bind(cloud, user.uid, device.device)
        await user.ok("POST", f"/app/control/{did}", {"attrs": {"power": True}})
        push = await client.next()
        assert (push["event_type"], push["source"], push["uid"], push["appid"]) == (
            "app2dev_kv",
            "open_api",
            user.uid,
            APPID,
        )
        assert push["data"] == {"power": 1}
        await user.ok("POST", f"/app/control/{did}", {"raw": [5, 9, 8, 7]})
        push = await client.next()
        assert (push["event_type"], push["data"]) == ("app2dev_raw", "BQkIBw==")


# --- §7: remote control


def item(device: RawDevice, command: str = "write_attrs", **data: Any) -> dict[str, Any]:
    known = {"did": device.device.did, "mac": MAC.upper(), "product_key": PK}
    return {"cmd": command, "source": "noti", "data": {**known, **data}}


async def test_control(cloud: EmbeddedCloud, device: RawDevice) -> None:
    did = device.device.did
    async with listener(cloud, "device.app2dev.kv") as client:
        client.send({"cmd": "remote_control_req", "data": [item(device, attrs={"power": True})]})
        # Pushes and answers are not ordered among each other.
        push, done = sorted([await client.next(), await client.next()], key=lambda line: str(line["cmd"]))
        assert done == {"cmd": "remote_control_res", "result": {"succeed": [did], "failed": []}}
        assert await device.received() == bytes.fromhex("000000030a00009001010100000000")
        assert push["source"] == "noti"
        assert not {"uid", "appid"} & set(push)
        client.send({"cmd": "remote_control_v2_req", "data": [item(device, "write", raw="05010203")]})
        assert (await client.next())["result"]["succeed"] == [{"did": did}]
        assert await device.received() == bytes.fromhex("000000030700009005010203")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"product_key": ODD}, "product not authorized"),
        ({"product_key": None}, "product not authorized"),
        ({"did": "unknown"}, "device not found"),
        ({"mac": "000000000000"}, "device not found"),
        ({"attrs": {"nonsense": 1}}, "attr invalid: nonsense"),
        ({"attrs": {"temp": 1}}, "attr invalid: temp"),
        ({"attrs": {"temp_set": 99}}, "attr invalid: temp_set"),
        ({"attrs": {"blob": "0102"}}, "data length does not match"),
        ({"attrs": {"blob": [1, 2, 3, 4]}}, "data length does not match"),
        ({"attrs": None}, "attr invalid: attrs"),
    ],
)
async def test_control_that_fails(
    cloud: EmbeddedCloud, device: RawDevice, change: dict[str, Any], reason: str
) -> None:
    async with listener(cloud) as client:
        wanted = item(device, **{"attrs": {"power": True}, **change})
        answer = await client.ask({"cmd": "remote_control_v2_req", "data": [wanted]})
        assert [each["reason"] for each in answer["result"]["failed"]] == [reason]
        raw = item(device, "write", raw="0g")
        answer = await client.ask({"cmd": "remote_control_v2_req", "data": [raw]})
        assert answer["result"]["failed"][0]["reason"] == "raw invalid"
        cloud.store.set_disabled(device.device.did, disabled=True)
        answer = await client.ask(
            {"cmd": "remote_control_v2_req", "data": [item(device, attrs={"power": 1})]}
        )
        assert answer["result"]["failed"][0]["reason"] == "device disabled"
    assert await device.silent()


# --- §8: the legacy dialect


async def test_the_legacy_dialect(cloud: EmbeddedCloud, device: RawDevice) -> None:
    data = {"enterprise_id": "ent", "enterprise_secret": "hidden", "prefetch_count": 1}
    async with connected(cloud) as client:
        answer = await client.ask({"cmd": "enterprise_login_req", "data": data})
        assert answer == {"cmd": "enterprise_login_res", "data": {"result": True, "msg": "ok"}}
        assert await client.ask({"cmd": "enterprise_ping"}) == {"cmd": "enterprise_pong"}
        await report(device, 1, 2)
        push = await client.next()
        assert (push["cmd"], push["event_type"]) == ("enterprise_event_push", "device_status_kv")
        client.send({"cmd": "enterprise_event_ack", "delivery_id": push["delivery_id"]})
        assert (await client.next())["data"]["temp"] == 2
    async with connected(cloud) as client:
        answer = await client.ask({"cmd": "enterprise_login_req", "data": {**data, "enterprise_id": "x"}})
        assert answer["data"] == {"result": False, "msg": "bad auth"}
        assert await client.line() == b""


# --- what survives


async def test_events_wait_while_nobody_listens_and_over_a_restart(tmp_path: Path) -> None:
    options: dict[str, Any] = {"products": products(), "snoti": "127.0.0.1:0", "data": tmp_path}
    async with app_cloud(**options) as cloud:
        async with listener(cloud, prefetch=1) as client, raw_device(cloud) as device:
            await report(device, 1, 2)
            assert await temps(client, 1) == [(1, 1)]
            client.ack(1)
            assert await temps(client, 1) == [(2, 2)]
        async with raw_device(cloud) as device:
            await report(device, 3)
    async with app_cloud(**options) as cloud, listener(cloud) as client:
        assert await temps(client, 2) == [(1, 2), (2, 3)]

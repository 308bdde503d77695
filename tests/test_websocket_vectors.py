"""The test vectors of the WebSocket API (websocket-api.md §14), over real sockets on both sides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from support_apps import raw_device
from support_websocket import (
    app_socket,
    bound_device,
    logged_in,
    login_message,
    user_of,
    websocket_cloud,
)

from gizserial.p0 import Action
from sim.cloud.app import EmbeddedCloud
from sim.cloud.auth import CLIENT


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with websocket_cloud() as running:
        yield running


def packet(text: str) -> bytes:
    return bytes.fromhex(text)


async def test_v1_the_official_script(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with bound_device(cloud, user) as device, app_socket(cloud) as app:
        did = device.device.did
        await app.send(
            f'{{"cmd":"login_req","data":{{"appid":"a1b2c3d4e5f60718293a4b5c6d7e8f90","uid":"{user.uid}",'
            f'"token":"{token}","p0_type":"attrs_v4","heartbeat_interval":180000}}}}'
        )
        assert await app.text() == '{"cmd":"login_res","data":{"success":true}}'
        await app.send(f'{{"cmd":"c2s_read","data":{{"did":"{did}"}}}}')
        assert await device.received() == packet("00 00 00 03 04 00 00 90 02")
        device.send(packet("03 01 17"))
        attrs = '"attrs":{"power":true,"mode":"\\u5236\\u51b7","temp":23}'
        assert await app.text() == f'{{"cmd":"s2c_noti","data":{{"did":"{did}",{attrs}}}}}'
        await app.send(f'{{"cmd":"c2s_write","data":{{"did":"{did}","attrs":{{"power":false}}}}}}')
        assert await device.received() == packet("00 00 00 03 06 00 00 90 01 01 00")
        device.send(packet("04 00 17"))
        attrs = '"attrs":{"power":false,"mode":"\\u5236\\u51b7","temp":23}'
        assert await app.text() == f'{{"cmd":"s2c_noti","data":{{"did":"{did}",{attrs}}}}}'
        await app.send('{"cmd":"ping"}')
        assert await app.text() == '{"cmd":"pong"}'


async def test_v2_not_logged_in(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with app_socket(cloud) as app:
        await app.send('{"cmd":"ping"}')
        assert await app.text() == (
            '{"cmd":"s2c_invalid_msg","data":{"error_code":1003,"msg":"Websocket client not login!"}}'
        )
        await app.login(user, token)


async def test_v3_pipelined(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with bound_device(cloud, user) as device, app_socket(cloud) as app:
        await app.send(login_message(user, token))
        await app.send({"cmd": "ping"})
        await app.send({"cmd": "c2s_read", "data": {"did": device.device.did}})
        assert await device.received() == packet("00 00 00 03 04 00 00 90 02")
        device.send(packet("03 01 17"))
        assert [(await app.next())["cmd"] for _ in range(3)] == ["login_res", "pong", "s2c_noti"]


async def test_v4_length_of_raw_data(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with bound_device(cloud, user) as device, logged_in(cloud, user, token) as app:
        did = device.device.did
        short = [0, 0, 0, 3, 7, 0, 0, 144, 5, 9, 8, 7]
        long = [0, 0, 0, 3, 200, 1, 0, 0, 144, 5, *range(196)]
        assert len(long) == 206
        for raw in (short, long):
            await app.send({"cmd": "c2s_raw", "data": {"did": did, "raw": raw}})
            assert await device.received() == bytes(raw)
        # The bare body of 197 bytes becomes the same packet.
        await app.send({"cmd": "c2s_raw", "data": {"did": did, "raw": long[9:]}})
        assert await device.received() == bytes(long)


async def test_v5_acknowledged_write(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    while cloud.hub.next_sn() < 6:
        pass
    async with bound_device(cloud, user) as device, logged_in(cloud, user, token) as app:
        did = device.device.did
        await app.send({"cmd": "c2s_write", "req_sn": 7, "data": {"did": did, "attrs": {"power": True}}})
        assert await device.received() == packet("00 00 00 03 0A 00 00 93 00 00 00 07 01 01 01")
        device.send(b"", 0x94, 7, client=CLIENT)
        assert await app.text() == f'{{"cmd":"s2c_ack","res_sn":7,"did":"{did}"}}'


async def test_v6_unbound(cloud: EmbeddedCloud) -> None:
    mine, _ = user_of(cloud, "phone A")
    other, token = user_of(cloud, "phone B")
    async with bound_device(cloud, mine) as device, logged_in(cloud, other, token) as app:
        did = device.device.did
        answer = await app.ask({"cmd": "c2s_write", "data": {"did": did, "attrs": {"power": True}}})
        assert answer["data"]["error_code"] == 1005
        assert await device.silent()


async def test_v7_subscribe(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with (
        bound_device(cloud, user) as mine,
        raw_device(cloud, "5ccf7f0a1b2d") as foreign,
        logged_in(cloud, user, token, auto_subscribe=False) as app,
    ):
        dids = [mine.device.did, foreign.device.did]
        await app.send({"cmd": "subscribe_req", "data": [{"did": did} for did in dids]})
        assert await app.text() == (
            f'{{"cmd":"subscribe_res","data":{{"success":[{{"did":"{dids[0]}","error_code":0,"msg":"ok"}}],'
            f'"failed":[{{"did":"{dids[1]}","error_code":1005,"msg":"Device is not bound!"}}]}}}}'
        )
        for device in (foreign, mine):
            device.send(packet("04 01 17"))
            assert await device.silent()
        assert (await app.next())["data"]["did"] == dids[0]
        assert await app.silent()


async def test_v8_bare_raw_data(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with bound_device(cloud, user) as device, logged_in(cloud, user, token) as app:
        await app.send({"cmd": "c2s_raw", "data": {"did": device.device.did, "raw": [1, 1, 3]}})
        assert await device.received() == packet("00 00 00 03 06 00 00 90 01 01 03")


async def test_v10_two_sockets_of_one_user(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with (
        bound_device(cloud, user) as device,
        logged_in(cloud, user, token) as first,
        logged_in(cloud, user, token, p0_type="custom") as second,
    ):
        did = device.device.did
        device.send(bytes((Action.REPORT, 1, 23)))
        attrs = {"power": True, "mode": "制冷", "temp": 23}
        assert await first.next() == {"cmd": "s2c_noti", "data": {"did": did, "attrs": attrs}}
        raw = [0, 0, 0, 3, 6, 0, 0, 0x91, 4, 1, 23]
        assert json.loads(await second.text()) == {"cmd": "s2c_raw", "data": {"did": did, "raw": raw}}

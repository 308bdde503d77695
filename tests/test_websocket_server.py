"""The WebSocket server over real sockets: who gets in, how much may wait, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from support_apps import simulated_device
from support_cloud_mqtt import until
from support_tls import strict_client
from support_websocket import (
    app_socket,
    bound_device,
    logged_in,
    login_message,
    url_of,
    user_of,
    websocket_cloud,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from sim.cloud.app import EmbeddedCloud
from sim.cloud.errors import AddressError
from sim.cloud.websocket import WebSocketServer
from sim.cloud.websocket_messages import MAX_MESSAGE

PING = '{"cmd":"ping"}'
PONG = '{"cmd":"pong"}'
UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: m2m.gizwits.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n"
)


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with websocket_cloud() as running:
        yield running


def address_of(cloud: EmbeddedCloud, name: str = "ws") -> tuple[str, int]:
    host, _, port = cloud.addresses[name].rpartition(":")
    return host, int(port)


async def answer_to(cloud: EmbeddedCloud, request: str | bytes) -> str:
    """The head of the answer to a request that is written by hand."""
    reader, writer = await asyncio.open_connection(*address_of(cloud))
    writer.write(request.encode() if isinstance(request, str) else request)
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return head.decode()


# --- §1: the endpoint


async def test_the_port_is_told_to_apps(cloud: EmbeddedCloud) -> None:
    assert cloud.side.endpoints.ws == address_of(cloud)[1]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ws/app/v1", 400),
        ("/app", 200),
        ("/", 404),
        ("/ws/app/v1/", 404),
        ("/ws/app", 404),
        ("/ws/app/v2", 404),
        ("/app/", 404),
        ("/app/bindings", 404),
    ],
)
async def test_paths_without_upgrade(cloud: EmbeddedCloud, path: str, status: int) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(f"http://{cloud.addresses['ws']}{path}")
    assert answer.status_code == status


async def test_the_page_needs_nothing_from_elsewhere(cloud: EmbeddedCloud) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(f"http://{cloud.addresses['ws']}/app")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "/ws/app/v1" in answer.text
    assert not re.search(r"(src|href|url\()=?[\"']?\s*(https?:)?//", answer.text)
    assert not re.search(r"https?://", answer.text)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ws/app/v1", "", 101),
        ("/ws/app/v1?x=1", "", 101),
        ("/ws/app/v1", "Origin: https://somewhere.example\r\n", 101),
        ("/ws/app/v1", "Sec-WebSocket-Protocol: chat, superchat\r\n", 101),
        ("/ws/app/v1", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", 101),
        ("/ws/app/v1/", "", 404),
        ("/elsewhere", "", 404),
    ],
)
async def test_who_gets_in(cloud: EmbeddedCloud, path: str, headers: str, status: int) -> None:
    head = await answer_to(cloud, UPGRADE.format(path, headers))
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "sec-websocket-protocol" not in head.lower()
    if status == 101:
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head


@pytest.mark.parametrize(
    "request_text",
    [
        "POST /ws/app/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "GET /ws/app/v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        "GET /ws/app/v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\r\n",
        UPGRADE.format("/ws/app/v1", "").replace("Version: 13", "Version: 8"),
        UPGRADE.format("/ws/app/v1", "").replace("dGhlIHNhbXBsZSBub25jZQ==", "x"),
        "no HTTP\r\n\r\n",
        "GET /ws/app/v1 HTTP/1.1\r\nno header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
)
async def test_what_is_no_upgrade_is_a_bad_request(
    cloud: EmbeddedCloud, request_text: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await answer_to(cloud, request_text)).startswith("HTTP/1.1 400 ")
    async with app_socket(cloud) as app:
        assert "1003" in json.dumps(await app.ask(PING))
    assert not [record for record in caplog.records if record.exc_info]


async def test_no_subprotocol_is_selected(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with connect(url_of(cloud), subprotocols=["chat"], proxy=None) as connection:  # type: ignore[list-item]
        assert connection.subprotocol is None
        await connection.send(json.dumps(login_message(user, token)))
        assert json.loads(await connection.recv())["data"] == {"success": True}


async def test_protocol_pings_are_answered(cloud: EmbeddedCloud) -> None:
    async with app_socket(cloud) as app:
        async with asyncio.timeout(20):
            await (await app.connection.ping(b"once"))


async def test_a_binary_frame_is_as_good_as_text(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with app_socket(cloud) as app:
        await app.send(json.dumps(login_message(user, token)).encode())
        assert await app.text() == '{"cmd":"login_res","data":{"success":true}}'
        await app.send(b"\xff")
        assert (await app.next())["data"]["error_code"] == 1001


async def test_256_kib_are_a_message_and_no_more(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with logged_in(cloud, user, token) as app:
        text = '{"cmd":"ping","x":""}'
        await app.send(text.replace('""', '"' + "x" * (MAX_MESSAGE - len(text)) + '"'))
        assert await app.text() == PONG
        await app.send("x" * (MAX_MESSAGE + 1))
        assert await app.closed() == 1009


async def test_text_that_is_no_utf_8_closes(cloud: EmbeddedCloud) -> None:
    async with app_socket(cloud) as app:
        with contextlib.suppress(ConnectionClosed):
            await app.connection.send(b"\xff\xfe", text=True)
        assert await app.closed() == 1007


async def test_who_does_not_finish_the_handshake_is_dropped(cloud: EmbeddedCloud) -> None:
    server = WebSocketServer(cloud.sockets, clock=time.monotonic, open_time=0.05)
    address = await server.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /ws/app/v1 HTTP/1.1\r\n")
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await server.close()


async def test_an_address_in_use(cloud: EmbeddedCloud) -> None:
    server = WebSocketServer(cloud.sockets, clock=time.monotonic)
    host, port = address_of(cloud)
    with pytest.raises(AddressError, match=rf"{host}:{port}: it is in use .* --ws HOST:PORT"):
        await server.listen(host, port)
    with pytest.raises(AddressError, match="cannot listen"):
        await server.listen("no.such.host.invalid", 0)
    await server.close()


async def test_plain_and_tls_sockets_share_everything() -> None:
    async with websocket_cloud(wss="127.0.0.1:0") as cloud:
        assert cloud.tls is not None
        assert cloud.side.endpoints.wss == address_of(cloud, "wss")[1]
        user, token = user_of(cloud)
        url = f"wss://127.0.0.1:{cloud.side.endpoints.wss}/ws/app/v1"
        async with (
            bound_device(cloud, user) as device,
            app_socket(cloud, url=url, tls=strict_client(cloud.tls.ca_pem)) as secure,
            logged_in(cloud, user, token) as plain,
        ):
            await secure.login(user, token)
            device.send(b"\x04\x01\x17")
            assert await secure.text() == await plain.text()
            assert len(cloud.sockets) == 2


# --- pushes


async def test_the_server_pushes_without_a_request(cloud: EmbeddedCloud) -> None:
    """§12, seed FAQ 2."""
    user, token = user_of(cloud)
    async with bound_device(cloud, user) as device, logged_in(cloud, user, token) as app:
        for temp in (1, 2, 3):
            device.send(bytes((4, 1, temp)))
        for temp in (1, 2, 3):
            assert (await app.next())["data"]["attrs"]["temp"] == temp
        await device.client.close()
        assert (await app.next())["data"]["online"] is False


async def test_non_ascii_is_escaped_on_the_wire(cloud: EmbeddedCloud) -> None:
    """§2: the bytes themselves."""
    user, token = user_of(cloud)
    async with bound_device(cloud, user) as device:
        reader, writer = await asyncio.open_connection(*address_of(cloud))
        writer.write(UPGRADE.format("/ws/app/v1", "").encode())
        await reader.readuntil(b"\r\n\r\n")
        login = json.dumps(login_message(user, token)).encode()
        writer.write(bytes((0x81, 0x80 | 126)) + len(login).to_bytes(2, "big") + bytes(4) + login)
        assert await reader.readexactly(2 + 43) == b'\x81\x2b{"cmd":"login_res","data":{"success":true}}'
        device.send(b"\x04\x00\x17")
        first, length = await reader.readexactly(2)
        assert first == 0x81
        assert rb'"mode":"\u5236\u51b7"' in await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()


async def test_a_simulated_device_does_what_the_app_says(cloud: EmbeddedCloud) -> None:
    """App, cloud, module and MCU: the value comes back in the device's own report."""
    user, token = user_of(cloud)
    (known,) = cloud.products
    assert known.product is not None
    async with (
        simulated_device(cloud, known.product, temp=21),
        logged_in(cloud, user, token) as app,
    ):
        (did,) = cloud.hub.online
        device = cloud.side.device(did)
        cloud.side.bindings.bind(user.uid, device, "a1b2c3d4e5f60718293a4b5c6d7e8f90")
        assert (await app.next())["data"] == {"did": did, "bind": True}
        await app.send({"cmd": "c2s_read", "data": {"did": did}})
        read = await app.next()
        assert read["data"]["attrs"] == {"power": False, "mode": "制冷", "temp": 21}
        await app.send({"cmd": "c2s_write", "req_sn": 5, "data": {"did": did, "attrs": {"mode": "制热"}}})
        first, second = await app.next(), await app.next()
        assert {"cmd": "s2c_ack", "res_sn": 5, "did": did} in (first, second)
        noti = second if first["cmd"] == "s2c_ack" else first
        assert noti["data"]["attrs"] == {"power": False, "mode": "制热", "temp": 21}


async def test_http_control_is_pushed_like_any_other(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    headers = {"X-Gizwits-Application-Id": "a1b2c3d4e5f60718293a4b5c6d7e8f90", "X-Gizwits-User-token": token}
    async with (
        bound_device(cloud, user) as device,
        logged_in(cloud, user, token) as app,
        httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}", headers=headers) as http,
    ):
        did = device.device.did
        answer = await http.post(f"/app/control/{did}", json={"attrs": {"power": True}})
        assert answer.status_code == 200
        await app.send({"cmd": "c2s_write", "data": {"did": did, "attrs": {"power": False}}})
        assert [(await device.received())[-1] for _ in range(2)] == [1, 0]
        device.send(b"\x04\x01\x17")
        assert (await app.next())["data"]["attrs"]["power"] is True
        latest = (await http.get(f"/app/devdata/{did}/latest")).json()
        assert latest["attr"]["power"] == 1


# --- much at once


async def test_a_burst_is_answered_in_order(cloud: EmbeddedCloud) -> None:
    """More messages than may wait, and nobody reads before all are sent."""
    user, token = user_of(cloud)
    async with app_socket(cloud) as app:
        await app.send(login_message(user, token))
        for number in range(3000):
            await app.send(PING if number % 2 else '{"cmd":"x"}')
        assert (await app.next())["cmd"] == "login_res"
        for number in range(3000):
            assert (await app.text() == PONG) is bool(number % 2)


async def test_a_slow_reader_is_closed_and_holds_nobody_up(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address_of(cloud))
    async with (
        bound_device(cloud, user) as device,
        logged_in(cloud, user, token) as quick,
        app_socket(cloud, sock=sock, max_queue=1) as slow,
    ):
        await slow.login(user, token)
        # 4000 bytes of raw data make a message of about 16 kB; many are queued at once to save time.
        _, session = cloud.sockets
        count = 900
        for _ in range(count):
            session.push('"' + "x" * 16_000 + '"')
        while cloud.sockets.logged_in == 2:
            device.send(b"\x06" + b"\xff" * 4000)
            count += 1
            assert (await quick.next())["cmd"] == "s2c_raw"
        assert count > 1000
        assert session.close_code == 1008
        device.send(b"\x04\x01\x17")
        assert (await quick.next())["cmd"] == "s2c_noti"
        received = [message async for message in slow.messages()]
        assert slow.connection.close_code == 1008
        assert len(received) < count
    await until(lambda: len(cloud.sockets) == 0)


async def test_who_asks_and_does_not_read_is_not_served_further(cloud: EmbeddedCloud) -> None:
    """His own requests wait; he costs no memory, and his end is noticed."""
    async with app_socket(cloud, max_queue=1) as app:
        app.connection.transport.pause_reading()
        text = PING + " " * 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    await app.send(text)
        (session,) = cloud.sockets
        assert len(session.outgoing) <= 101
        assert session.close_code is None
        app.connection.transport.abort()
        await until(lambda: len(cloud.sockets) == 0)


async def test_a_message_of_endless_fragments_is_too_big(cloud: EmbeddedCloud) -> None:
    async def fragments() -> AsyncIterator[str]:
        for _ in range(10_000):
            yield ""

    async with app_socket(cloud) as app:
        with contextlib.suppress(ConnectionClosed):
            await app.connection.send(fragments())
        assert await app.closed() == 1009


async def test_who_reads_no_pongs_has_no_pings_read(cloud: EmbeddedCloud) -> None:
    """What waits for a client is bounded, whatever it sends."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, address_of(cloud))
        await loop.sock_sendall(sock, UPGRADE.format("/ws/app/v1", "").encode())
        await until(lambda: len(cloud.sockets) == 1)
        pings = 400 * (bytes((0x89, 0x80 | 125)) + bytes(4) + bytes(125))
        for _ in range(400):
            try:
                async with asyncio.timeout(0.3):
                    await loop.sock_sendall(sock, pings)
            except TimeoutError:
                break
        else:
            pytest.fail("20 MB of pings were read")
    await until(lambda: len(cloud.sockets) == 0)


# --- the end


async def test_a_session_that_is_closed_says_first_what_it_has_to_say(cloud: EmbeddedCloud) -> None:
    async with app_socket(cloud) as app:
        (session,) = cloud.sockets
        session.push(PONG)
        session.close(1000, "no heartbeat")
        assert await app.text() == PONG
        assert await app.closed() == 1000
        assert app.connection.close_reason == "no heartbeat"


async def test_sessions_end_with_their_sockets(cloud: EmbeddedCloud) -> None:
    user, token = user_of(cloud)
    async with bound_device(cloud, user):
        for is_rude in (False, True):
            async with logged_in(cloud, user, token) as app:
                assert (len(cloud.sockets), cloud.sockets.logged_in) == (1, 1)
                if is_rude:
                    app.connection.transport.abort()
            await until(lambda: len(cloud.sockets) == 0)
            assert cloud.sockets.logged_in == 0


async def test_a_lost_session_over_the_socket(cloud: EmbeddedCloud) -> None:
    """§10-4: the socket stays, and the client logs in again."""
    user, token = user_of(cloud)
    async with logged_in(cloud, user, token) as app:
        assert cloud.sockets.lose(user.uid) == 1
        assert (await app.next())["data"]["error_code"] == 1009
        assert (await app.ask(PING))["data"]["error_code"] == 1003
        await app.login(user, token)
        assert await app.silent()


async def test_the_cloud_stops_at_once() -> None:
    async with contextlib.AsyncExitStack() as clients:
        async with websocket_cloud(wss="127.0.0.1:0") as cloud:
            user, token = user_of(cloud)
            app = await clients.enter_async_context(logged_in(cloud, user, token))
            for name in ("ws", "wss"):
                _, writer = await asyncio.open_connection(*address_of(cloud, name))
                clients.callback(writer.close)
            begun = asyncio.get_running_loop().time()
        assert await app.closed() == 1001
        assert asyncio.get_running_loop().time() - begun < 4
